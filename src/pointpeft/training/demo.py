"""The demonstration: adapt the embedded backbone to embedded shapes by every method, compare."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pointpeft.errors import ConfigError, PointPeftError
from pointpeft.files import write_json
from pointpeft.measure.records import output_folder
from pointpeft.measure.report import read_run, write_report
from pointpeft.measure.report.page import REPORT

__all__ = ["EPOCHS", "METHODS", "REPORT", "run_demo"]

METHODS = ("svm", "lda", "linear", "full", "point-peft")
"""Tuning methods that are compared, in this order."""
EPOCHS = {"homeobjects": 12, "mechparts": 4}
"""Embedded sets that they can be compared on, and epochs of those that are trained on each."""


def run_demo(
    output: str | Path,
    quick: bool,
    seed: int,
    report: Callable[[str], None],
    data: str = "homeobjects",
) -> list[dict[str, Any]]:
    """Adapt the embedded backbone to an embedded set by each method.

    Every method is a command in a process of its own, so that its peak memory is its own.

    Args:
        output: folder for all runs, ``comparison.json`` and ``report.html``.
        quick: a run of a minute or two that checks that everything works.
        seed: of the first repetition.
        report: called with a line before each step.
        data: one of :data:`EPOCHS`.

    Returns:
        The metrics of each method, in the order of :data:`METHODS`.

    Raises:
        ConfigError: there is no such set.
        PointPeftError: a command failed, or the folder holds another demonstration.
    """
    if data not in EPOCHS:
        raise ConfigError(f"`data` must be one of {', '.join(EPOCHS)}, got {data!r}")
    output = output_folder(output)
    epochs, seeds = (2, 1) if quick else (EPOCHS[data], 3)
    _check_same_budget(output, {"data": data, "epochs": epochs, "seeds": seeds, "seed": seed})
    rows = []
    for method in METHODS:
        report(f"adapting by {method}, seeds: {seeds}")
        folder = output / method
        if not (folder / REPORT).is_file():  # the last thing that a run writes
            _command(
                "finetune", folder, f"--method={method}", f"--data={data}",
                f"--epochs={epochs}", f"--seed={seed}", f"--seeds={seeds}",
            )  # fmt: skip
        rows.append(json.loads((folder / "metrics.json").read_text()))
    write_json(output / "comparison.json", {"methods": rows})
    runs = [read_run(output / method) for method in METHODS]
    warning = (
        f"This is a quick check that everything works: {epochs} epochs, {seeds} seed. Its numbers "
        "mean nothing; those of the whole demonstration do."
    )
    title = "Five ways to adapt a backbone"
    write_report(output / REPORT, title, runs, warning if quick else "")
    return rows


def _check_same_budget(output: Path, budget: dict[str, Any]) -> None:
    """Go on with an interrupted demonstration of the same kind only."""
    note = output / "demo.json"
    if note.is_file() and json.loads(note.read_text()) != budget:
        raise PointPeftError(
            f"{output} holds a demonstration of other data, length or seed; remove it, or name "
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
