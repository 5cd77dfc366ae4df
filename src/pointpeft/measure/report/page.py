"""Writing the page: a template, its style and script, a plotting library, and the figures."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pointpeft.files import replacing
from pointpeft.measure.report.class_page import describe_classes
from pointpeft.measure.report.figures import run_colour
from pointpeft.measure.report.part_page import describe_parts
from pointpeft.measure.report.run_page import ANALYSIS, ReportRun, is_segmentation, read_run
from pointpeft.measure.report.summary_page import data_name, summary
from pointpeft.measure.report.tables import (
    curves,
    kept_epochs,
    results_notes,
    results_table,
)

__all__ = ["REPORT", "write_report", "write_run_report"]

REPORT = "report.html"
"""Name of the page in a run folder."""
_SHOWN_FIRST = "point-peft"
"""The method whose details a page with several begins with, if it is one of them."""


def write_run_report(folder: str | Path, analysis: dict[str, Any]) -> Path:
    """Add ``analysis.json`` and ``report.html`` to a folder that holds ``metrics.json``.

    Returns:
        The page.
    """
    folder = Path(folder)
    _write(folder / ANALYSIS, _json(analysis))
    run = read_run(folder)
    return write_report(folder / REPORT, f"{run.name} on {data_name(run.metrics)}", [run])


def write_report(
    path: str | Path, title: str, runs: Sequence[ReportRun], warning: str = ""
) -> Path:
    """Write a page about ``runs`` that needs no other file and no network.

    Args:
        path: the page.
        title: its heading.
        runs: what it tells of, in this order; all of the same task.
        warning: what a reader must know before all else, if there is such a thing.

    Raises:
        ValueError: there is no run to report.
    """
    if not runs:
        raise ValueError("runs is empty: a report needs at least one")
    from jinja2 import Environment  # slow to import, as is Plotly, and only reports need them
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["script_json"] = _script_json
    page = environment.from_string(_part("template.html")).render(
        title=title,
        warning=warning,
        summary=summary(runs),
        results=results_table(runs),
        notes=results_notes(runs),
        curves=curves(runs),
        kept=kept_epochs(runs),
        runs=[(run.name, run_colour(place)) for place, run in enumerate(runs)],
        shown=next((i for i, r in enumerate(runs) if r.metrics["method"] == _SHOWN_FIRST), 0),
        details=[_details(run) for run in runs],
        settings=_settings(runs),
        style=_part("report.css"),
        script=_part("report.js"),
        library=get_plotlyjs(),
    )
    _write(Path(path), page)
    return Path(path)


def _details(run: ReportRun) -> dict[str, Any]:
    """What the template calls ``classes`` or ``parts``."""
    if is_segmentation(run.metrics):
        return {"parts": describe_parts(run)}
    return {"classes": describe_classes(run)}


def _settings(runs: Sequence[ReportRun]) -> dict[str, str | list[str]]:
    """Texts and lists that a reader may unfold, by their titles."""
    found: dict[str, str | list[str]] = {
        "Settings" if len(runs) == 1 else f"{run.name}: settings": run.config
        for run in runs
        if run.config
    }
    versions = runs[0].metrics.get("versions", {})
    found["Versions"] = [f"{name} {version}" for name, version in versions.items()]
    for key, title in (("notes", "Notes on the data"), ("skipped", "Skipped files")):
        items = list(dict.fromkeys(text for run in runs for text in run.metrics.get(key, ())))
        found[f"{title} ({len(items)})"] = items
    return found


def _part(name: str) -> str:
    return files("pointpeft.measure.report").joinpath(name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _script_json(value: Any) -> Any:
    """JSON within an element of the page; no text in it can end the element."""
    from markupsafe import Markup

    return Markup(_json(value).replace("<", "\\u003c"))


def _json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Without the numbers that JSON does not know: a browser refuses to read them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
