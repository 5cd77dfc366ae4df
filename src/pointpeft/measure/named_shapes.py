"""Shapes that an adapter remembers, looked for in the data that it was trained on."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointpeft.data import InputTransform
from pointpeft.data.cache import PreparedCache
from pointpeft.data.prepare import Prepared
from pointpeft.data.prepared_items import prepared_items
from pointpeft.data.shapes import choose_num_stored, list_shapes
from pointpeft.errors import DataError
from pointpeft.locations import anonymous

__all__ = ["NamedShape", "find_shapes"]


class NamedShape(NamedTuple):
    """A training shape: its name, and its points ``(N, 3)`` as made ready for training."""

    name: str
    points: NDArray[np.float32]


def find_shapes(
    source: str | Path,
    transform: InputTransform,
    known: Collection[str],
    variant: str | None = None,
    seed: int = 0,
) -> dict[str, NamedShape]:
    """Shapes by what they are known by; no others are kept in memory.

    Training shapes come first, and reading ends with the last one that is known.

    Args:
        source: a data set, as for training.
        transform: how shapes are prepared.
        known: hashes of names or of geometries, see :func:`pointpeft.locations.anonymous`.
        variant: name of a benchmark data set, where the folder holds several.
        seed: of surface sampling; that of training finds shapes in the cache.

    Raises:
        DataError: the source is missing or of another form, or holds none of the shapes.
    """
    listing = list_shapes(source, variant)
    cache = PreparedCache(None, transform, choose_num_stored(listing, transform), seed)
    items = sorted(listing.items, key=lambda item: item.split in ("val", "test"))
    lacking, found = set(known), {}
    for item, one in prepared_items(items, cache):
        if not isinstance(one, Prepared):
            continue
        if marks := lacking.intersection(map(anonymous, (item.id, one.digest))):
            shape = NamedShape(item.id, one.points.astype(np.float32))
            found.update(dict.fromkeys(marks, shape))
            lacking -= marks
        if not lacking:
            break
    if not found:
        raise DataError(
            f"`neighbors_from` {source} holds none of the shapes that the adapter remembers of its "
            "training; give the data that it was trained on"
        )
    return found
