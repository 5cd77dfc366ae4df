"""Results of a comparison: a row for each method, tables of rows that can be held together."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.files import as_text, file_name, replacing, write_json
from pointpeft.formats import count, counted, human_bytes, mean_and_spread, percent, seconds
from pointpeft.measure.paired import holm, paired_p_values
from pointpeft.tasks.shown import Shown
from pointpeft.tasks.table import find_task

__all__ = [
    "COLUMNS",
    "Row",
    "as_markdown",
    "judge",
    "make_row",
    "read_rows",
    "row_cells",
    "shown",
    "table_title",
    "tables",
    "write_results",
]

Row = dict[str, Any]

_LEVEL = 0.05
"""P-value below which a difference is beyond chance."""
_PER_SHAPE = "scores"
_ROWS = "rows"
"""Folder of rows as single files."""
_DIGITS = 8
"""Of the hash of weights that tell one backbone from another."""


def make_row(labels: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Row:
    """One row, of the runs with all seeds.

    Args:
        labels: ``data``, ``model``, ``method``, ``shots`` (None: all), ``lr`` (None: there is
            none), ``lr_search``, the validation score by learning rate, and the ``precision`` of
            training (None: nothing is trained step by step).
        cells: of each run its metrics, ``test_scores``, ``test_shapes``, a hash of these shapes,
            and the identity of the frozen ``weights``.

    Returns:
        The labels; the ``task`` and the ``metric`` that it is judged by; ``seeds``; ``test_score``
        and ``val_score``, means, and ``test_score_std``, None of a single seed; the begin of the
        identity of the frozen ``weights``; ``trainable_parameters``; ``stored_bytes``;
        ``seconds_per_epoch``, ``epochs`` and ``seconds_per_step`` of what is trained, and
        ``fit_seconds`` of what is fitted, else None; ``training_seconds`` of a whole run, of both;
        ``peak_memory_bytes``, the largest; ``test_items`` and ``test_shapes``; and ``scores``, of
        each test shape the mean over seeds.
    """
    first = cells[0]
    per_epoch, fit = (_median(cells, key) for key in ("seconds_per_epoch", "fit_seconds"))
    epochs = None if per_epoch is None else _median(cells, "epochs")
    trained = None if per_epoch is None or epochs is None else per_epoch * epochs
    steps = _median(cells, "steps_per_epoch")
    task = find_task(first["task"])
    test = [cell[f"test_{task.headline}"] for cell in cells]
    return {
        **labels,
        "data_title": first.get("data_title"),
        "task": task.name,
        "metric": task.label,
        "seeds": [cell["seed"] for cell in cells],
        "test_score": float(np.mean(test)),
        "test_score_std": float(np.std(test, ddof=1)) if len(test) > 1 else None,
        "test_score_per_seed": test,
        "val_score": _mean(cells, f"val_{task.headline}"),
        "weights": first["weights"][:_DIGITS],
        "trainable_parameters": first["trainable_parameters"],
        "stored_bytes": first["stored_bytes"],
        "epochs": epochs,
        "seconds_per_epoch": per_epoch,
        "seconds_per_step": None if per_epoch is None or not steps else per_epoch / steps,
        "fit_seconds": fit,
        "training_seconds": _sum(fit, trained),
        "peak_memory_bytes": max(cell["peak_memory_bytes"] for cell in cells),
        "train_items": first["train_items"],
        "test_items": first["test_items"],
        "test_shapes": first["test_shapes"],
        "versions": first["versions"],
        _PER_SHAPE: np.mean([cell["test_scores"] for cell in cells], axis=0).round(6).tolist(),
    }


def _sum(*seconds: float | None) -> float | None:
    known = [each for each in seconds if each is not None]
    return sum(known) if known else None


def _mean(cells: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [cell[key] for cell in cells if cell.get(key) is not None]
    return float(np.mean(values)) if values else None


def _median(cells: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [cell[key] for cell in cells if cell.get(key) is not None]
    return float(np.median(values)) if values else None


def tables(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that were measured on the same test shapes after the same number of shots, best first.

    Of equally good ones the one that validates best stands first.
    Tables stand in the order in which their first rows are given.
    """
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        of = row["data"], row["metric"], row["test_shapes"], row["shots"]
        found.setdefault(of, []).append(row)
    return [sorted(table, key=_rank) for table in found.values()]


def _rank(row: Row) -> tuple[float, float, str]:
    return -row["test_score"], -(row["val_score"] or 0.0), row["method"]


def judge(rows: Sequence[Row]) -> list[Row]:
    """The rows, table by table, with what the paired test says of them.

    Each is held to the best one of its table by :func:`paired_p_values`, adjusted by :func:`holm`
    for all pairs of the table: which row is the best one is found on the same shapes.

    Returns:
        With ``p_to_best``, None of the best one itself, and ``verdict``: "best", "no difference to
        the best" or "below the best".
    """
    judged = []
    for best, *others in tables(rows):
        pairs = len(others) * (len(others) + 1) // 2
        draws = max(20_000, 100 * pairs)  # so that the smallest p-value can still be adjusted
        found = holm(paired_p_values([row[_PER_SHAPE] for row in (best, *others)], draws))
        # Pairs with the first row, the best one, come first.
        judged.append({**best, "p_to_best": None, "verdict": "best"})
        for row, p in zip(others, found[: len(others)], strict=True):
            verdict = "below the best" if p < _LEVEL else "no difference to the best"
            judged.append({**row, "p_to_best": p, "verdict": verdict})
    return judged


# As text -----------------------------------------------------------------------------------------

COLUMNS = (
    "method", "model", "weights", "test", "against the best", "validation", "lr", "trainable",
    "stored", "seconds", "seconds per step", "peak memory", "seeds",
)  # fmt: skip
"""Headings of :func:`row_cells`; the seconds are those of a whole training, and of a step of it."""


def row_cells(row: Row) -> tuple[str, ...]:
    """A judged row as people read it."""
    p = row["p_to_best"]
    return (
        row["method"],
        row["model"],
        row["weights"],
        mean_and_spread(row["test_score"], row["test_score_std"]),
        row["verdict"] if p is None else f"{row['verdict']} (p = {p:.2g})",
        percent(row["val_score"]),
        _rates(row),
        count(row["trainable_parameters"]),
        human_bytes(row["stored_bytes"]),
        seconds(row["training_seconds"]),
        "-" if (of_step := row.get("seconds_per_step")) is None else f"{of_step:.2g}",
        human_bytes(row["peak_memory_bytes"]),
        str(len(row["seeds"])),
    )


def _rates(row: Row) -> str:
    """The learning rate, and what it was chosen from."""
    if row["lr"] is None:
        return "-"
    tried = ", ".join(f"{float(rate):.2g}" for rate in row["lr_search"])
    return f"{row['lr']:.2g} ({f'of {tried}' if tried else '1 rate'})"


def table_title(table: Sequence[Row]) -> str:
    """Data, shots, test shapes and metric of a table."""
    first = table[0]
    shots = "all training shapes"
    if first["shots"] is not None:
        shots = f"{counted(first['shots'], 'training shape')} of each class"
    name = first["data_title"] or first["data"]
    return f"{name}, {shots}, {counted(first['test_items'], 'test shape')}: {first['metric']}"


def shown(table: Sequence[Row]) -> Shown:
    """A table of judged rows for the terminal."""
    return Shown(COLUMNS, [row_cells(row) for row in table])


def as_markdown(rows: Sequence[Row]) -> str:
    """Judged rows in Markdown: a heading and a table for all that can be held together."""
    columns, parts = (*COLUMNS, "epochs", "precision"), list[str]()
    for table in tables(rows):
        lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for row in table:
            epochs = "-" if row["epochs"] is None else f"{row['epochs']:g}"
            cells = (*row_cells(row), epochs, row["precision"] or "-")
            lines.append(f"| {' | '.join(cells)} |")
        parts += [f"## {table_title(table)}", "\n".join(lines)]
    return "\n\n".join(parts)


# Files -------------------------------------------------------------------------------------------


def write_results(output: str | Path, results: Mapping[str, Any]) -> None:
    """Write ``results.json``, ``results.csv`` and, as single files below ``rows``, the rows.

    Rows of an earlier result that are not among these are removed.

    Args:
        output: folder.
        results: ``rows``, judged, and whatever is to stand beside them in the JSON.
    """
    output = Path(output)
    write_json(output / "results.json", results)
    rows = results["rows"]
    names = [key for key in (rows[0] if rows else {}) if not _is_nested(rows, key)]
    with (
        replacing(output / "results.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            shots = "all" if row["shots"] is None else row["shots"]
            writer.writerow(as_text({**row, "shots": shots}))
    named = {f"{_name(row)}.json": row for row in rows}
    for old in (output / _ROWS).glob("*.json"):
        if old.name not in named:
            old.unlink()
    for name, row in named.items():
        own = {key: row[key] for key in row if key not in ("p_to_best", "verdict")}  # of a table
        write_json(output / _ROWS / name, own)


def read_rows(folder: str | Path) -> list[Row]:
    """Rows that lie in a folder as single files, and in folders ``rows`` below it."""
    found = {*Path(folder).glob("*.json"), *Path(folder).glob("*/**/rows/*.json")}
    files = sorted(found, key=lambda file: (file.name, file))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _is_nested(rows: Sequence[Row], key: str) -> bool:
    return any(isinstance(row[key], dict | list) for row in rows)


def _name(row: Row) -> str:
    shots = "all" if row["shots"] is None else f"{row['shots']}shot"
    return file_name("-".join((row["data"], row["model"], row["method"], shots)))
