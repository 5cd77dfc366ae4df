"""The shapes that an adapter is measured on; none that it was trained on is called a test."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pointpeft.compat.protocol import find_protocol
from pointpeft.data import ShapeData, ShapeSplit, load_shapes
from pointpeft.data.cache import unpack_digests
from pointpeft.data.transforms import pool_size
from pointpeft.errors import CheckpointError, DataError
from pointpeft.formats import enumerate_names
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.measure.records import EvaluateConfig
from pointpeft.training.config import DataConfig

__all__ = ["Measured", "read_measured"]

_CUT = {"seed", "val_fraction", "shapes", "digest"}
"""What an adapter says of how its data was cut; older ones have a `digest` of names, of no use."""
_UNKNOWN = (
    "the adapter does not say which shapes it was trained on: some of those measured may be among "
    "them"
)


@dataclass(frozen=True)
class Measured:
    """Shapes to measure, and what they are of.

    Attributes:
        data: the whole data, cut as it was for training where the adapter was trained on it.
        part: the shapes of it that are measured.
        split: what they are called.
        seen: the shapes of it that the adapter was trained on.
    """

    data: ShapeData
    part: ShapeSplit
    split: str
    seen: ShapeSplit


def read_measured(
    config: EvaluateConfig,
    adapter: LoadedAdapter,
    segmented: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Read data, and choose what of it is measured.

    Each shape is known by its content. Those that the adapter was trained on, or that chose its
    epoch, are no test, wherever they lie now and whatever lies beside them.

    Args:
        config: what is asked for.
        adapter: what is measured.
        segmented: whether every point must have a part label.
        progress: called with (done, total) while shapes are read.

    Raises:
        DataError: unusable data, of other classes, or none of it is left to measure.
        CheckpointError: the adapter says in another way than ours do what it was trained on.
    """
    known = _known(config, adapter)
    data = _read(config, adapter, segmented, progress)
    shapes = _Shapes(data, known or {}, adapter)
    part, split, notes = shapes.choose(config)
    if known is None:
        notes.append(_UNKNOWN)
    if not len(part):
        raise DataError(
            f"{config.data}: no shape is left to measure as {split}: {'; '.join(notes) or 'none'}"
        )
    data = replace(shapes.as_in_training(), notes=(*data.notes, *notes))
    return Measured(data, part, split, shapes.of("train", data.train))


def _read(
    config: EvaluateConfig,
    adapter: LoadedAdapter,
    segmented: bool,
    progress: Callable[[int, int], None] | None,
) -> ShapeData:
    """The data in the splits that it states itself."""
    asked = DataConfig(source=config.data, variant=config.variant, seed=config.seed)
    protocol = find_protocol(config.protocol)
    data = protocol.read(asked, adapter.transform, segmented=segmented, progress=progress)
    if data is not None:
        _check_classes(data, adapter)
        pool = pool_size(adapter.transform.num_points)
        return replace(data, train=protocol.in_order(data.train, pool))
    return load_shapes(
        config.data,
        adapter.transform,
        variant=config.variant,
        class_names=adapter.class_names,
        segmented=segmented,
        parts=adapter.parts,
        progress=progress,
        val_fraction=0.0,
        seed=(adapter.split or {}).get("seed", 0),  # samples surfaces as they were for training
    )


def _check_classes(data: ShapeData, adapter: LoadedAdapter) -> None:
    """Refuse data of other classes, where labels are numbers of all classes of the set.

    A model may have more outputs than that: Point-BERT's paper has 40 on ScanObjectNN.
    """
    if data.class_names != adapter.class_names[: len(data.class_names)]:
        raise DataError(
            f"the adapter knows the classes {', '.join(adapter.class_names)}; the data set has "
            f"{', '.join(data.class_names)}: measure it with protocol honest"
        )


def _known(config: EvaluateConfig, adapter: LoadedAdapter) -> dict[str, frozenset[str]] | None:
    """What the shapes of each split in training are known by; None: the adapter does not say."""
    recorded: Any = adapter.split or {}
    try:
        if set(recorded) - _CUT or type(recorded.get("seed", 0)) is not int:
            raise ValueError("expected a seed, val_fraction and shapes")
        shapes = recorded.get("shapes", {})
        if set(shapes) - {"train", "val", "test"}:
            raise ValueError("expected shapes of train, val and test")
        known = {split: frozenset(unpack_digests(packed)) for split, packed in shapes.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the adapter in {config.adapter} is damaged: `split` of its input, which states how "
            f"data was cut and a hash of each of the shapes, is {str(recorded)[:200]}: {error}"
        ) from error
    return known if any(known.values()) else None


class _Shapes:
    """The shapes of a data set, told apart by what they were in training."""

    def __init__(
        self, data: ShapeData, known: dict[str, frozenset[str]], adapter: LoadedAdapter
    ) -> None:
        self.data, self.known = data, known
        splits = [data.train, data.val, data.test]
        self.splits = splits if data.selects_on == "val" else splits[::2]
        self.is_stated = len(data.val) > 0 or len(data.test) > 0
        everything = frozenset().union(*known.values())
        self.are_known = any(split.among(everything).any() for split in self.splits)
        family = (adapter.model.input or {}).get("family")
        if known and family is not None and family == data.family:
            trained = known.get("train", frozenset()) | self._trained_in_another_form()
            self.known = known | {"train": trained}

    def of(self, split: str, part: ShapeSplit) -> ShapeSplit:
        """The shapes of a part that were in a split in training."""
        return part.subset(self._were_in(split, part))

    def as_in_training(self) -> ShapeData:
        """The data without validation shapes that were trained on, and cut where it was cut."""
        data = self.data
        if self.is_stated or not self.are_known:
            if data.selects_on == "test" or not len(data.val):
                return data
            return replace(data, val=data.val.subset(~self._were_in("train", data.val)))
        train, val, test = (self.of(split, data.train) for split in ("train", "val", "test"))
        return replace(data, train=train, val=val, test=test)

    def choose(self, config: EvaluateConfig) -> tuple[ShapeSplit, str, list[str]]:
        """The shapes to measure, what they are called, and what is to be said of them."""
        split = config.split or "test"
        if split == "val" and self.are_known and "val" not in self.known:
            raise DataError(
                f"{config.data} has no val split: the adapter had no validation split in training, "
                "its epoch was selected on the test split; measure that"
            )
        part = self._joined() if split == "all" else getattr(self.data, split)
        if split in ("train", "all"):
            if split == "train" and self.are_known and not self.is_stated:
                part = self.of(split, part)
            return part, split, self._trained(part, "the adapter was trained on {} of the {}")
        if not len(part):
            if not self.are_known and config.split is not None:
                raise DataError(f"{config.data} has no {split} split; measure another one, or all")
            part = self._joined()  # all of new data is a test
            part = part if split == "test" else self.of(split, part)
        if self.data.selects_on == "test":
            words = "{} of the {} test shapes are copies of training shapes, and measured too"
            return part, split, self._trained(part, words)
        return self._unseen(part, split)

    def _unseen(self, part: ShapeSplit, split: str) -> tuple[ShapeSplit, str, list[str]]:
        """Shapes without those trained on and, of a test, without those validated on."""
        notes = self._trained(part, "{} of the {} shapes were trained on and are left out")
        left_out = self._were_in("train", part)
        chose = self._were_in("val", part) & ~left_out
        if split == "test" and chose.any():
            notes.append(f"{chose.sum()} more were validated on in training and are left out")
            left_out |= chose
        elif chose.any():
            notes.append(f"{chose.sum()} of these shapes were validated on in training: the test "
                         "split is a fairer measure")  # fmt: skip
        part = part.subset(~left_out) if left_out.any() else part
        new = np.flatnonzero(~self._were_in(split, part))
        if self.are_known and len(new):
            names = enumerate_names(part.ids[place] for place in new)
            notes.append(f"no part of the training run: {len(new)} of the {len(part)} ({names})")
        return part, split, notes

    def _trained_in_another_form(self) -> frozenset[str]:
        """What the training part of a benchmark data set is known by, where the adapter was trained
        on that of a relative: they hold the same objects, also where no item tells which is which.
        """
        train = self.data.train
        held_out = self._were_in("val", train) | self._were_in("test", train)
        return train.subset(~held_out).marks()

    def _were_in(self, split: str, part: ShapeSplit) -> np.ndarray:
        """Which shapes of a part were in a split in training, `(S,)` bool."""
        return part.among(self.known.get(split, frozenset()))

    def _trained(self, part: ShapeSplit, words: str) -> list[str]:
        count = int(self._were_in("train", part).sum())
        return [words.format(count, len(part))] if count else []

    def _joined(self) -> ShapeSplit:
        parts = [part for part in self.splits if len(part)]
        return parts[0] if len(parts) == 1 else ShapeSplit.joined(parts)
