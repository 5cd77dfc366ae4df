"""One run of a comparison: its data, its folder, and its score of every test shape."""

import hashlib
import json
import logging
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pointpeft.data import ShapeData, ShapeSplit
from pointpeft.data.cache import geometry_digest
from pointpeft.data.prepared_items import Problem
from pointpeft.data.shots import take_shots
from pointpeft.errors import DataError
from pointpeft.files import as_bytes, write_json
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.models import state_hash
from pointpeft.tasks.table import find_task
from pointpeft.training.config import VALIDATION_BATCH, FinetuneConfig
from pointpeft.training.finetuning import finetune
from pointpeft.training.inputs import load_data, make_backbone, training_device
from pointpeft.training.run_folder import RunFolder

__all__ = [
    "FAILURE",
    "SCORES",
    "Cell",
    "Inputs",
    "data_digest",
    "digest_of_test",
    "lost_shapes",
    "note_failure",
    "read_cell",
    "read_failure",
    "read_others",
    "run_cell",
]

log = logging.getLogger("pointpeft")

SCORES = "scores.json"
"""What a cell reaches on each test shape: ``ids``, and ``scores``, in the same order; a hash of the
``shapes``, and the identity of the encoder's ``weights``."""
FAILURE = "failure.json"
"""Why a cell has no result: ``error``, the kind of it, ``message`` and ``traceback``."""

_INPUTS = "data.json"
"""What a cell reads: the ``digest`` of its data, and ``weights``, see :class:`Inputs`; and names of
shapes that were ``unreadable``."""


@dataclass(frozen=True)
class Inputs:
    """What tells apart what a cell reads.

    Attributes:
        data: the :func:`data_digest`.
        weights: identity of its encoder, see :func:`pointpeft.models.state_hash`; None: random.
    """

    data: str
    weights: str | None


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        config: all of its settings; nothing is open any more.
        shots: training shapes of each class; None: all.
        folder: of the run, an absolute path.
        name: what progress and failures call it.
        inputs: what it is to read; None: whatever is there.
    """

    config: FinetuneConfig
    shots: int | None
    folder: Path
    name: str
    inputs: Inputs | None = None

    def read(self) -> tuple[ShapeData, Inputs]:
        """Its data with all training shapes, and what tells apart what it reads.

        Raises:
            DataError: unusable data, or no test split.
            CheckpointError: weights that do not fit.
        """
        backbone, loaded_from = make_backbone(self.config)
        num_points = backbone.spec.num_points
        segmented = find_task(self.config.task).segmented
        data = load_data(self.config.data, num_points, segmented=segmented)
        if not len(data.test):
            raise DataError(f"{self.config.data.source} has no test split to compare on")
        weights = None if loaded_from is None else state_hash(backbone)
        return data, Inputs(data_digest(data), weights)

    def with_shots(self, data: ShapeData) -> ShapeData:
        """The data with the training shapes that the cell has.

        Raises:
            DataError: there are too few shapes of a class.
        """
        if self.shots is None:
            return data
        train = take_shots(data.train, self.shots, self.config.seed, data.class_names)
        note = f"training shapes of each class: {self.shots}, drawn with seed {self.config.seed}"
        return replace(data, train=train, notes=(*data.notes, note))


def data_digest(data: ShapeData) -> str:
    """16 hexadecimal digits, others where a shape, its class or its split is another one."""
    digest = hashlib.sha256(as_bytes(json.dumps(data.class_names)))
    for split in (data.train, data.val, data.test):
        digest.update(_about(split))
        if split.seg is not None:
            digest.update(split.seg.tobytes())
    return digest.hexdigest()[:16]


def digest_of_test(data: ShapeData) -> str:
    """16 hexadecimal digits, others where a test shape or its class is another one.

    They are the same whatever a model sees of the shapes.
    """
    digest = hashlib.sha256(as_bytes(json.dumps(data.class_names)))
    digest.update(_about(data.test))
    return digest.hexdigest()[:16]


def _about(split: ShapeSplit) -> bytes:
    """Names, content and classes of shapes."""
    shapes = split.digests or [geometry_digest(cloud) for cloud in split.points]
    return as_bytes(json.dumps([split.ids, list(shapes), split.labels.tolist()]))


def read_others(cell: Cell, inputs: Inputs | None) -> bool:
    """Whether the run in its folder read other things; of older runs it is unknown."""
    known = _known(cell)
    if inputs is None or known is None:
        return False
    try:
        begun = Inputs(known["digest"], known["weights"])
    except (KeyError, TypeError):
        return True  # damaged
    pairs = ((begun.data, inputs.data), (begun.weights, inputs.weights))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def lost_shapes(cell: Cell, problems: Sequence[Problem]) -> list[Problem]:
    """Those among unreadable shapes that were none when the run in its folder began."""
    known = _known(cell) or {}
    if not isinstance(known, dict) or "unreadable" not in known:
        return []  # older runs do not say it
    return [each for each in problems if each.item not in known["unreadable"]]


def _known(cell: Cell) -> Any:
    """What the run in its folder says that it read; None: nothing."""
    file = cell.folder / _INPUTS
    if not file.is_file():
        return None
    known, scores = _parsed(file), _parsed(cell.folder / SCORES)
    if not isinstance(known, dict):
        return known
    # Older runs say it in their scores alone.
    return {"weights": scores.get("weights") if isinstance(scores, dict) else None} | known


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return ()


def run_cell(cell: Cell) -> None:
    """Fill the folder of a cell, or go on where it was left; any error is noted there.

    A run that read other things is removed and begun anew.
    """
    (cell.folder / FAILURE).unlink(missing_ok=True)
    try:
        everything, inputs = cell.read()
        if cell.inputs not in (None, inputs):
            raise DataError(
                f"{cell.config.data.source} or the weights of the encoder have changed since the "
                "comparison began; with `resume`, runs that read the earlier ones are made anew"
            )
        data = cell.with_shots(everything)
        if read_others(cell, inputs):
            shutil.rmtree(cell.folder)
        (cell.folder / SCORES).unlink(missing_ok=True)  # of fewer epochs, if there are some
        begun = RunFolder(cell.folder).config.is_file()
        if not begun:  # of an older run it is not known what it began with
            cell.folder.mkdir(parents=True, exist_ok=True)
            unreadable = [problem.item for problem in everything.problems]
            known = {"digest": inputs.data, "weights": inputs.weights, "unreadable": unreadable}
            write_json(cell.folder / _INPUTS, known)
        finetune(cell.config, cell.folder, resume=begun, data=data, report=False)
        write_json(cell.folder / SCORES, _scores(cell, data))
    except Exception as error:  # whatever it is, the other cells go on
        note_failure(cell, type(error).__name__, str(error), traceback.format_exc())


def _scores(cell: Cell, data: ShapeData) -> dict[str, Any]:
    config = cell.config
    adapter = LoadedAdapter(cell.folder, device=training_device(config))
    batch_size = VALIDATION_BATCH * config.trainer.batch_size
    scores = find_task(config.task).of_each(adapter, data.test, batch_size)
    return {
        "ids": list(data.test.ids),
        "scores": scores.tolist(),
        "shapes": digest_of_test(data),
        "weights": adapter.model.base_hash,
    }


def note_failure(cell: Cell, error: str, message: str, trace: str = "") -> None:
    """Write why a cell has no result."""
    content = {"error": error, "message": message, "traceback": trace}
    write_json(cell.folder / FAILURE, content)


def read_failure(cell: Cell) -> dict[str, str] | None:
    """Why a cell has no result; None: it has one, or was not run."""
    file = cell.folder / FAILURE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def read_cell(cell: Cell) -> dict[str, Any] | None:
    """What a finished cell measured: its metrics, ``test_scores``, ``test_shapes`` and ``weights``.

    None: it is not finished, what it measured is damaged, or it was begun with other settings, data
    or weights.
    """
    run = RunFolder(cell.folder)
    file = run.path / SCORES
    if not run.config.is_file() or read_others(cell, cell.inputs):
        return None
    metrics = run.finished_metrics(cell.config)
    if metrics is None or not file.is_file():
        return None
    try:
        known = json.loads(file.read_bytes())
        named = {f"test_{key}": known[key] for key in ("scores", "shapes")}
        return {**metrics, **named, "weights": known["weights"]}
    except (ValueError, KeyError, TypeError):
        log.warning(
            "%s is damaged, or of an earlier version: its shapes are classified again", file
        )
        return None
