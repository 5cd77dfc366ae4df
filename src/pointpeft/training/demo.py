"""The demonstration: adapt the embedded backbone to embedded shapes by every method, compare."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pointpeft.errors import PointPeftError
from pointpeft.files import write_json
from pointpeft.measure.records import output_folder
from pointpeft.measure.report import read_run, write_report

__all__ = ["METHODS", "run_demo"]

METHODS = ("linear", "full", "point-peft")
"""Tuning methods that are compared, in this order."""
REPORT = "report.html"
"""Name of the page, of each run and of all together."""


@dataclass(frozen=True)
class _Budget:
    """How long the parts of the demonstration run."""

    epochs: int
    seeds: int


_FULL = _Budget(epochs=12, seeds=3)
_QUICK = _Budget(epochs=2, seeds=1)
_CHECK = (
    "This is a quick check that everything works: {epochs} epochs, {seeds} seed. Its numbers "
    "mean nothing; those of the whole demonstration do."
)


def run_demo(
    output: str | Path, quick: bool, seed: int, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Adapt the embedded backbone to homeobjects by each method.

    Every method is a command in a process of its own, so that its peak memory is its own.

    Args:
        output: folder for all runs, ``comparison.json`` and ``report.html``.
        quick: a run of a minute or two that checks that everything works.
        seed: of the first repetition.
        report: called with a line before each step.

    Returns:
        The metrics of each method, in the order of :data:`METHODS`.
    """
    output, budget = output_folder(output), _QUICK if quick else _FULL
    _check_same_budget(output, asdict(budget) | {"seed": seed})
    rows = []
    for method in METHODS:
        report(f"adapting by {method}, seeds: {budget.seeds}")
        folder = output / method
        if not (folder / REPORT).is_file():  # the last thing that a run writes
            _command(
                "finetune", folder, f"--method={method}", "--data=homeobjects",
                f"--epochs={budget.epochs}", f"--seed={seed}", f"--seeds={budget.seeds}",
            )  # fmt: skip
        rows.append(json.loads((folder / "metrics.json").read_text()))
    write_json(output / "comparison.json", {"methods": rows})
    runs = [read_run(output / method) for method in METHODS]
    warning = _CHECK.format(**asdict(budget)) if quick else ""
    write_report(output / REPORT, "Three ways to adapt a backbone", runs, warning)
    return rows


def _check_same_budget(output: Path, budget: dict[str, int]) -> None:
    """Go on with an interrupted demonstration of the same kind only."""
    note = output / "demo.json"
    if note.is_file() and json.loads(note.read_text()) != budget:
        raise PointPeftError(
            f"{output} holds a demonstration of another length or seed; remove it, or name "
            "another `output`"
        )
    write_json(note, budget)


def _command(verb: str, folder: Path, *arguments: str) -> None:
    """Run a command of this package; one that was interrupted before goes on."""
    resume = ["--resume"] if (folder / "config.yaml").is_file() else []
    command = [sys.executable, "-m", "pointpeft", verb, f"--output={folder}", *arguments, *resume]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise PointPeftError(f"`pointpeft {verb}` failed; its messages are above")
