"""The published tables, run again: published and measured numbers side by side."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pointpeft.data.benchmarks.stored import get_dataset
from pointpeft.errors import ConfigError, DataError, PointPeftError
from pointpeft.files import replacing, write_json
from pointpeft.training.config import FinetuneConfig, SvmConfig
from pointpeft.training.config_files import CONFIGS, load_config

__all__ = ["EXPERIMENTS", "Experiment", "Outcome", "check_folders", "reproduce"]

log = logging.getLogger("pointpeft")

_FULL = "full fine-tuning"
_TUNED = ((_FULL, "fine-tuning"), ("Point-PEFT", "peft"))
"""What was done, and the folder of its configs."""
_VOTED = ("votes=49",)
"""Votes of I2P-MAE's published test, of which the best is reported."""


@dataclass(frozen=True)
class Experiment:
    """A number of a published table.

    Attributes:
        table: data set or benchmark.
        row: what was done.
        config: file below the folder of configs.
        weights: pre-trained encoder: one of the keys of :data:`CHECKPOINTS`.
        published: accuracy in percent.
        metric: name of the measured one in ``metrics.json``.
        overrides: settings beside the config's.
    """

    table: str
    row: str
    config: str
    weights: str
    published: float
    metric: str = "test_accuracy"
    overrides: tuple[str, ...] = ()

    @property
    def is_svm(self) -> bool:
        """Whether it is a linear SVM rather than a fine-tuning run."""
        return self.config.startswith("linear-svm/")


CHECKPOINTS: dict[str, tuple[str, ...]] = {
    "Point-BERT": ("point-bert.pth", "point-bert/Point-BERT.pth", "Point-BERT.pth"),
    "Point-MAE": ("point-mae.pth", "point-mae/pretrain.pth", "pretrain.pth"),
    "Point-M2AE": ("point-m2ae.pth", "point-m2ae/pre-train.pth"),
    "I2P-MAE": ("i2p-mae.pth", "i2p-mae/pre-train.pth", "pre-train.pth"),
}
"""Where pre-trained encoders are looked for in their folder, first to last: under our name, then
as their authors call them, in a folder of the model or, but for Point-M2AE, whose file has the name
of I2P-MAE's, outside one."""


def _tuned(table: str, stem: str, numbers: dict[str, tuple[float, float]]) -> list[Experiment]:
    """Full fine-tuning against Point-PEFT on each backbone."""
    return [
        Experiment(table, f"{weights}, {what}", f"{folder}/{stem.format(weights.lower())}", weights,
                   accuracy)
        for weights, pair in numbers.items()
        for (what, folder), accuracy in zip(_TUNED, pair, strict=True)
    ]  # fmt: skip


EXPERIMENTS: tuple[Experiment, ...] = (
    *_tuned("ScanObjectNN PB-T50-RS", "{}_scan_pb.yaml", {"Point-BERT": (83.1, 85.0)}),
    *_tuned(
        "ScanObjectNN PB-T50-RS",
        "{}_scan_pb_aug.yaml",
        {"Point-MAE": (88.1, 89.1), "Point-M2AE": (88.1, 88.2)},
    ),
    *_tuned(
        "ModelNet40, without voting",
        "{}_modelnet40.yaml",
        {"Point-BERT": (92.7, 93.4), "Point-MAE": (93.2, 94.2), "Point-M2AE": (93.4, 94.1)},
    ),
    Experiment("Linear SVM", "I2P-MAE, ModelNet40", "linear-svm/modelnet40.yaml", "I2P-MAE", 93.35),
    Experiment("Linear SVM", "I2P-MAE, OBJ-BG", "linear-svm/scan_obj-bg.yaml", "I2P-MAE", 87.09),
    *(
        Experiment(table, f"I2P-MAE, {_FULL}", f"fine-tuning/{config}.yaml", "I2P-MAE", *measured)
        for table, config, *measured in (
            ("ModelNet40, without voting", "modelnet40", 93.67, "test_accuracy", _VOTED),
            ("ModelNet40, with voting", "modelnet40", 94.06, "test_vote_accuracy", _VOTED),
            ("ScanObjectNN PB-T50-RS", "scan_pb", 90.11),
            ("ScanObjectNN OBJ-BG", "scan_obj-bg", 94.15),
            ("ScanObjectNN OBJ-ONLY", "scan_obj", 91.57),
        )
    ),
)
"""Full fine-tuning against Point-PEFT on every backbone, with the numbers of Point-PEFT's paper,
and I2P-MAE's own table. A backbone's own paper may have another number of full fine-tuning."""


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment.

    Attributes:
        experiment: which one.
        measured: accuracy in percent; None where it was not measured.
        missing: why not.
        away: whether that is because there are no weights or no data.
    """

    experiment: Experiment
    measured: float | None = None
    missing: str | None = None
    away: bool = False

    def __str__(self) -> str:
        return str(self.missing) if self.measured is None else f"{self.measured:.2f} %"


def reproduce(
    data: str | Path,
    checkpoints: str | Path,
    output: str | Path,
    configs: str | Path = CONFIGS,
    overrides: Sequence[str] = (),
    only: str | None = None,
    experiments: Sequence[Experiment] = EXPERIMENTS,
    report: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Run the published tables under the published protocol, as far as data and weights are there.

    What was finished before with the same settings is not run again, and what was interrupted goes
    on. Rows that are not run keep what an earlier call in the same folder found.

    Args:
        data: folder of the published data sets.
        checkpoints: folder of pre-trained encoders, see :data:`CHECKPOINTS`.
        output: folder of the runs, ``reproduction.json`` and ``reproduction.md``.
        configs: folder of configs.
        overrides: settings of every fine-tuning run, such as ``trainer.epochs=10``.
        only: run only what has this text in its table or row.
        experiments: what to run.
        report: called with each outcome.

    Raises:
        ConfigError: no such folder of data, checkpoints or configs, or ``only`` fits nothing.
    """
    check_folders(data, checkpoints, configs)
    configs = Path(configs)
    chosen = [e for e in experiments if (only or "").lower() in f"{e.table} {e.row}".lower()]
    if not chosen:
        raise ConfigError(f"`only` {only}: nothing has this in its table or row")
    from pointpeft.measure.records import output_folder  # slow

    runs, outcomes = output_folder(output), []
    for experiment in chosen:
        outcome = _run(experiment, Path(data), Path(checkpoints), runs, configs, overrides)
        outcomes.append(outcome)
        _write(runs, outcomes, experiments)
        if report is not None:
            report(outcome)
    return outcomes


def check_folders(data: str | Path, checkpoints: str | Path, configs: str | Path) -> None:
    """Refuse folders that are not there, before anything slow is imported.

    Raises:
        ConfigError: one is not; it is named.
    """
    for name, folder in (("data", data), ("checkpoints", checkpoints), ("configs", configs)):
        if not Path(folder).is_dir():
            raise ConfigError(f"`{name}` {folder}: no such folder")


def _run(
    experiment: Experiment,
    data: Path,
    checkpoints: Path,
    output: Path,
    configs: Path,
    overrides: Sequence[str],
) -> Outcome:
    names = CHECKPOINTS[experiment.weights]
    weights = next((file for name in names if (file := checkpoints / name).is_file()), None)
    if weights is None:
        text = f"no weights: {' or '.join(names)} in {checkpoints}"
        return Outcome(experiment, missing=text, away=True)
    kind: Any = SvmConfig if experiment.is_svm else FinetuneConfig
    own = () if experiment.is_svm else overrides
    try:
        file = configs / experiment.config
        config = load_config(kind, [file], [*experiment.overrides, *own, "protocol=published"])
        if missing := _missing_data(config, data):
            return Outcome(experiment, missing=missing, away=True)
        source = replace(config.data, source=str(data))
        config = replace(config, checkpoint=str(weights), data=source)
        metrics = _metrics(config, output / Path(experiment.config).with_suffix(""))
    except PointPeftError as error:  # the others can still be run
        log.warning("%s, %s: %s", experiment.table, experiment.row, error)
        return Outcome(experiment, missing=str(error).splitlines()[0])
    return Outcome(experiment, 100 * metrics[experiment.metric])


def _missing_data(config: FinetuneConfig | SvmConfig, folder: Path) -> str | None:
    """Why the data set of a config is not in a folder; None if it is."""
    if config.data.variant is None:
        return None
    try:
        get_dataset(config.data.variant).folder_in(folder)
    except DataError as error:
        return str(error).splitlines()[0]
    return None


def _metrics(config: FinetuneConfig | SvmConfig, folder: Path) -> dict[str, Any]:
    from pointpeft.measure.backbone_svm import evaluate_backbone
    from pointpeft.models.safetensors_files import state_hash
    from pointpeft.training.finetuning import finetune
    from pointpeft.training.inputs import make_backbone
    from pointpeft.training.run_folder import ENCODER_HASH, RunFolder

    run = RunFolder(folder)
    if isinstance(config, FinetuneConfig):
        if begun := run.config.is_file():
            run.check_encoder(state_hash(make_backbone(config)[0]), str(config.checkpoint))
        return finetune(config, folder, resume=begun)
    if (finished := run.finished_metrics(config)) is not None:
        backbone, _ = make_backbone(config)
        if finished.get(ENCODER_HASH) in (None, state_hash(backbone)):
            return finished
    for file in (run.config, run.metrics):  # of other weights, data or C
        file.unlink(missing_ok=True)
    evaluate_backbone(config, "auto", output=folder)
    return json.loads(run.metrics.read_text())


def _write(folder: Path, outcomes: Sequence[Outcome], experiments: Sequence[Experiment]) -> None:
    """Bring both files up to date; rows of other experiments stay as an earlier call left them."""
    from pointpeft.measure.records import versions

    file = folder / "reproduction.json"
    earlier = json.loads(file.read_text())["rows"] if file.is_file() else []
    known = {(row["table"], row["row"]): row for row in earlier}
    for outcome in outcomes:
        e = outcome.experiment
        measured = outcome.measured
        if outcome.away:  # what was measured before still holds
            measured = known.get((e.table, e.row), {}).get("measured")
        known[e.table, e.row] = {
            "table": e.table,
            "row": e.row,
            "config": e.config,
            "published": e.published,
            "measured": measured,
            "missing": outcome.missing,
        }
    rows = [known[place] for e in experiments if (place := (e.table, e.row)) in known]
    write_json(file, {"protocol": "published", "rows": rows, "versions": versions()})
    lines = ["| table | row | published | measured |", "|---|---|---|---|"]
    for row in rows:
        measured = row["measured"]
        got = row["missing"] if measured is None else f"{measured:.2f} %"
        if measured is not None and row["missing"]:
            got += f" (now: {row['missing']})"
        lines.append(f"| {row['table']} | {row['row']} | {row['published']:.2f} % | {got} |")
    lines.append("\nPublished protocol: epochs and votes are selected on the test split.")
    with replacing(folder / "reproduction.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
