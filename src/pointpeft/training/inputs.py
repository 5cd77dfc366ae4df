"""What a run starts from: an encoder with its weights, labelled data, and the memory bank."""

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pointpeft.create import create_model, has_embedded_weights
from pointpeft.data import ShapeData, load_shapes
from pointpeft.data.cache import unpack_digests
from pointpeft.data.shapes import absolute_source
from pointpeft.devices import choose_device
from pointpeft.errors import CheckpointError
from pointpeft.locations import EMBEDDED, is_on_hub, resolve_checkpoint
from pointpeft.models import state_hash
from pointpeft.models.safetensors_files import saved_shapes
from pointpeft.models.trunk import Trunk
from pointpeft.peft import MemoryBank
from pointpeft.peft.registry import tuner_class
from pointpeft.progress import Meter
from pointpeft.training.config import DataConfig, FinetuneConfig, SvmConfig
from pointpeft.training.loaders import cloud_loader
from pointpeft.training.processes import is_first_process
from pointpeft.training.protocol import HONEST, Protocol
from pointpeft.training.resolved import ResolvedRun
from pointpeft.training.sources import RANDOM
from pointpeft.training.unlabelled import input_transform, tell_of

__all__ = [
    "Banks",
    "describe_input",
    "load_data",
    "make_backbone",
    "note_shapes_seen_before",
    "shapes_seen",
    "training_device",
]

log = logging.getLogger("pointpeft")


def make_backbone(config: FinetuneConfig | SvmConfig) -> tuple[Trunk, str | None]:
    """The encoder of a config with its weights, and where they came from; None: from nowhere.

    Without a checkpoint the weights shipped for the model are used, if there are any and its sizes
    are not changed; the checkpoint "random" asks for none, and "embedded" for these. A folder is
    that of a pre-training run.
    """
    weights = config.checkpoint
    as_shipped = not config.preset and not config.backbone
    if weights is None and as_shipped and has_embedded_weights(config.model):
        weights = EMBEDDED
    backbone: Trunk = create_model(
        config.model,
        preset=config.preset,
        checkpoint=None if weights == RANDOM else weights,
        **config.backbone,
    )
    return backbone, backbone.loaded_from


def load_data(
    config: DataConfig,
    num_points: int,
    progress: Callable[[int, int], None] | None = None,
    needed: tuple[str, ...] | None = None,
    segmented: bool = False,
    protocol: Protocol = HONEST,
    farthest: bool = True,
) -> ShapeData:
    """Read and prepare the labelled data set of a config, logging notes and problems.

    Args:
        config: where it is and how to prepare it.
        num_points: points that the model sees, unless the config says otherwise.
        progress: called with (done, total) while shapes are read.
        needed: parts that are cut from train when they are missing; None: those of the protocol.
        segmented: whether part labels are read too.
        protocol: may read in its own way, and cuts no validation split that it has no use for.
        farthest: with it, put test clouds into farthest-point order.

    Raises:
        DataError: unusable data.
    """
    transform = input_transform(config, num_points)
    data = protocol.read(config, transform, farthest, segmented, progress)
    if data is None:
        data = load_shapes(
            config.source,
            transform,
            variant=config.variant,
            on_error=config.on_error,  # type: ignore[arg-type]
            val_fraction=config.val_fraction,
            needed=protocol.needed if needed is None else needed,
            seed=config.seed,
            segmented=segmented,
            progress=progress,
        )
        if protocol.fallback is not None:
            data = replace(data, notes=(*data.notes, protocol.fallback))
    data = replace(data, source=absolute_source(config.source), variant=config.variant)
    tell_of(data, config.source, logging.DEBUG)  # notes are shown with the results
    return data


def shapes_seen(weights: str | Path | None) -> frozenset[str]:
    """What the shapes are known by that an encoder was pre-trained on; none where it does not say.

    ``weights`` are its file or address, None or "embedded".

    Raises:
        CheckpointError: the file is damaged.
    """
    if weights is None:
        return frozenset()
    if is_on_hub(weights):
        weights = resolve_checkpoint(weights)
    try:
        return frozenset(unpack_digests(saved_shapes(weights)))
    except ValueError as error:
        raise CheckpointError(f"{weights} is damaged: its shapes: {error}") from error


def note_shapes_seen_before(data: ShapeData, weights: str | None) -> ShapeData:
    """The data with a note on test shapes that the encoder was pre-trained on, if there are any.

    ``weights`` are its file or address, see :func:`make_backbone`.
    """
    count = int(data.test.among(shapes_seen(weights)).sum())
    if not count:
        return data
    note = (
        f"the encoder was pre-trained, without classes, on {count} of the {len(data.test)} test "
        "shapes: take the same data.seed and data.val_fraction for `pretrain`, which leaves them "
        "out"
    )
    return replace(data, notes=(*data.notes, note))


def describe_input(data: ShapeData, config: DataConfig) -> dict[str, Any]:
    """What an adapter remembers of its training input.

    Of each shape it keeps short hashes, by which the shape is known again wherever it lies.
    """
    return {
        "transform": data.transform.to_dict(),
        "statistics": data.statistics.to_dict() if data.statistics else None,
        "source": data.source,
        "variant": data.variant,
        "family": data.family,
        "split": {
            "seed": config.seed,
            "val_fraction": config.val_fraction,
            "shapes": data.digests(),
        },
    }


def training_device(config: FinetuneConfig) -> str:
    """The torch device that the first process of a run trains on."""
    return "cpu" if config.trainer.accelerator == "cpu" else choose_device("auto")


class Banks:
    """Makes the memory banks of a run of its training shapes, one for each encoder."""

    def __init__(self, data: ShapeData, run: ResolvedRun) -> None:
        self.data, self.run = data, run
        self._built: dict[str, MemoryBank] = {}

    def of(self, backbone: Trunk) -> MemoryBank:
        """The bank of an encoder, before a method is attached to it; both are on the CPU.

        In other processes than the first one it has no content before training begins, when
        :meth:`pointpeft.tasks.tuning_module.TuningModule.setup` brings it.
        """
        train, size = self.data.train, getattr(self.run.method, "bank_size", None)
        if not is_first_process():
            items = min(size or len(train), len(train))
            empty = torch.zeros(backbone.num_features, items, dtype=torch.float16)
            about = (torch.from_numpy(train.labels), train.ids) if items == len(train) else ()
            return MemoryBank(empty, *about)
        encoder = state_hash(backbone)
        if encoder not in self._built:
            backbone.to(training_device(self.run.config))
            features = tuner_class(self.run.method).features
            with torch.random.fork_rng([]):  # loaders draw; a seed is to mean the same without
                bank = MemoryBank.build(backbone, self._batches(), features)
            if size is not None:
                bank = bank.prototypes(size, self.run.config.seed)
            backbone.cpu()
            log.info("memory bank: %d items of %d channels", len(bank), bank.features.shape[0])
            self._built[encoder] = bank
        return copy.deepcopy(self._built[encoder])  # it becomes part of the model

    def _batches(self) -> Iterator[dict[str, Any]]:
        num_points, train = self.data.transform.num_points, self.data.train
        train = self.run.protocol.in_order(train, num_points)
        loader = cloud_loader(train, num_points, self.run.config.trainer.batch_size)
        with Meter("memory bank") as meter:
            for place, batch in enumerate(loader):
                yield {**batch, "id": [train.ids[item] for item in batch["index"].tolist()]}
                meter.update(place + 1, len(loader))
