"""From a saved adapter and a file to a class; how an adapter is loaded for any use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pointpeft.data import (
    SHAPE_SUFFIXES,
    InputStatistics,
    InputTransform,
    PartTable,
    RawShape,
    read_shape,
)
from pointpeft.data.folder import shape_files
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.models import build_backbone, create_model, load_into
from pointpeft.peft import PeftModel, load_adapter, read_adapter_config, resolve_adapter

__all__ = [
    "LoadedAdapter",
    "Prediction",
    "Predictor",
    "adapter_task",
    "list_shape_files",
    "load_adapted",
    "load_base",
]

_TOP = 3


@dataclass(frozen=True)
class Prediction:
    """Outcome for one file.

    Attributes:
        file: as it was named.
        label: predicted class, or None if the file cannot be read.
        probability: of that class, 0 to 1.
        ranking: the most probable classes with their probabilities, descending.
        warnings: what about the input differs from the training data.
        error: why the file cannot be used, or None.
    """

    file: str
    label: str | None = None
    probability: float | None = None
    ranking: tuple[tuple[str, float], ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None


def load_adapted(folder: str | Path, checkpoint: str | Path | None = None) -> PeftModel:
    """An adapter on its encoder; arguments and errors are those of :func:`load_base`."""
    adapted = load_adapter(load_base(folder, checkpoint), folder)
    if checkpoint is not None:
        adapted.base_checkpoint = str(Path(checkpoint).resolve())
    return adapted


def load_base(folder: str | Path, checkpoint: str | Path | None = None) -> Any:
    """The un-adapted encoder of an adapter, found where the adapter says it came from.

    Args:
        folder: adapter or run folder.
        checkpoint: weights of the encoder, if they are elsewhere now.

    Raises:
        CheckpointError: no adapter, encoder weights not found, or they do not fit.
    """
    folder = resolve_adapter(folder)
    base = read_adapter_config(folder)["base_model"]
    if checkpoint is None and base["checkpoint"] == "embedded":
        return create_model(
            base["name"], pretrained=True, num_points=base["num_points"], **base["config"]
        )
    path = Path(checkpoint) if checkpoint else _recorded_weights(folder, base)
    backbone = build_backbone(base["name"], base["config"] | {"num_points": base["num_points"]})
    load_into(backbone, path)
    return backbone


def _recorded_weights(folder: Path, base: dict[str, Any]) -> Path:
    recorded = base["checkpoint"]
    if recorded is None:
        raise CheckpointError(
            f"the adapter in {folder} does not say where its encoder's weights are; pass their "
            "file as `checkpoint`"
        )
    path = folder / recorded  # absolute, unless nothing is there
    if not path.is_file():
        raise CheckpointError(
            f"the adapter in {folder} was trained on {recorded}, which is not there any more; pass "
            f"its file, of weights with the hash {base['hash'][:16]}, as `checkpoint`"
        )
    return path


def list_shape_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files meant by ``paths``: themselves, and all shapes below those that are folders.

    Raises:
        DataError: a folder holds no shape file.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        found = [path / file for file in shape_files(path)[0]]
        if not found:
            known = ", ".join(sorted(SHAPE_SUFFIXES))
            raise DataError(f"{path} holds no mesh or scan; known file types: {known}")
        files += found
    return files


def adapter_task(folder: str | Path) -> str:
    """What an adapter or run folder is for: "classification" or "part_segmentation".

    Raises:
        CheckpointError: no adapter, or a damaged one.
    """
    config = read_adapter_config(resolve_adapter(folder))
    return "classification" if config.get("num_parts") is None else "part_segmentation"


class LoadedAdapter:
    """A saved adapter on its encoder, and how its input is prepared.

    Args:
        folder: adapter or run folder.
        checkpoint: weights of the encoder, if not where the adapter says.
        up_axis: axis of the files that points up, if not as in training.
        device: where to compute.

    Attributes:
        backbone: the encoder as it was before its adaptation.
        model: the adapted model, in eval mode.
        class_names: in the order of the logits, or of the category numbers.
        parts: names and categories of the parts, for part segmentation.
        transform: how clouds are prepared.
        source: the data that it was trained on.
        split: how these were cut.
        statistics: of the raw training shapes, when known.
        notes: what is done to every shape because it was asked for.
    """

    def __init__(
        self,
        folder: str | Path,
        checkpoint: str | Path | None = None,
        up_axis: str | None = None,
        device: str = "cpu",
    ) -> None:
        self.backbone = load_base(folder, checkpoint)
        self.model = load_adapter(self.backbone, folder).to(device)  # on a copy of it
        self.backbone.to(device)
        if not self.model.input or not self.model.class_names:
            raise ConfigError(
                f"the adapter in {folder} does not say how its input is prepared; it was saved "
                "without `input` and `class_names`"
            )
        self.device = device
        self.class_names = self.model.class_names
        self.parts = _part_table(self.model, folder)
        settings = dict(self.model.input["transform"])
        trained_up = settings["up_axis"]
        self.transform = InputTransform.from_dict(settings | {"up_axis": up_axis or trained_up})
        self.notes: tuple[str, ...] = ()
        if up_axis and up_axis != trained_up:
            self.notes = (f"up-axis {up_axis} is turned to match {trained_up} of training",)
        self.source: str = self.model.input["source"]
        self.split: dict[str, Any] = self.model.input["split"]
        statistics = self.model.input["statistics"]
        self.statistics = InputStatistics.from_dict(statistics) if statistics else None
        self._check_task(folder)

    def _check_task(self, folder: str | Path) -> None:
        """Sub-classes that are for one task refuse adapters of others here."""

    def warnings(self, shape: RawShape) -> list[str]:
        """What about a shape differs from the training data, and what its reader noticed."""
        differences = self.statistics.check(shape, self.transform) if self.statistics else []
        return [*shape.notes, *differences]


def _part_table(model: PeftModel, folder: str | Path) -> PartTable | None:
    if model.sizes["num_parts"] is None:
        return None
    if model.parts is None:
        raise ConfigError(f"the adapter in {folder} was saved without the names of its `parts`")
    try:
        return PartTable.from_dict(model.parts)
    except DataError as error:
        raise CheckpointError(f"the adapter in {folder} is damaged: {error}") from error


class Predictor(LoadedAdapter):
    """Classifies files with a saved adapter, preparing them as in its training.

    Arguments are those of :class:`LoadedAdapter`.

    Raises:
        ConfigError: the adapter is for part segmentation.
    """

    def _check_task(self, folder: str | Path) -> None:
        if self.parts is not None:
            raise ConfigError(
                f"the adapter in {folder} labels parts; use PartPredictor or `pointpeft predict`"
            )

    def predict(self, files: Sequence[str | Path]) -> list[Prediction]:
        """Classify each file, and the files in each folder.

        One that cannot be read gives a prediction with its ``error``.
        """
        return [self.predict_file(file) for file in list_shape_files(files)]

    def predict_file(self, file: str | Path) -> Prediction:
        """Classify one mesh or scan."""
        try:
            shape = read_shape(file)
            points = self.transform.prepare(shape)[: self.transform.num_points]
        except DataError as error:
            return Prediction(str(file), error=str(error))
        with torch.no_grad():
            logits = self.model(torch.from_numpy(points).unsqueeze(0).to(self.device))[0]
        probabilities = logits.float().softmax(0).cpu()
        top = probabilities.topk(min(_TOP, len(self.class_names)))
        ranking = tuple(
            (self.class_names[i], p)
            for p, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        )
        return Prediction(str(file), *ranking[0], ranking, tuple(self.warnings(shape)))
