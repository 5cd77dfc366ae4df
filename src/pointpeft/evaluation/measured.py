"""The shapes that an adapter is measured on; none that it was trained on is called a test."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pointpeft.data import ShapeData, ShapeSplit, load_shapes
from pointpeft.data.published.protocol import load_as_published
from pointpeft.data.shapes import absolute_source
from pointpeft.data.splits import Item, assign_splits, split_digest
from pointpeft.errors import CheckpointError, DataError
from pointpeft.evaluation.config import EvaluateConfig
from pointpeft.evaluation.predictor import LoadedAdapter
from pointpeft.locations import anonymous

__all__ = ["Measured", "read_measured"]

_CUT = ("seed", "val_fraction")
"""What an adapter says of how its data was cut."""
_DIGEST = "digest"
"""What it may say beside it: hashes of the shapes' names by split, by which the data is known."""
_RECOGNISED = (
    "the shapes have the names of those that the adapter was trained on, so they are cut as they "
    "were in training; split=all measures all of them"
)
_UNKNOWN = (
    "the adapter does not say which shapes it was trained on: some of those measured may be among "
    "them"
)


@dataclass(frozen=True)
class Measured:
    """Shapes to measure, and what they are of.

    Attributes:
        data: the whole data.
        part: the shapes of it that are measured.
        split: what they are called.
        seen: the shapes of it that the adapter was trained on; none of other data.
    """

    data: ShapeData
    part: ShapeSplit
    split: str
    seen: ShapeSplit


def read_measured(
    config: EvaluateConfig,
    adapter: LoadedAdapter,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Read data, and choose what of it is measured.

    Data that the adapter was trained on is known by its place, or by the names of its shapes where
    both were moved. Without stated parts it is cut as it was for training; other data is not cut.

    Args:
        config: what is asked for.
        adapter: what is measured.
        progress: called with (done, total) while shapes are read.

    Raises:
        DataError: unusable data, of other classes, none of it in the split, or it has changed since
            the adapter was trained on it.
        CheckpointError: the adapter says in another way than ours do how its data was cut.
    """
    data, trained_on = _read(config, adapter, progress)
    if adapter.split is None:
        data = replace(data, notes=(*data.notes, _UNKNOWN))
    part, split = _choose(config, adapter, data, trained_on)
    return Measured(data, part, split, data.train if trained_on else data.train.subset([]))


def _read(
    config: EvaluateConfig,
    adapter: LoadedAdapter,
    progress: Callable[[int, int], None] | None,
) -> tuple[ShapeData, bool]:
    """The data, and whether the adapter was trained on it."""
    cut = _recorded_cut(config, adapter)
    place = absolute_source(config.data)
    is_in_place = adapter.source in (place, anonymous(place))
    if config.protocol == "published":
        data = load_as_published(
            config.data, config.variant, adapter.transform, seed=config.seed,
            segmented=adapter.parts is not None, progress=progress,
        )  # fmt: skip
        if data is not None:
            _check_classes(data, adapter)
            return data, is_in_place or _kept(adapter) == data.digests()

    def load(**cut: Any) -> ShapeData:
        return load_shapes(
            config.data,
            adapter.transform,
            variant=config.variant,
            class_names=adapter.class_names,
            segmented=adapter.parts is not None,
            parts=adapter.parts,
            progress=progress,
            **cut,
        )

    if is_in_place:
        return load(**cut), True
    data = load(val_fraction=0.0)
    if not _is_known(data, _kept(adapter), cut):
        return data, False
    data = load(**cut)  # also samples surfaces as they were for training
    return replace(data, notes=(*data.notes, _RECOGNISED)) if data.cut else data, True


def _check_classes(data: ShapeData, adapter: LoadedAdapter) -> None:
    """Refuse data of other classes: as published, labels are numbers of all classes of the set.

    A model may have more outputs than that: published Point-BERT has 40 on ScanObjectNN.
    """
    if data.class_names != adapter.class_names[: len(data.class_names)]:
        raise DataError(
            f"the adapter knows the classes {', '.join(adapter.class_names)}; the data set has "
            f"{', '.join(data.class_names)}: measure it with protocol honest"
        )


def _kept(adapter: LoadedAdapter) -> dict[str, str] | None:
    """Digests of the splits that the adapter was trained, selected and tested on, if it has any."""
    return (adapter.split or {}).get(_DIGEST) or None


def _recorded_cut(config: EvaluateConfig, adapter: LoadedAdapter) -> dict[str, Any]:
    """How the data was cut for training, as arguments of :func:`load_shapes`."""
    cut = adapter.split
    if cut is None:  # it was saved by hand, or converted
        return {}
    if (
        not isinstance(cut, dict)
        or set(cut) - {_DIGEST} != set(_CUT)
        or not isinstance(cut.get(_DIGEST, {}), dict)
    ):
        raise CheckpointError(
            f"the adapter in {config.adapter} is damaged: the `split` of its input must state "
            f"{' and '.join(_CUT)} alone, beside a table `{_DIGEST}` that may be there, got {cut!r}"
        )
    needed, kept, nothing = ["test", "val"], _kept(adapter), split_digest(())
    if kept is not None:  # what training did not have is not cut now
        needed = [part for part in needed if kept.get(part, nothing) != nothing]
    return {key: cut[key] for key in _CUT} | {"needed": needed}


def _is_known(data: ShapeData, kept: dict[str, str] | None, cut: dict[str, Any]) -> bool:
    """Whether data that is not cut yet has, once it is cut, the splits whose digests were kept."""
    if kept is None:
        return False
    uncut = [
        Item(name, data.class_names[label], split, Path(name))
        for split in ("train", "val", "test")
        for name, label in zip(getattr(data, split).ids, getattr(data, split).labels, strict=True)
    ]
    items, _ = assign_splits(uncut, **cut)
    return all(
        digest == split_digest(item.id for item in items if item.split == split)
        for split, digest in kept.items()
    )


def _choose(
    config: EvaluateConfig, adapter: LoadedAdapter, data: ShapeData, trained_on: bool
) -> tuple[ShapeSplit, str]:
    """The shapes to measure, and what they are called."""
    # Of new data all is a test; of the data trained on, only what was kept apart.
    if config.split is None and not len(data.test) and not trained_on:
        return _whole(data), "test"
    split = config.split or "test"
    if split == "all":
        return _whole(data), split
    part: ShapeSplit = getattr(data, split)
    kept = _kept(adapter)
    if trained_on and split == "val" and kept is not None and "val" not in kept:
        raise DataError(
            f"{config.data} has no val split: the adapter had no validation split in training, its "
            "epoch was selected on the test split; measure that"
        )
    if not len(part):
        raise DataError(f"{config.data} has no {split} split; measure another one, or all of it")
    if trained_on and split != "train":
        _check_unseen(config, adapter, part, split, split in data.cut)
    return part, split


def _check_unseen(
    config: EvaluateConfig, adapter: LoadedAdapter, part: ShapeSplit, split: str, is_cut: bool
) -> None:
    """Refuse to call shapes a test that the adapter was trained on.

    A memory bank, made of training shapes, names them. Without one, a split that is cut from the
    data must hold the very shapes that were kept apart in training.
    """
    bank = adapter.model.bank
    trained_on = {anonymous(name) for name in bank.ids} if bank is not None else set()
    seen = sorted(name for name in part.ids if anonymous(name) in trained_on)
    kept = _kept(adapter) if is_cut else None
    if seen:
        trained = (
            f"{len(seen)} of the {len(part)} shapes that would be measured, such as {seen[0]}, "
            "were trained on"
        )
    elif kept and kept.get(split) != split_digest(part.ids):
        trained = (
            f"the {len(part)} shapes that would be measured are not those that were kept apart, "
            "so some of them may have been trained on"
        )
    else:
        return
    raise DataError(
        f"{config.data} has changed since the adapter was trained on it: {trained}; restore it, or "
        "measure shapes of another folder"
    )


def _whole(data: ShapeData) -> ShapeSplit:
    parts = (data.train, data.val, data.test)
    return ShapeSplit(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(name for part in parts for name in part.ids),
        None if data.train.seg is None else np.concatenate([part.seg for part in parts]),
    )
