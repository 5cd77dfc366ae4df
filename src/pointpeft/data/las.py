"""Reader of laser scans in LAS and LAZ files (`.las`, `.laz`), by laspy."""

from pathlib import Path

import numpy as np

from pointpeft.data.polygons import Geometry
from pointpeft.errors import DataError

__all__ = ["parse_las"]

_MOST_POINTS = 100_000_000
"""Points that are read of one scan; 2.4 GB of coordinates."""


def parse_las(path: Path) -> tuple[Geometry, np.ndarray]:
    """Points of a scan in the unit of its projection, and their classification.

    Args:
        path: The file.

    Returns:
        The cloud, and a class `(N,)` int64 for every point.

    Raises:
        DataError: laspy is not installed, or the file is damaged or too large.
    """
    try:
        import laspy
    except ImportError:
        raise DataError(
            "LAS and LAZ files need laspy; install it with 'pip install pointpeft[las]'"
        ) from None
    with laspy.open(path) as file:
        if file.header.point_count > _MOST_POINTS:
            raise DataError(f"{file.header.point_count:,} points, more than {_MOST_POINTS:,}")
        scan = file.read()
        promised = file.header.point_count
    points = np.asarray(scan.xyz, dtype=np.float64)
    if len(points) < promised:
        raise DataError(
            f"the file is cut short: its header says {promised:,} points, it has {len(points):,}"
        )
    return (points, None, ()), np.asarray(scan.classification, dtype=np.int64)
