"""A saved adapter on its encoder, as it is loaded for any use."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pointpeft.compat.checkpoints.checkpoint_reader import load_into
from pointpeft.create import create_model, has_embedded_weights
from pointpeft.data import (
    SHAPE_SUFFIXES,
    InputStatistics,
    InputTransform,
    PartTable,
    RawShape,
)
from pointpeft.data.addresses import is_address
from pointpeft.data.folder import refuse_as_source, shape_files
from pointpeft.data.prepare import Prepared
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.locations import (
    EMBEDDED,
    RUN_CONFIG,
    is_on_hub,
    names_embedded,
    noted_place,
    resolve_checkpoint,
)
from pointpeft.models import build_backbone, state_hash
from pointpeft.models.trunk import Trunk
from pointpeft.peft import PeftModel, load_adapter, read_adapter_config, resolve_adapter
from pointpeft.peft.adapter import Adapter

__all__ = [
    "LoadedAdapter",
    "adapter_task",
    "described_input",
    "list_shape_files",
    "load_adapted",
    "load_base",
]


def load_adapted(folder: str | Path, checkpoint: str | Path | None = None) -> PeftModel:
    """An adapter on its encoder; arguments and errors are those of :func:`load_base`."""
    backbone = load_base(folder, checkpoint)
    adapted = load_adapter(backbone, folder)
    adapted.base_checkpoint = backbone.loaded_from
    return adapted


def load_base(folder: str | Path, checkpoint: str | Path | None = None) -> Trunk:
    """The un-adapted encoder of an adapter.

    Without ``checkpoint`` its weights are looked for where the adapter says that they came from,
    or the run that it lies in; and, by their hash, among those that come with the package.

    Args:
        folder: adapter or run folder.
        checkpoint: weights of the encoder, as for fine-tuning: a file of ours or a released one,
            the folder of a pre-training run, an address on the hub, or "embedded".

    Raises:
        CheckpointError: no adapter, encoder weights not found, or they do not fit.
    """
    folder = resolve_adapter(folder)
    base = read_adapter_config(folder)["base_model"]
    found = checkpoint or _find_weights(folder, base)
    name, sizes = base["name"], base["config"] | {"num_points": base["num_points"]}
    backbone: Trunk
    if names_embedded(found, name):
        backbone = create_model(name, pretrained=True, **sizes)
        return backbone
    path = resolve_checkpoint(found)
    backbone = build_backbone(name, sizes)
    load_into(backbone, path)
    backbone.loaded_from = noted_place(found, path)
    return backbone


def _find_weights(folder: Path, base: dict[str, Any]) -> str | Path:
    """The weights of an adapter's encoder: their file, address, or that they come along."""
    recorded = base["checkpoint"]
    if recorded and is_on_hub(recorded):
        return recorded
    of_run = _weights_of_run(folder.parent)
    if recorded and (folder / recorded).is_file():  # absolute, unless nothing is there
        return folder / recorded
    if recorded and of_run is not None and of_run.name == Path(recorded).name:
        return of_run
    name = base["name"]
    if recorded == EMBEDDED or (
        has_embedded_weights(name)
        and state_hash(create_model(name, pretrained=True)) == base["hash"]
    ):
        return EMBEDDED
    lacking = "does not say where its encoder's weights are"
    if recorded:
        lacking = f"was trained on {recorded}, which is not there"
    raise CheckpointError(
        f"the adapter in {folder} {lacking}; pass their file as `checkpoint`: weights of "
        f"{name} with the hash {base['hash'][:16]}"
    )


def _weights_of_run(folder: Path) -> Path | None:
    """The weights that a run states in its settings, if they are there.

    An adapter may be given away, so it does not name places elsewhere on the machine; its run does.
    """
    try:
        settings = yaml.safe_load((folder / RUN_CONFIG).read_text(encoding="utf-8"))
        path = resolve_checkpoint(settings["checkpoint"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return None
    return path if path.is_file() else None


def list_shape_files(
    paths: str | Path | Sequence[str | Path], output: str | Path | None = None
) -> list[Path]:
    """The files meant by ``paths``: themselves, and all shapes below those that are folders.

    Args:
        paths: files and folders, or one of them.
        output: file or folder that results are written into, which is not read.

    Raises:
        DataError: a folder holds no shape file, or an address is named.
        ConfigError: the output is one of the paths.
    """
    files: list[Path] = []
    if isinstance(paths, str | Path):  # text is a sequence too, of letters
        paths = [paths]
    if address := next(filter(is_address, paths), None):
        raise DataError(
            f"{address}: files at addresses become a folder of shards; name one as `output`"
        )
    refuse_as_source(output, paths)
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        found = [path / file for file in shape_files(path, output)[0]]
        if not found:
            known = ", ".join(sorted(SHAPE_SUFFIXES))
            raise DataError(f"{path} holds no mesh or scan; known file types: {known}")
        files += found
    return files


def adapter_task(folder: str | Path) -> str:
    """Name of the task that an adapter or run folder is for, such as "classification".

    Raises:
        CheckpointError: no adapter, or a damaged one.
    """
    config = read_adapter_config(resolve_adapter(folder))
    without = "classification" if config.get("num_parts") is None else "part_segmentation"
    return config.get("task", without)


class LoadedAdapter:
    """A saved adapter on its encoder, and how its input is prepared.

    Args:
        folder: adapter or run folder.
        checkpoint: weights of the encoder, where they are not found, see :func:`load_base`.
        up_axis: axis of the files that points up, if not as in training.
        device: where to compute.

    Attributes:
        folder: of the adapter.
        backbone: the encoder as it was before its adaptation.
        model: the adapted model, in eval mode.
        class_names: in the order of the logits, or of the category numbers.
        parts: names and categories of the parts, for part segmentation.
        transform: how clouds are prepared.
        trained: how its training clouds were prepared; their up axis may be another.
        split: how its training data was cut; None where it does not say.
        statistics: of the raw training shapes, when known.
        notes: what is done to every shape because it was asked for.
    """

    _task: str | None = None  # what adapters must be for; None: any task

    def __init__(
        self,
        folder: str | Path,
        checkpoint: str | Path | None = None,
        up_axis: str | None = None,
        device: str = "cpu",
    ) -> None:
        folder = resolve_adapter(folder)  # once: an address may hold something else a moment later
        self.backbone = load_base(folder, checkpoint)
        self.model = load_adapter(self.backbone, folder).to(device)  # on a copy of it
        self.backbone.to(device)
        self.device, self.folder = device, folder
        self.class_names, given = described_input(self.model, folder)
        if self._task not in (None, self.task):
            raise ConfigError(
                f"the adapter in {folder} is for {self.task}, and {type(self).__name__} for "
                f"{self._task}: use `pointpeft predict`, which takes any"
            )
        segments = self.task == "part_segmentation"
        if segments and self.model.parts is None:
            raise ConfigError(f"the adapter in {folder} was saved without the names of its `parts`")
        try:
            self.parts = PartTable.from_dict(self.model.parts or {}) if segments else None
            self.trained = trained = InputTransform.from_dict(given["transform"])
            statistics = given.get("statistics")
            self.statistics = InputStatistics.from_dict(statistics) if statistics else None
        except (DataError, TypeError) as error:
            raise CheckpointError(f"the adapter in {folder} is damaged: {error}") from error
        self.transform = replace(trained, up_axis=up_axis or trained.up_axis)  # type: ignore[arg-type]
        self.notes: tuple[str, ...] = ()
        if up_axis and up_axis != trained.up_axis:
            self.notes = (f"up-axis {up_axis} is turned to match {trained.up_axis} of training",)
        self.split: dict[str, Any] | None = given.get("split")

    @property
    def task(self) -> str:
        """Name of the task that it is for."""
        return self.model.task

    def prepare(self, shape: RawShape) -> Prepared:
        """A shape as the model takes it, with the notes that training would show of it.

        Raises:
            DataError: the shape has no usable geometry.
        """
        (prepared,) = self.transform.prepare_inputs([shape])
        if isinstance(prepared, DataError):
            raise DataError(f"{shape.source}: {prepared}")
        return prepared

    def warnings(self, shape: RawShape, prepared: Prepared) -> tuple[str, ...]:
        """What was noticed of a shape, and in what it differs from the training data."""
        differences = self.statistics.check(shape, self.transform) if self.statistics else []
        return (*prepared.notes, *differences)


def described_input(
    model: PeftModel | Adapter, folder: str | Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Class names of an adapter, and what it says of its input; both are needed to use it.

    Raises:
        ConfigError: it was saved without them.
    """
    if isinstance(model.input, dict) and "transform" in model.input and model.class_names:
        return model.class_names, model.input
    lacking = "names of its classes" if not model.class_names else "way its input is prepared"
    raise ConfigError(
        f"the adapter in {folder} does not state the {lacking}; save it with both: "
        "model.save_pretrained(folder, class_names=[...], input_transform=pp.InputTransform(...)), "
        "or convert the released file again with `classes`"
    )
