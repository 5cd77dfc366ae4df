"""One page about a comparison, to be opened in a browser."""

from collections.abc import Sequence
from pathlib import Path

from pointpeft.formats import counted, enumerate_names, percent
from pointpeft.measure.comparison_rows import COLUMNS, Row, row_cells, table_title, tables
from pointpeft.measure.report.comparison_figures import accuracy_against, accuracy_by_shots
from pointpeft.measure.report.figures import Figure
from pointpeft.measure.report.rendering import write_page

__all__ = ["PAGE", "write_comparison_page"]

PAGE = "compare.html"
"""Name of the page in the folder of a comparison."""

_COSTS = (
    ("trainable_parameters", "Score against trainable parameters", "trainable parameters"),
    ("training_seconds", "Score against the time of training", "seconds of a whole training"),
)
_NOTES = (
    "Test scores are means over seeds, with their standard deviation. All that is "
    "trained had equal epochs.",
    "Against the best: a paired permutation test over the test shapes of the table, adjusted for "
    "all pairs of methods by Holm's method. Where it says no difference, other test shapes could "
    "as well have put the two the other way round. It does not know what other training shapes "
    "would do.",
    "A training is timed without validation. A method that trains nothing is at the left end of "
    "the axis of parameters.",
)


def write_comparison_page(path: str | Path, rows: Sequence[Row]) -> Path:
    """Write the page, which needs no other file and no network.

    Args:
        path: the page.
        rows: judged ones, see :func:`pointpeft.measure.comparison_rows.judge`; at least one.
    """
    drawn = [
        {"title": table_title(table), "rows": list(map(row_cells, table)), "figures": _costs(table)}
        for table in tables(rows)
    ]
    return write_page(
        path,
        "comparison.html",
        title="Methods compared",
        summary=_summary(rows),
        columns=COLUMNS,
        tables=drawn,
        by_shots=_by_shots(rows),
        notes=(*_rates(rows), *_NOTES),
    )


def _rates(rows: Sequence[Row]) -> list[str]:
    """How the learning rates of what is trained were chosen, if anything is."""
    tried = {max(len(row["lr_search"]), 1) for row in rows if row["lr"] is not None}
    if not tried:
        return []
    if tried == {1}:
        return ["Each method has one learning rate; no other was tried."]
    if len(tried) > 1:
        return ["Not all methods had as many learning rates to be chosen from: see the table."]
    return [
        "The learning rate of each method was chosen by the validation score with the first seed, "
        f"among {tried.pop()} multiples of the method's own rate."
    ]


def _costs(table: Sequence[Row]) -> list[tuple[str, Figure]]:
    drawn = [(title, accuracy_against(table, key, axis)) for key, title, axis in _COSTS]
    return [(title, figure) for title, figure in drawn if figure is not None]


def _by_shots(rows: Sequence[Row]) -> list[tuple[str, Figure]]:
    found = []
    for data in dict.fromkeys(row["data"] for row in rows):
        figure = accuracy_by_shots([row for row in rows if row["data"] == data])
        if figure is not None:
            found.append((f"{data}: score by the number of training shapes", figure))
    return found


def _summary(rows: Sequence[Row]) -> str:
    """Which method is the best of each table, and which ones are as good, in words."""
    said = []
    for table in tables(rows):
        best = table[0]
        equal = [row["method"] for row in table[1:] if row["verdict"].startswith("no")]
        also = f"; no difference to {enumerate_names(equal)}" if equal else ""
        said.append(
            f"{table_title(table)}: of {counted(len(table), 'row')} {best['method']} on "
            f"{best['model']} is the best, {percent(best['test_score'])}{also}."
        )
    return " ".join(said)
