"""Search among more features than can be compared one by one in a second or two, by FAISS."""

import logging
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointpeft.files import replacing
from pointpeft.measure.nearest import Matches, unit_blocks, unit_rows

__all__ = ["COMPARED_ONE_BY_ONE", "nearest_cells", "neighbour_cells"]

log = logging.getLogger("pointpeft")

COMPARED_ONE_BY_ONE = 1_000_000
"""Features up to which a search is exact whatever is installed."""
_CELLS_PER_ROOT = 4
_SEARCHED = 1 / 16
"""Share of the cells that is searched: of ten neighbours, 9.9 are the right ones on average."""
_SAMPLE = 40
"""Features for each cell that cells are placed by."""


def neighbour_cells(features: NDArray, file: Path | None) -> Any:
    """FAISS's inverted file of the features, in half precision; None where it is not installed.

    Making it takes about two minutes for every million features, so it is kept in a file.

    Args:
        features: ``(S, C)``.
        file: that of the features; the cells are kept beside it. None: nowhere.
    """
    try:
        import faiss
    except ImportError:
        log.warning(
            "%d shapes are compared one by one; 'pip install pointpeft[index]' makes that faster",
            len(features),
        )
        return None
    beside = None if file is None else file.with_name(f"{file.name}.faiss")
    cells = _kept(faiss, features, file, beside)
    if cells is None:
        before = file.stat() if file else None
        cells = _made(faiss, features)
        if beside is not None and before is not None:
            with replacing(beside) as temporary:
                faiss.write_index(cells, str(temporary))
                os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
    return cells


def nearest_cells(cells: Any, queries: NDArray, top: int) -> Matches:
    """What :func:`pointpeft.measure.nearest.nearest` finds, but for a few that it misses."""
    queries, top = unit_rows(queries), min(top, cells.ntotal)
    cells.nprobe = max(1, round(_SEARCHED * cells.nlist))
    similarities, places = cells.search(queries, top)
    if (places < 0).any():  # there are fewer in the cells that were searched
        cells.nprobe = cells.nlist
        similarities, places = cells.search(queries, top)
    return Matches(places.astype(np.int64), np.clip(similarities, -1, 1))


def _kept(faiss: ModuleType, features: NDArray, file: Path | None, beside: Path | None) -> Any:
    """Cells that were made of a file as it is now: they have its time."""
    if file is None or beside is None or not beside.is_file():
        return None
    if beside.stat().st_mtime_ns != file.stat().st_mtime_ns:
        return None
    try:
        cells = faiss.read_index(str(beside), faiss.IO_FLAG_MMAP)  # a search reads what it looks at
    except RuntimeError:  # damaged: it is made anew
        return None
    return cells if (cells.ntotal, cells.d) == features.shape else None


def _made(faiss: ModuleType, features: NDArray) -> Any:
    count = min(int(_CELLS_PER_ROOT * len(features) ** 0.5), len(features) // _SAMPLE)
    cells = faiss.index_factory(
        features.shape[1], f"IVF{max(1, count)},SQfp16", faiss.METRIC_INNER_PRODUCT
    )
    log.warning("%d shapes are put into %d cells, once for all", len(features), cells.nlist)
    sample = np.random.default_rng(0).permutation(len(features))[: _SAMPLE * cells.nlist]
    cells.train(unit_rows(features[np.sort(sample)]))
    for _, rows in unit_blocks(features):
        cells.add(rows)
    return cells
