"""Runs a grid of methods, backbones, data sets and numbers of shapes, and sums it up."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from pointpeft.data.prepared_items import Problem
from pointpeft.data.shapes import absolute_source
from pointpeft.errors import ConfigError, DataError
from pointpeft.files import file_name
from pointpeft.formats import counted, percent
from pointpeft.measure.comparison_rows import Row, judge, make_row, write_results
from pointpeft.measure.records import versions
from pointpeft.measure.report.comparison_page import PAGE, write_comparison_page
from pointpeft.tasks.table import find_task
from pointpeft.training.cells import (
    Cell,
    Inputs,
    lost_shapes,
    note_failure,
    read_cell,
    read_failure,
    read_others,
)
from pointpeft.training.config import FinetuneConfig
from pointpeft.training.config_files import load_config
from pointpeft.training.grid import Comparison, backbone_label, data_label, split_method
from pointpeft.training.parallel import Engine, find_engine
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.run_folder import RunFolder

__all__ = ["compare"]

log = logging.getLogger("pointpeft")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Group:
    """What one row of the results is about.

    Attributes:
        labels: ``data``, ``model``, ``method`` and ``shots`` of the row.
        config: of its runs, with the method's learning rate.
        fitted: whether the method has no learning rate to choose.
        folder: of all of its runs.
        inputs: what its runs read.
    """

    labels: dict[str, Any]
    config: FinetuneConfig
    fitted: bool
    folder: Path
    inputs: Inputs | None = None

    @property
    def precision(self) -> str | None:
        """Of training; None: nothing is trained step by step."""
        return None if self.fitted else self.config.trainer.precision

    def factors(self, asked: Sequence[float]) -> Sequence[float]:
        """Factors of the learning rate to choose from."""
        return (1.0,) if self.fitted else asked

    def cell(self, factor: float, seed: int) -> Cell:
        """The run with a seed and a factor."""
        lr, shots = self.config.optimizer.lr, self.labels["shots"]
        assert lr is not None
        config = replace(
            self.config, seed=seed, optimizer=replace(self.config.optimizer, lr=factor * lr)
        )
        place = f"seed{seed}" if self.fitted else f"lr{factor:g}/seed{seed}"
        of_rate = "" if self.fitted else f", lr {factor * lr:g}"
        of_shots = "" if shots is None else f", {counted(shots, 'shot')}"
        name = (
            f"{self.labels['method']} on {self.labels['model']}, {self.labels['data']}"
            f"{of_shots}{of_rate}, seed {seed}"
        )
        return Cell(config, shots, self.folder / place, name, self.inputs)


def compare(
    comparison: Comparison,
    output: str | Path,
    *,
    resume: bool = False,
    jobs: int = 1,
    engine: str = "processes",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a comparison and write its results.

    Each run is a folder as :func:`pointpeft.finetune` writes it, but for the report, in
    ``<output>/<data>/<model>/<method>/<shots>/lr<factor>/seed<N>``; fitted methods have no
    ``lr<factor>``. One that fails leaves ``failure.json`` there, and the others go on.

    New processes import the module that the caller runs as a program: there, keep the call below
    ``if __name__ == "__main__":``.

    Args:
        comparison: what is compared.
        output: folder for ``results.csv``, ``results.json``, ``compare.html``, ``rows/`` and runs.
        resume: go on with the comparison in ``output``: finished runs are not repeated, unless the
            data or the weights have changed. The lists may be others, the settings may not.
        jobs: runs at a time, each in a process of its own with one thread. With Ray, runs that
            share a GPU.
        engine: "processes" or "ray".
        progress: called with the name of a run that has ended, and (done, total).

    Returns:
        What ``results.json`` holds: ``rows`` (:func:`pointpeft.measure.comparison_rows.make_row`),
        ``failures`` and ``versions``.

    Raises:
        ConfigError: settings that cannot be had, or ``output`` holds results already.
        DataError: unusable data, without a validation or test split, or too few shapes of a class;
            or one cannot be read that was not unreadable when runs began.
        CheckpointError: weights that do not fit.
    """
    if jobs < 1:
        raise ConfigError(f"`jobs` must be at least 1, got {jobs}")
    run_all, base = find_engine(engine), _shared(comparison.settings)
    comparison.check_sources()
    groups = _groups(comparison, Path(output).resolve())
    run = RunFolder(output)
    run.prepare(base, resume)
    if resume and (begun := load_config(FinetuneConfig, [run.config]).trainer.epochs) != (
        base.trainer.epochs
    ):
        raise ConfigError(
            f"{run.path} was begun with trainer.epochs={begun}, not {base.trainer.epochs}, and all "
            "runs of a comparison have the same; name another `output`"
        )
    groups = _with_inputs(groups, comparison)
    run.begin(base)
    first, factors = comparison.settings.seed, comparison.lr_factors
    grid = _Grid(run_all, jobs, progress, len(groups) * (comparison.seeds - 1))
    grid.run(group.cell(each, first) for group in groups for each in group.factors(factors))
    chosen = [(group, found) for group in groups if (found := _search(group, factors, first))]
    seeds = range(first, first + comparison.seeds)
    grid.run(group.cell(found.best, n) for group, found in chosen for n in seeds if n > first)
    failures = [{**each, "folder": _below(each["folder"], run.path)} for each in grid.failures]
    judged = judge(_rows(chosen, seeds))
    results = {"rows": judged, "failures": failures, "versions": versions()}
    write_results(run.path, results)
    if judged:
        write_comparison_page(run.path / PAGE, judged)
    return results


def _rows(chosen: Sequence[tuple[_Group, "_Search"]], seeds: Iterable[int]) -> list[Row]:
    """The rows of all groups in which a run has ended."""
    rows = []
    for group, found in chosen:
        cells = [read_cell(group.cell(found.best, seed)) for seed in seeds]
        if done := [metrics for metrics in cells if metrics is not None]:
            searched = {"lr": found.lr, "lr_search": found.tried, "precision": group.precision}
            rows.append(make_row({**group.labels, **searched}, done))
    return rows


class _Grid:
    """Runs cells that are not finished, and keeps count.

    Args:
        engine: what runs them.
        jobs: how many at a time.
        progress: is told of each.
        more: cells that come later than those of the first call.
    """

    def __init__(self, engine: Engine, jobs: int, progress: Progress | None, more: int) -> None:
        self.engine, self.jobs, self.progress = engine, jobs, progress
        self.done, self.total, self._more = 0, 0, more
        self.failures: list[dict[str, str]] = []

    def run(self, cells: Iterable[Cell]) -> None:
        """Run those that are not finished."""
        asked = list(cells)
        self.total = self.done + len(asked) + self._more
        self._more = 0
        cells = [cell for cell in asked if read_cell(cell) is None]
        if old := sum(read_others(cell, cell.inputs) for cell in cells):
            log.warning("data or weights have changed since %s: repeated", counted(old, "run"))
        self.done += len(asked) - len(cells)
        for cell, died in self.engine(cells, self.jobs) if cells else ():
            if died is not None:
                note_failure(cell, "ProcessEnded", died)
            failure = read_failure(cell)
            if failure is not None:
                where = {"run": cell.name, "folder": str(cell.folder)}
                told = {key: failure[key] for key in ("error", "message")}
                self.failures.append(where | told)
            self.done += 1
            if self.progress is not None:
                ended = f"{cell.name}: {_outcome(cell, failure)}"
                self.progress(ended, self.done, self.total)


def _outcome(cell: Cell, failure: dict[str, str] | None) -> str:
    if failure is not None:
        return f"failed: {(failure['message'] or failure['error']).splitlines()[0]}"
    return f"validation {percent(_validated(cell))}"


def _validated(cell: Cell) -> float | None:
    """The validation score by which learning rates are chosen; None: it is not known."""
    metrics = read_cell(cell) or {}
    headline = f"val_{find_task(cell.config.task).headline}"
    return metrics.get(metrics.get("ranked_by", headline))  # older runs do not say it


def _shared(settings: FinetuneConfig) -> FinetuneConfig:
    """The settings without what differs between the runs: what a resumed comparison must share."""
    blank = FinetuneConfig()
    data = replace(settings.data, source=blank.data.source)
    return replace(settings, method=None, model=blank.model, checkpoint=None, data=data, seeds=1)


def _groups(comparison: Comparison, output: Path) -> list[_Group]:
    """All rows of the grid; complains of methods, models and settings that there are not."""
    settings, found = comparison.settings, []
    for source in comparison.data:
        for model, checkpoint in comparison.backbones:
            for method in comparison.chosen_methods:
                name, own = split_method(method)
                data = replace(settings.data, source=absolute_source(source))
                weights = checkpoint
                if weights is not None and Path(weights).exists():
                    weights = str(Path(weights).resolve())
                config = replace(
                    settings, data=data, model=model, checkpoint=weights, method=name,
                    peft={**settings.peft, **own}, seeds=1,
                    trainer=replace(settings.trainer, devices="1"),
                )  # fmt: skip
                run = ResolvedRun.of(config)
                label = method if ":" not in name else method.replace(name, run.method.method)
                for shots in comparison.shots:
                    labels = {
                        "data": data_label(source, settings.data.variant),
                        "model": backbone_label(model, checkpoint),
                        "method": label,
                        "shots": shots,
                    }
                    found.append(
                        _Group(labels, run.config, run.method.fitted, _folder(output, labels))
                    )
    return found


def _folder(output: Path, labels: dict[str, Any]) -> Path:
    shots = "all" if labels["shots"] is None else f"{labels['shots']}shot"
    return output / labels["data"] / labels["model"] / file_name(labels["method"]) / shots


def _with_inputs(groups: Sequence[_Group], comparison: Comparison) -> list[_Group]:
    """The groups with what tells their data and weights apart.

    Every data set is read once as each model takes it, so that what is wrong is said first.
    """
    searched = any(len(each.factors(comparison.lr_factors)) > 1 for each in groups)
    known = []
    for _, same in groupby(groups, lambda group: (group.labels["data"], group.labels["model"])):
        cells = [(group, group.cell(1.0, comparison.settings.seed)) for group in same]
        everything, inputs = cells[0][1].read()
        for group, cell in cells:
            data = cell.with_shots(everything)
            if searched and not len(data.val):
                raise DataError(
                    f"{group.config.data.source} has no validation split to choose learning rates "
                    "by; give a single `lr_factor`"
                )
            _check_lost(group, comparison, everything.problems)
            known.append(replace(group, inputs=inputs))
    return known


def _check_lost(group: _Group, comparison: Comparison, problems: Sequence[Problem]) -> None:
    """Refuse to remake runs because of a file that cannot be read and was not so when they began.

    Raises:
        DataError: there is one.
    """
    first = comparison.settings.seed
    for factor in group.factors(comparison.lr_factors):
        for seed in range(first, first + comparison.seeds):
            cell = group.cell(factor, seed)
            if lost := lost_shapes(cell, problems):
                raise DataError(
                    f"{lost[0].item} cannot be read: {lost[0].reason}; when {cell.folder} began, "
                    f"it was not among the unreadable ones ({counted(len(lost), 'such shape')}): "
                    "mend it, take it out, or name another `output`"
                )


@dataclass(frozen=True)
class _Search:
    """The factor that validates best, its learning rate, and what each rate reached.

    The rate is None where there is none, and ``tried`` is empty where there was no choice.
    """

    best: float
    lr: float | None
    tried: dict[str, float]


def _search(group: _Group, asked: Sequence[float], seed: int) -> _Search | None:
    """Choose the factor, of equally good ones that nearest to 1; None: no run has ended."""
    factors = group.factors(asked)
    lr = {factor: group.cell(factor, seed).config.optimizer.lr for factor in factors}
    if len(factors) == 1:
        return _Search(factors[0], None if group.fitted else lr[factors[0]], {})
    found = {factor: _validated(group.cell(factor, seed)) for factor in factors}
    reached = {factor: score for factor, score in found.items() if score is not None}
    if not reached:
        return None
    best = max(reached, key=lambda factor: (reached[factor], -abs(math.log(factor))))
    return _Search(best, lr[best], {f"{lr[each]:g}": value for each, value in reached.items()})


def _below(folder: str, output: Path) -> str:
    return Path(folder).relative_to(output.resolve()).as_posix()
