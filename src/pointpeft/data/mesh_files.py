"""The faces of prepared shapes: read from their files when asked for, where their points are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointpeft.data.cache import geometry_digest
from pointpeft.data.prepare import InputTransform, Prepared
from pointpeft.data.reading import RawShape, read_shape
from pointpeft.data.splits import Item
from pointpeft.data.triangles import usable_faces
from pointpeft.errors import DataError

__all__ = ["MeshFile", "find_meshes", "posed_mesh"]


@dataclass(frozen=True)
class MeshFile:
    """A mesh of which points were prepared.

    Attributes:
        path: Its file.
        digest: What `geometry_digest` gives of it, vertices and faces.
        transform: How its points were prepared.
        center: What `Prepared.raw_center` is.
        radius: What `Prepared.raw_radius` is.
    """

    path: Path
    digest: str
    transform: InputTransform
    center: tuple[float, ...]
    radius: float

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and faces in the frame of the prepared points, see `posed_mesh`.

        Raises:
            DataError: It cannot be read, or is another one than when its points were.
        """
        shape = read_shape(self.path)
        if geometry_digest(shape.points, shape.faces) != self.digest:
            raise DataError(f"{self.path} was changed after its points were read; begin again")
        return posed_mesh(shape, self.transform, self.center, self.radius)


def posed_mesh(
    shape: RawShape, transform: InputTransform, center: Sequence[float], radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """A mesh in the frame of its prepared points.

    Args:
        shape: With at least one face that has an area.
        transform: How its points were prepared.
        center: What `Prepared.raw_center` is.
        radius: What `Prepared.raw_radius` is.

    Returns:
        Vertices `(N, 3)` float32, and vertex numbers `(F, 3)` int64 of all faces that have an area.
    """
    points = np.asarray(shape.points, dtype=np.float64)
    faces, _ = usable_faces(points, shape.faces)
    return transform.pose(points, center, radius).astype(np.float32), faces


def find_meshes(
    shapes: Sequence[tuple[Item, Prepared]], transform: InputTransform
) -> tuple[MeshFile | None, ...]:
    """Of each shape its mesh, None where it is a cloud; nothing at all where all are clouds.

    Args:
        shapes: Prepared items of a data set.
        transform: How they were prepared.
    """
    found = tuple(
        MeshFile(item.origin, one.digest, transform, one.raw_center, one.raw_radius)
        if isinstance(item.origin, Path) and one.raw_count == 0
        else None
        for item, one in shapes
    )
    return found if any(found) else ()
