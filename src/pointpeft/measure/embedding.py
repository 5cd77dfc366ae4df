"""One feature for every shape: of a frozen backbone, or of an adapted network."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointpeft.compat.checkpoints.checkpoint_reader import load_into
from pointpeft.create import create_model, has_embedded_weights
from pointpeft.data import InputTransform, Problem
from pointpeft.data.prepare import Prepared
from pointpeft.data.prepared_items import (
    Progress,
    item_notes,
    prepared_items,
    problem_lines,
    reported,
)
from pointpeft.data.splits import Item, Listing
from pointpeft.devices import choose_device
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.locations import names_embedded, resolve_checkpoint
from pointpeft.measure.analysis import model_outputs
from pointpeft.measure.feature_index import FeatureModel, Index
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.measure.scores import extract_features
from pointpeft.measure.shape_sources import ShapeSource, cloud_cache, list_sources
from pointpeft.models import build_backbone, get_entry, state_hash
from pointpeft.models.safetensors_files import tensors_hash
from pointpeft.models.trunk import Trunk

__all__ = ["DEFAULT_MODEL", "ShapeEncoder", "embed"]

DEFAULT_MODEL = "point_mae_small"
"""Backbone of features unless another one is asked for."""


class ShapeEncoder:
    """Makes features of prepared clouds.

    Args:
        encode: of clouds ``(B, N, 3)`` on the CPU, features ``(B, C)``.
        model: what it is.
        alone: whether a feature hangs on what else is in the batch, so that clouds come one by one.
    """

    def __init__(
        self, encode: Callable[[Tensor], NDArray], model: FeatureModel, alone: bool = False
    ) -> None:
        self._encode, self.model, self.alone = encode, model, alone

    @classmethod
    def of_backbone(
        cls,
        name: str = DEFAULT_MODEL,
        checkpoint: str | Path | None = None,
        up_axis: str | None = None,
        device: str = "cpu",
        sizes: dict[str, Any] | None = None,
    ) -> "ShapeEncoder":
        """The retrieval features of a frozen backbone.

        Args:
            name: one of :func:`pointpeft.list_models`.
            checkpoint: its weights, as for fine-tuning; None: those that come with the package.
            up_axis: axis of the files that points up, by default y.
            device: "cpu" or "cuda".
            sizes: settings of the backbone and ``num_points``, over those of the weights.

        Raises:
            ConfigError: no such model, or one without a feature of a shape.
            CheckpointError: no weights, or they do not fit.
        """
        if get_entry(name).backbone is None:
            raise ConfigError(f"`model` {name} is a tokenizer: it has no feature of a shape")
        backbone = _load_backbone(name, checkpoint, sizes or {})
        backbone.to(device).eval()
        spec = backbone.spec
        transform = InputTransform(spec.num_points, up_axis=up_axis or "y")  # type: ignore[arg-type]
        stated = _plain(spec.config | {"num_points": spec.num_points})
        model = FeatureModel(name, stated, state_hash(backbone), transform)
        return cls(lambda points: extract_features(backbone, points), model)

    @classmethod
    def of_adapter(
        cls,
        folder: str | Path,
        checkpoint: str | Path | None = None,
        up_axis: str | None = None,
        device: str = "cpu",
    ) -> "ShapeEncoder":
        """What enters the head of an adapted classifier.

        Arguments are those of :class:`pointpeft.measure.loaded_adapter.LoadedAdapter`.

        Raises:
            ConfigError: the adapter is for part segmentation.
            CheckpointError: no adapter, or the weights of its encoder are not found.
        """
        loaded = LoadedAdapter(folder, checkpoint, up_axis, device)
        if loaded.parts is not None:
            raise ConfigError(
                f"`adapter` {folder} is for {loaded.task}: it has features of points, not of shapes"
            )
        adapted = loaded.model
        spec = adapted.base_spec
        stated = _plain(spec.config | {"num_points": spec.num_points})
        own = tensors_hash(adapted.adapter.stored_state())
        model = FeatureModel(spec.name, stated, adapted.base_hash, loaded.transform, own)
        alone = adapted.tuner.depends_on_batch
        return cls(lambda points: model_outputs(adapted, points).features, model, alone)

    @classmethod
    def like(
        cls,
        model: FeatureModel,
        checkpoint: str | Path | None = None,
        adapter: str | Path | None = None,
        up_axis: str | None = None,
        device: str = "cpu",
    ) -> "ShapeEncoder":
        """The encoder that made some features.

        Args:
            model: what it was.
            checkpoint: weights of its backbone, where they do not come with the package.
            adapter: folder of its adapter, if it had one.
            up_axis: axis of the files that points up, if not as for those features.
            device: "cpu" or "cuda".

        Raises:
            ConfigError: an adapter is needed, or there was none.
            CheckpointError: these are other weights, or none were found.
        """
        up_axis = up_axis or model.transform.up_axis
        if (adapter is not None) != (model.adapter is not None):
            needs = "pass the folder of that as `adapter`" if model.adapter else "leave it out"
            raise ConfigError(f"`adapter`: the features were made by {model}; {needs}")
        if checkpoint is None and adapter is None and not has_embedded_weights(model.name):
            raise CheckpointError(
                f"the features were made by {model}, which do not come with the package; pass "
                "their file as `checkpoint`"
            )
        sizes = dict(model.sizes)
        try:
            if adapter is not None:
                found = cls.of_adapter(adapter, checkpoint, up_axis, device)
            else:
                found = cls.of_backbone(model.name, checkpoint, up_axis, device, sizes)
        except CheckpointError as error:
            raise CheckpointError(f"the features were made by {model}: {error}") from error
        if differences := found.model.differs(model):
            remedy = "" if adapter or checkpoint else "; pass their file as `checkpoint`"
            raise CheckpointError(
                f"the model is another one than that of the features: {differences}{remedy}"
            )
        return found

    def encode(self, points: Tensor) -> NDArray[np.float16]:
        """Features ``(B, C)`` of unit length of prepared clouds ``(B, N, 3)``.

        Raises:
            CheckpointError: features are not finite.
        """
        return self.encode_with_lengths(points)[0]

    def encode_with_lengths(self, points: Tensor) -> tuple[NDArray[np.float16], NDArray]:
        """The same, and their lengths ``(B,)`` before, float32."""
        batches = points.split(1 if self.alone else len(points))
        features = np.concatenate([self._encode(batch) for batch in batches])
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise CheckpointError(
                f"{self.model}: features are NaN, infinite or zero: the weights are damaged"
            )
        return (features / lengths).astype(np.float16), lengths[:, 0].astype(np.float32)


def embed(
    sources: str | Path | Sequence[str | Path],
    model: str | None = None,
    checkpoint: str | Path | None = None,
    adapter: str | Path | None = None,
    like: Index | None = None,
    batch_size: int = 32,
    up_axis: str | None = None,
    variant: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Index:
    """One feature for every shape.

    Args:
        sources: a data set ("homeobjects", an ``.npz``, a folder), or meshes, scans and folders.
        model: name of the backbone, by default "point_mae_small".
        checkpoint: weights of the backbone, as for fine-tuning; by default those that come with the
            package, and of an adapter where it says that they are.
        adapter: adapter or run folder: features are what enters its head. By default they are the
            retrieval features of the frozen backbone.
        like: an index; features are made by the same model, which is checked by its hash.
        batch_size: clouds that are encoded at once.
        up_axis: axis of the files that points up; by default y, or as in the adapter or index.
        variant: name of a benchmark data set, where a folder holds several.
        device: "auto", "cpu" or "cuda".
        progress: called with (done, total) shapes.

    Returns:
        Features of the usable shapes, and the ``problems`` of the others.

    Raises:
        ConfigError: settings that exclude each other, or a model without features of shapes.
        CheckpointError: weights are not found, do not fit, or are others than those of ``like``.
        DataError: there is no such source, or none of its shapes is usable.

    Example:
        >>> import pointpeft as pp
        >>> index = pp.embed("homeobjects")
        >>> places, similarities = index.search(index.features[:1], top=3)
    """
    if batch_size < 1:
        raise ConfigError(f"`batch_size` must be at least 1, got {batch_size}")
    if model is not None and (adapter is not None or like is not None):
        by = "`adapter` states" if adapter is not None else "the index states"
        raise ConfigError(f"`model` {model}: {by} which one it is; leave it out")
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    listing, source = list_sources(given, variant)
    device = choose_device(device)
    if like is not None:
        encoder = ShapeEncoder.like(like.model, checkpoint, adapter, up_axis, device)
    elif adapter is not None:
        encoder = ShapeEncoder.of_adapter(adapter, checkpoint, up_axis, device)
    else:
        encoder = ShapeEncoder.of_backbone(model or DEFAULT_MODEL, checkpoint, up_axis, device)
    return _embed(listing, source, encoder, batch_size, progress)


def _embed(
    listing: Listing,
    source: ShapeSource,
    encoder: ShapeEncoder,
    batch_size: int,
    progress: Progress | None,
) -> Index:
    """Read and encode, a batch at a time: no more clouds than that are in memory."""
    transform, cache = encoder.model.transform, cloud_cache(encoder.model.transform)
    features: list[NDArray[np.float16]] = []
    usable: list[Item] = []
    problems: list[Problem] = []
    noted: list[tuple[str, Sequence[str]]] = []
    waiting: list[NDArray[np.float32]] = []

    def encode_waiting() -> None:
        if waiting:
            features.append(encoder.encode(torch.from_numpy(np.stack(waiting))))
            waiting.clear()

    results = prepared_items(listing.items, cache)
    for item, result in reported(results, len(listing.items), progress):
        if not isinstance(result, Prepared):
            problems.append(_problem(item, result))
            continue
        usable.append(item)
        noted.append((item.id, result.notes))
        waiting.append(result.points[: transform.num_points])
        if len(waiting) == batch_size:
            encode_waiting()
    encode_waiting()
    if not usable:
        raise DataError(f"{source.root}: no usable shape\n{problem_lines(problems)}")
    names = listing.class_names
    number: dict[str | None, int] = {name: label for label, name in enumerate(names)}
    return Index(
        features=np.concatenate(features),
        ids=tuple(item.id for item in usable),
        labels=np.array([number.get(item.class_name, -1) for item in usable], dtype=np.int64),
        class_names=names,
        model=encoder.model,
        source=source,
        problems=tuple(problems),
        notes=(*listing.notes, *item_notes(noted), *cache.notes),
    )


def _problem(item: Item, error: Exception) -> Problem:
    """Why an item cannot be used, without its name."""
    reason = error.strerror if isinstance(error, OSError) else None
    return Problem(item.id, reason or str(error).removeprefix(f"{item.origin}: "))


def _load_backbone(name: str, checkpoint: str | Path | None, sizes: dict[str, Any]) -> Trunk:
    """A backbone with its weights; never a random one."""
    backbone: Trunk
    if checkpoint is None or names_embedded(checkpoint, name):
        backbone = create_model(name, pretrained=True, **sizes)
        return backbone
    path = resolve_checkpoint(checkpoint)
    if not sizes:
        backbone = create_model(name, checkpoint=path)
        return backbone
    backbone = build_backbone(name, sizes)
    load_into(backbone, path)
    return backbone


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain
