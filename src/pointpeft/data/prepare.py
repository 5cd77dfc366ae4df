"""From a raw shape to what a model sees: fixed number of points, upright, in the unit ball."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from pointpeft.data.reading import RawShape
from pointpeft.data.triangles import sample_cloud, sample_surface, sampled_vertices, usable_faces
from pointpeft.errors import DataError

__all__ = [
    "Axis",
    "InputTransform",
    "Prepared",
    "check_geometry",
    "default_num_stored",
    "farthest_point_order",
]

Axis = Literal["x", "y", "z"]
"""Name of a coordinate axis."""
Normalization = Literal["unit_ball", "none"]
"""How clouds are scaled: centred with largest norm 1, or left in the unit of their file."""

_CURRENT_VERSION = 1
_TURN_UPRIGHT: dict[str, np.ndarray] = {  # proper rotations that take the named axis to y
    "x": np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "y": np.eye(3),
    "z": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}
_LARGEST_COORDINATE = 1e18
"""Beyond this float32 arithmetic on squared distances overflows; no unit makes it plausible."""
_SMALLEST_EXTENT = 1e-9
"""Extents below this part of the coordinates are rounding: the shape is a single place."""
_TINY = 1e-150
"""Squares of smaller extents lose their digits."""
_FEWEST = 16
"""Distinct points that a cloud, or a mesh without usable faces, must have at least."""
_GLANCE = 64
"""Points that are looked at first, since nearly every cloud has enough among them."""


@dataclass(frozen=True)
class Prepared:
    """One shape made ready, and what is worth remembering of its raw form.

    Attributes:
        points: `(num_stored, 3)` float32 in farthest point order, y up.
        raw_count: Number of points of a raw cloud; 0 for a mesh.
        raw_radius: Largest distance from the mean before normalisation, in the file's unit.
        raw_center: That mean, `(3,)` in the file's unit, y up.
        notes: What the user should know about this shape.
        seg: Part labels `(num_stored,)` int64 of these points, where the raw shape has some.
        digest: What `geometry_digest` gives of the raw shape; empty where it is not known.
    """

    points: np.ndarray
    raw_count: int
    raw_radius: float
    raw_center: tuple[float, ...]
    notes: tuple[str, ...] = ()
    seg: np.ndarray | None = None
    digest: str = ""


@dataclass(frozen=True)
class InputTransform:
    """How files become model input. It travels with an adapter, so that both ends agree.

    Attributes:
        num_points: Points the model sees.
        normalize: "unit_ball" subtracts the mean and divides by the largest norm.
        up_axis: The axis of the files that points up; clouds are turned so that it becomes y.
        version: Of these rules; another version is refused.
    """

    num_points: int = 1024
    normalize: Normalization = "unit_ball"
    up_axis: Axis = "y"
    version: int = _CURRENT_VERSION

    def __post_init__(self) -> None:
        choices = {
            "normalize": get_args(Normalization),
            "up_axis": get_args(Axis),
            "version": (_CURRENT_VERSION,),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise DataError(f"{name}={getattr(self, name)!r}: expected one of {allowed}")
        if type(self.num_points) is not int or self.num_points < 1:
            raise DataError(f"num_points={self.num_points!r}: expected an integer of at least 1")

    def prepare(self, shape: RawShape, num_stored: int | None = None, seed: int = 0) -> np.ndarray:
        """Make one shape ready for a model.

        Meshes are sampled by area, clouds are thinned at random or filled up by repeating points;
        then the cloud is turned upright, normalised and put in farthest point order, so that any
        prefix is an even subsample. The first `num_points` rows are the input at test time.

        Args:
            shape: What `read_shape` returned.
            num_stored: Rows to keep; by default twice `num_points`.
            seed: With the content of the shape, it fixes the random choice.

        Returns:
            Points `(num_stored, 3)` float32.

        Raises:
            DataError: The shape has no usable geometry.
        """
        (result,) = self.prepare_batch([shape], num_stored, seed)
        if isinstance(result, DataError):
            raise DataError(f"{shape.source}: {result}")
        return result.points

    def prepare_inputs(self, shapes: Sequence[RawShape]) -> list[Prepared | DataError]:
        """What a model sees of each shape at test time, `(num_points, 3)`, or a bad shape's error.

        They are the first ones of what :meth:`prepare_batch` gives, which puts twice as many in
        order.
        """
        return self._prepare(shapes, default_num_stored(self, None), 0, self.num_points)

    def prepare_batch(
        self, shapes: Sequence[RawShape], num_stored: int | None = None, seed: int = 0
    ) -> list[Prepared | DataError]:
        """Make several shapes ready together; a bad shape gives its error instead of a cloud."""
        num_stored = default_num_stored(self, num_stored)
        return self._prepare(shapes, num_stored, seed, num_stored)

    def _prepare(
        self, shapes: Sequence[RawShape], num_stored: int, seed: int, num_rows: int
    ) -> list[Prepared | DataError]:
        """The first ``num_rows`` of the ``num_stored`` rows of each shape."""
        drawn: dict[int, RawShape] = {}
        results: dict[int, Prepared | DataError] = {}
        for place, shape in enumerate(shapes):
            try:
                drawn[place] = _draw(shape, num_stored, seed)
            except DataError as error:
                results[place] = error
        orders = farthest_point_order([one.points for one in drawn.values()], num_rows)
        for (place, one), order in zip(drawn.items(), orders, strict=True):
            raw_count = 0 if one.faces is not None else len(shapes[place].points)
            results[place] = self._finish(one, raw_count, order, num_rows)
        return [results[place] for place in range(len(shapes))]

    def turn_upright(self, points: np.ndarray) -> np.ndarray:
        """Points `(N, 3)` turned so that `up_axis` becomes y."""
        return points if self.up_axis == "y" else points @ _TURN_UPRIGHT[self.up_axis].T

    def pose(self, points: np.ndarray, center: Sequence[float], radius: float) -> np.ndarray:
        """Points `(N, 3)` of a file, float64, to where its prepared shape is.

        Args:
            points: In the frame and unit of the file.
            center: What `Prepared.raw_center` is.
            radius: What `Prepared.raw_radius` is.
        """
        turned = self.turn_upright(points)
        return (turned - center) / radius if self.normalize == "unit_ball" else turned

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputTransform":
        """From what `to_dict` gave.

        Raises:
            DataError: A key is unknown or a value is not allowed.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise DataError(f"input transform: unknown keys {unknown}, expected {sorted(known)}")
        return cls(**values)

    def _finish(
        self, drawn: RawShape, raw_count: int, order: np.ndarray, num_rows: int
    ) -> Prepared:
        """Turn, normalise, order, and fill up by repeating the ordered points."""
        turned = self.turn_upright(drawn.points)
        center = tuple(turned.mean(axis=0).tolist())
        radius = float(np.linalg.norm(turned - center, axis=1).max())
        points = self.pose(drawn.points, center, radius)
        rows = order[np.arange(num_rows) % len(order)]
        notes = drawn.notes
        if len(order) < self.num_points:
            few = f"{len(order)} distinct points, fewer than {self.num_points}: some are repeated"
            notes = (*notes, few)
        seg = None if drawn.seg is None else drawn.seg[rows]
        return Prepared(points[rows].astype(np.float32), raw_count, radius, center, notes, seg)


def default_num_stored(transform: InputTransform, num_stored: int | None) -> int:
    """The number of rows to keep: twice what the model sees unless another one is asked for.

    Raises:
        DataError: `num_stored` is below `transform.num_points`.
    """
    if num_stored is None:
        return 2 * transform.num_points
    if num_stored < transform.num_points:
        raise DataError(
            f"num_stored={num_stored} is below num_points={transform.num_points}: "
            "a model cannot see more points than are stored"
        )
    return num_stored


def farthest_point_order(clouds: Sequence[np.ndarray], num_rows: int) -> list[np.ndarray]:
    """Farthest point order of each cloud `(N_i, 3)`, starting from its first point.

    Clouds of equal size are ordered together. Each is centred and scaled before, so that float32
    distances are exact enough whatever the raw position and unit.

    Args:
        clouds: In any unit.
        num_rows: So many points of each are wanted at most.

    Returns:
        For each cloud the numbers of distinct points; copies of a point are left out.
    """
    import torch  # here, so that reading and describing data does not wait for it

    from pointpeft.ops import farthest_point_sample

    by_size: dict[int, list[int]] = defaultdict(list)
    for place, cloud in enumerate(clouds):
        by_size[len(cloud)].append(place)
    orders: dict[int, np.ndarray] = {}
    for size, places in by_size.items():
        stacked = np.stack([clouds[place] for place in places]).astype(np.float64)
        stacked -= stacked.mean(axis=1, keepdims=True)
        stacked /= np.abs(stacked).max(axis=(1, 2), keepdims=True)
        together = torch.from_numpy(stacked.astype(np.float32))
        order = farthest_point_sample(together, min(size, num_rows))
        for place, row in zip(places, order.numpy(), strict=True):
            orders[place] = row[: len(np.unique(row))]  # then only copies remain
    return [orders[place] for place in range(len(clouds))]


def _draw(shape: RawShape, num_stored: int, seed: int) -> RawShape:
    """Points of a shape, still in its frame, with their part labels; with faces where it has some.

    The faces are those of the shape, only to tell points on a surface from those of a cloud.
    """
    points = np.asarray(shape.points, dtype=np.float64)
    check_geometry(points)
    number = _content_seed(shape, seed)
    notes, faces, seg = shape.notes, shape.faces, shape.seg
    if faces is not None and len(usable_faces(points, faces)[0]):
        drawn = sample_surface(points, faces, num_stored, number)
        kept = sampled_vertices(points, faces, num_stored, number) if seg is not None else None
    else:
        if faces is not None:
            notes = (*notes, "mesh without a face of non-zero area: its vertices serve as a cloud")
        faces = None
        kept = sample_cloud(np.arange(len(points)), num_stored, number)
        drawn = points[kept]
        check_enough(points)
    _check_extent(drawn)
    seg = None if seg is None else seg[kept].astype(np.int64)
    return RawShape(drawn, faces, shape.source, notes, seg)


def _content_seed(shape: RawShape, seed: int) -> int:
    """A seed that depends on the shape itself, not on its name or place in a folder."""
    digest = hashlib.sha256(np.ascontiguousarray(shape.points, dtype="<f8").tobytes())
    if shape.faces is not None:
        digest.update(np.ascontiguousarray(shape.faces, dtype="<i8").tobytes())
    digest.update(str(seed).encode())
    return int.from_bytes(digest.digest()[:8], "little")


def check_geometry(points: np.ndarray) -> None:
    """Refuse points `(N, 3)` that are none, not finite, damaged or all in one place.

    Raises:
        DataError: The message does not say of which shape.
    """
    if len(points) == 0:
        raise DataError("holds no points")
    bad = int((~np.isfinite(points).all(axis=1)).sum())
    if bad:
        raise DataError(f"{bad} of {len(points)} points are NaN or infinite")
    largest = float(np.abs(points).max())
    if largest > _LARGEST_COORDINATE:
        raise DataError(f"a coordinate of {largest:.3g}: the file looks damaged")
    _check_extent(points)


def check_enough(points: np.ndarray) -> None:
    """Refuse a cloud `(N, 3)` of too few distinct points to tell what it is.

    Raises:
        DataError: There are fewer than 16.
    """
    distinct = len(np.unique(points[:_GLANCE], axis=0))
    if distinct < _FEWEST and len(points) > _GLANCE:
        distinct = len(np.unique(points, axis=0))
    if distinct < _FEWEST:
        raise DataError(
            f"only {distinct} distinct points, at least {_FEWEST} are needed to tell a shape"
        )


def _check_extent(points: np.ndarray) -> None:
    extent, largest = float(np.ptp(points, axis=0).max()), float(np.abs(points).max())
    if extent <= _SMALLEST_EXTENT * largest or extent == 0:
        raise DataError(f"zero extent: all {len(points)} points are in the same place")
    if extent < _TINY:
        raise DataError(f"an extent of {extent:.3g} is too small to compute with: scale the shape")
