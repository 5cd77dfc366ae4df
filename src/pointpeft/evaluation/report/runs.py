"""What a report says of one run, read from the run's folder."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointpeft.method_names import display_name

__all__ = ["ANALYSIS", "ReportRun", "read_run"]

ANALYSIS = "analysis.json"
"""Name of the file, in a run folder, of what the page shows beside the metrics."""


@dataclass(frozen=True)
class ReportRun:
    """A run, or the measurement of an adapter.

    Attributes:
        name: how tables and headings call it: the method as people write it.
        metrics: content of ``metrics.json``.
        histories: rows of ``metrics.csv`` by the seed's label; empty if nothing was trained.
        analysis: from :func:`pointpeft.evaluation.analysis.analyse`, if it was made.
        config: text of ``config.yaml``, if there is one.
    """

    name: str
    metrics: dict[str, Any]
    histories: dict[str, list[dict[str, float | None]]] = field(default_factory=dict)
    analysis: dict[str, Any] | None = None
    config: str | None = None


def read_run(folder: str | Path) -> ReportRun:
    """What there is in a run folder, or in the output folder of an evaluation.

    Raises:
        FileNotFoundError: it holds no ``metrics.json``.
    """
    folder = Path(folder)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    method = metrics.get("method")
    analysis, config = folder / ANALYSIS, folder / "config.yaml"
    return ReportRun(
        name=display_name(method) if method else folder.resolve().name,
        metrics=metrics,
        histories=_histories(folder, metrics),
        analysis=json.loads(analysis.read_text(encoding="utf-8")) if analysis.is_file() else None,
        config=config.read_text(encoding="utf-8") if config.is_file() else None,
    )


def _histories(folder: Path, metrics: dict[str, Any]) -> dict[str, list[dict[str, float | None]]]:
    seeds = metrics.get("seeds")
    files = {f"seed {seed}": folder / f"seed{seed}" / "metrics.csv" for seed in seeds or ()}
    if not seeds:
        files = {f"seed {metrics.get('seed')}": folder / "metrics.csv"}
    return {label: _rows(file) for label, file in files.items() if file.is_file()}


def _rows(file: Path) -> list[dict[str, float | None]]:
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return [{key: float(value) if value else None for key, value in row.items()} for row in rows]
