"""The shapes that an adapter is measured on; none that it was trained on is called a test."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from pointpeft.data import ShapeData, ShapeSplit, load_shapes
from pointpeft.data.published.protocol import load_as_published
from pointpeft.errors import CheckpointError, DataError
from pointpeft.evaluation.config import EvaluateConfig
from pointpeft.evaluation.predictor import LoadedAdapter

__all__ = ["Measured", "read_measured"]

_CUT = {"seed", "val_fraction", "shapes"}
"""What an adapter says of how its data was cut."""
_LISTED = 5
"""New shapes that a note names before it says how many more there are."""
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
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Read data, and choose what of it is measured.

    Each shape is known by its content. Those that the adapter was trained on, or that chose its
    epoch, are no test, wherever they lie now and whatever lies beside them.

    Args:
        config: what is asked for.
        adapter: what is measured.
        progress: called with (done, total) while shapes are read.

    Raises:
        DataError: unusable data, of other classes, or none of it is left to measure.
        CheckpointError: the adapter says in another way than ours do what it was trained on.
    """
    known = _known(config, adapter)
    data = _read(config, adapter, progress)
    shapes = _Shapes(data, known)
    if known is None:
        data = replace(data, notes=(*data.notes, _UNKNOWN))
    elif shapes.are_known:
        data = shapes.as_in_training()
    part, split, notes = shapes.choose(config)
    if not len(part):
        raise DataError(
            f"{config.data}: no shape is left to measure as {split}: {'; '.join(notes) or 'none'}"
        )
    data = replace(data, notes=(*data.notes, *notes))
    return Measured(data, part, split, shapes.of("train"))


def _read(
    config: EvaluateConfig,
    adapter: LoadedAdapter,
    progress: Callable[[int, int], None] | None,
) -> ShapeData:
    """The data in the splits that it states itself."""
    if config.protocol == "published":
        data = load_as_published(
            config.data, config.variant, adapter.transform, seed=config.seed,
            segmented=adapter.parts is not None, progress=progress,
        )  # fmt: skip
        if data is not None:
            _check_classes(data, adapter)
            return data
    return load_shapes(
        config.data,
        adapter.transform,
        variant=config.variant,
        class_names=adapter.class_names,
        segmented=adapter.parts is not None,
        parts=adapter.parts,
        progress=progress,
        val_fraction=0.0,
        seed=(adapter.split or {}).get("seed", 0),  # samples surfaces as they were for training
    )


def _check_classes(data: ShapeData, adapter: LoadedAdapter) -> None:
    """Refuse data of other classes: as published, labels are numbers of all classes of the set.

    A model may have more outputs than that: published Point-BERT has 40 on ScanObjectNN.
    """
    if data.class_names != adapter.class_names[: len(data.class_names)]:
        raise DataError(
            f"the adapter knows the classes {', '.join(adapter.class_names)}; the data set has "
            f"{', '.join(data.class_names)}: measure it with protocol honest"
        )


def _known(config: EvaluateConfig, adapter: LoadedAdapter) -> dict[str, frozenset[str]] | None:
    """Digests of the shapes of each split in training; None: the adapter does not say."""
    recorded: Any = adapter.split or {}
    shapes = recorded.get("shapes", {}) if isinstance(recorded, dict) else recorded
    is_table = isinstance(shapes, dict) and all(
        isinstance(digests, list) and all(isinstance(digest, str) for digest in digests)
        for digests in shapes.values()
    )
    is_ours = is_table and set(shapes) <= {"train", "val", "test"} and set(recorded) <= _CUT
    if not is_ours or type(recorded.get("seed", 0)) is not int:
        raise CheckpointError(
            f"the adapter in {config.adapter} is damaged: `split` of its input must state a seed, "
            f"val_fraction and shapes, lists of hashes by split, got {str(recorded)[:200]}"
        )
    if not any(shapes.values()):
        return None
    return {split: frozenset(digests) for split, digests in shapes.items()}


class _Shapes:
    """The shapes of a data set, told apart by what they were in training."""

    def __init__(self, data: ShapeData, known: dict[str, frozenset[str]] | None) -> None:
        self.data, self.known = data, known or {}
        splits = [data.train, data.val, data.test]
        self.splits = splits[::2] if data.val is data.test else splits
        self.is_stated = len(data.val) > 0 or len(data.test) > 0
        everything = frozenset().union(*self.known.values()) if self.known else frozenset()
        self.are_known = any(set(split.digests) & everything for split in self.splits)

    def of(self, split: str) -> ShapeSplit:
        """The shapes that were in a split in training."""
        return self._with(self.known.get(split, frozenset()))

    def as_in_training(self) -> ShapeData:
        """The data cut as it was, where it states no splits itself."""
        if self.is_stated:
            return self.data
        train, val, test = (self.of(split) for split in ("train", "val", "test"))
        return replace(self.data, train=train, val=val, test=test)

    def choose(self, config: EvaluateConfig) -> tuple[ShapeSplit, str, list[str]]:
        """The shapes to measure, what they are called, and what is to be said of them."""
        split = config.split or "test"
        if split == "all":
            whole = ShapeSplit.joined([part for part in self.splits if len(part)])
            return whole, split, self._trained(whole, "the adapter was trained on {} of the {}")
        if split == "val" and self.are_known and "val" not in self.known:
            raise DataError(
                f"{config.data} has no val split: the adapter had no validation split in training, "
                "its epoch was selected on the test split; measure that"
            )
        stated: ShapeSplit = getattr(self.data, split)
        if split == "train":
            return (stated if self.is_stated or not self.are_known else self.of(split)), split, []
        if len(stated):
            part = stated
        elif self.are_known:
            part = self._joined() if split == "test" else self.of(split)
        elif config.split is None:
            part = self._joined()  # all of new data is a test
        else:
            raise DataError(f"{config.data} has no {split} split; measure another one, or all")
        return self._unseen(part, split)

    def _unseen(self, part: ShapeSplit, split: str) -> tuple[ShapeSplit, str, list[str]]:
        """Shapes without those trained on and, of a test, without those that chose the epoch."""
        notes = self._trained(part, "{} of the {} shapes were trained on and are left out")
        train, val = (self.known.get(name, frozenset()) for name in ("train", "val"))
        chose = set(part.digests) & val - train
        if split == "test" and chose:
            notes.append(f"{len(chose)} more chose the epoch in training and are left out")
        left_out = train | val if split == "test" else train
        part = _subset(part, lambda digest: digest not in left_out)
        new = [
            name
            for name, digest in zip(part.ids, part.digests, strict=False)
            if digest not in self.known.get(split, ())
        ]
        if self.are_known and new and len(new) < len(part):
            more = f" and {len(new) - _LISTED} more" if len(new) > _LISTED else ""
            notes.append(f"{len(new)} are new since training: {', '.join(new[:_LISTED])}{more}")
        return part, split, notes

    def _trained(self, part: ShapeSplit, words: str) -> list[str]:
        train = self.known.get("train", frozenset())
        count = sum(digest in train for digest in part.digests)
        return [words.format(count, len(part))] if count else []

    def _joined(self) -> ShapeSplit:
        return ShapeSplit.joined([part for part in self.splits if len(part)])

    def _with(self, digests: Collection[str]) -> ShapeSplit:
        found = [_subset(part, lambda digest: digest in digests) for part in self.splits]
        return ShapeSplit.joined([part for part in found if len(part)] or found[:1])


def _subset(part: ShapeSplit, keep: Callable[[str], bool]) -> ShapeSplit:
    if not part.digests:
        return part if keep("") else part.subset([])
    chosen = [place for place, digest in enumerate(part.digests) if keep(digest)]
    return part if len(chosen) == len(part) else part.subset(chosen)
