"""Writing the page: a template, its style and script, a plotting library, and the data."""

import html
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from pointpeft.evaluation.report.runs import ANALYSIS, ReportRun, read_run
from pointpeft.evaluation.report.summary import data_name, summary
from pointpeft.files import replacing

__all__ = ["REPORT", "write_report", "write_run_report"]

REPORT = "report.html"
"""Name of the page in a run folder."""


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
        runs: what it tells of, in this order.
        warning: what a reader must know before all else, if there is such a thing.

    Raises:
        ValueError: there is no run to report.
    """
    if not runs:
        raise ValueError("runs is empty: a report needs at least one")
    from plotly.offline import get_plotlyjs  # slow to import, and only reports need it

    content = {
        "summary": summary(runs),
        "runs": [{key: getattr(run, key) for key in run.__dataclass_fields__} for run in runs],
    }
    page = Template(_part("template.html")).substitute(
        title=html.escape(title),
        warning=f'<p class="warning">{html.escape(warning)}</p>' if warning else "",
        style=_part("report.css"),
        library=get_plotlyjs(),
        data=_json(content).replace("<", "\\u003c"),  # no text can end the element that holds it
        script=_part("mistakes.js") + _part("report.js"),
    )
    _write(Path(path), page)
    return Path(path)


def _part(name: str) -> str:
    return files("pointpeft.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Without the numbers that JSON does not know: a browser refuses to read them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
