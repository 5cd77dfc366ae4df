"""What a report says of one run, read from the run's folder."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointpeft.method_names import display_name

__all__ = ["ANALYSIS", "ReportRun", "is_segmentation", "read_run"]

ANALYSIS = "analysis.json"
"""Name of the file, in a run folder, of what the page shows beside the metrics."""


@dataclass(frozen=True)
class ReportRun:
    """A run, or the measurement of an adapter.

    Attributes:
        name: how tables and headings call it: the method as people write it.
        metrics: content of ``metrics.json``.
        histories: rows of ``metrics.csv`` by the seed's label; empty if nothing was trained.
        analysis: from :func:`pointpeft.measure.analysis.analyse`, if it was made.
        config: text of ``config.yaml``, if there is one.
        best_epochs: number of the epoch that was kept, from 1, by the seed's label.
    """

    name: str
    metrics: dict[str, Any]
    histories: dict[str, list[dict[str, float | None]]] = field(default_factory=dict)
    analysis: dict[str, Any] | None = None
    config: str | None = None
    best_epochs: dict[str, int] = field(default_factory=dict)


def read_run(folder: str | Path) -> ReportRun:
    """What there is in a run folder, or in the output folder of an evaluation.

    Raises:
        FileNotFoundError: it holds no ``metrics.json``.
    """
    folder = Path(folder)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    method = metrics.get("method")
    seeds = _seed_folders(folder, metrics)
    analysis, config = folder / ANALYSIS, folder / "config.yaml"
    return ReportRun(
        name=display_name(method) if method else folder.resolve().name,
        metrics=metrics,
        histories=_histories(seeds),
        analysis=json.loads(analysis.read_text(encoding="utf-8")) if analysis.is_file() else None,
        config=config.read_text(encoding="utf-8") if config.is_file() else None,
        best_epochs=_best_epochs(seeds),
    )


def is_segmentation(metrics: dict[str, Any]) -> bool:
    """Whether parts were found, not classes."""
    return metrics.get("task") == "part_segmentation"


def _seed_folders(folder: Path, metrics: dict[str, Any]) -> dict[str, Path]:
    """Folders of a run's seeds by their labels: of one seed it is the run's."""
    if seeds := metrics.get("seeds"):
        return {f"seed {seed}": folder / f"seed{seed}" for seed in seeds}
    return {f"seed {metrics.get('seed')}": folder}


def _histories(seeds: dict[str, Path]) -> dict[str, list[dict[str, float | None]]]:
    files = {label: folder / "metrics.csv" for label, folder in seeds.items()}
    return {label: _rows(file) for label, file in files.items() if file.is_file()}


def _best_epochs(seeds: dict[str, Path]) -> dict[str, int]:
    found: dict[str, int] = {}
    for label, folder in seeds.items():
        file = folder / "metrics.json"
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if content.get("best_epoch") is not None:
            found[label] = int(content["best_epoch"])
    return found


def _rows(file: Path) -> list[dict[str, float | None]]:
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return [{key: float(value) if value else None for key, value in row.items()} for row in rows]
