"""Simulated scans: what a depth camera sees of a shape from one side, with its faults."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from pointpeft.errors import ConfigError, DataError, check_numbers, check_sizes

__all__ = ["ScanConfig", "simulate_scan"]

_FEWEST = 64
"""Points that a surface must be sampled with."""
_FLIP = 50.0
"""Radius of the sphere that points are flipped at, in distances of the farthest one: less misses
what lies in hollows, more sees through gaps between points."""


@dataclass(frozen=True)
class ScanConfig:
    """How a shape is scanned; lengths are in radii of it, the largest distance from its mean.

    The turn about the up axis, the small tilt and the missing pieces are those of the hard variant
    of ScanObjectNN, PB_T50_RS (arXiv 1908.04616). Its shifts and scales are left out, since the
    clouds are centred and scaled again before a model sees them.

    Attributes:
        rotation: Largest turn about y in degrees, to either side, in [0, 180].
        tilt: Largest turn about a horizontal axis in degrees, in [0, 180].
        elevation: Lowest and highest place of the camera, in degrees above the horizon, in
            [-90, 90].
        distance: Of the camera from the centre, above 1.
        resolution: Pixels from one side of the shape to the other. A pixel gives one point, so
            surfaces that are far away or seen at an angle have fewer points, and so have slender
            shapes.
        occlusion: Largest share of the seen points that an object in front hides, in [0, 1). It has
            a straight edge or is a box, one as often as the other.
        crop: Largest share of the points that a plane cuts off, in [0, 1).
        noise: Standard deviation along the view ray.
        outliers: Share of the points that fly up to half a radius before or behind the surface, on
            their view rays, in [0, 1].
    """

    rotation: float = 180.0
    tilt: float = 10.0
    elevation: tuple[float, float] = (-15.0, 60.0)
    distance: float = 4.0
    resolution: int = 64
    occlusion: float = 0.25
    crop: float = 0.25
    noise: float = 0.01
    outliers: float = 0.02

    def __post_init__(self) -> None:
        names = ["rotation", "tilt", "distance", "occlusion", "crop", "noise", "outliers"]
        check_numbers(self, names)
        check_sizes(self, ["resolution"], least=4)
        limits = {"rotation": 180, "tilt": 180, "outliers": 1}
        for name in names:
            value, most = getattr(self, name), limits.get(name)
            if value < 0 or (most is not None and value > most):
                raise ConfigError(f"{name} must lie in [0, {most or 'infinity'}], got {value}")
        for name in ("occlusion", "crop"):
            if getattr(self, name) >= 1:
                raise ConfigError(f"{name} is a share in [0, 1), got {getattr(self, name)}")
        if self.distance <= 1:
            raise ConfigError(f"distance must be above 1, the shape's radius, got {self.distance}")
        rising = isinstance(self.elevation, Sequence) and len(self.elevation) == 2
        if not rising or not all(type(v) in (int, float) for v in self.elevation):
            raise ConfigError(f"elevation must be two numbers in degrees, got {self.elevation!r}")
        low, high = self.elevation
        if not -90 <= low <= high <= 90:
            raise ConfigError(f"elevation must rise within [-90, 90], got {self.elevation}")


def simulate_scan(
    points: np.ndarray,
    generator: np.random.Generator | int = 0,
    config: ScanConfig = ScanConfig(),
) -> np.ndarray:
    """What a camera sees of a shape: its near side, incomplete, noisy and unevenly dense.

    Args:
        points: `(N, 3)` on the surface of the shape, y up, in any unit; 2,048 or more make a good
            scan. They are what is seen, so no surface is made up between them.
        generator: Of random numbers, or a seed. The same seed gives the same scan.
        config: How it is scanned.

    Returns:
        Points `(M, 3)` in the unit of `points`, in no order, around the same centre: float32, but
        float64 if `points` are float64 or integers of 32 bits and more. M is some hundreds for
        2,048 points, and never zero.

    Raises:
        ConfigError: the generator is none, nor a seed from 0.
        DataError: `points` are not `(N, 3)` finite numbers, fewer than 64, or all at one place.

    Example:
        >>> from pointpeft.data import read_shape, sample_surface
        >>> shape = read_shape("bolt.stl")
        >>> scan = simulate_scan(sample_surface(shape.points, shape.faces, 4096, seed=0), 0)
    """
    points = np.asarray(points)
    kind, points = points.dtype, _checked(points)
    if not isinstance(generator, np.random.Generator) and (
        not isinstance(generator, int | np.integer) or generator < 0
    ):
        raise ConfigError(f"`generator` must be one of NumPy, or a seed from 0, got {generator!r}")
    rng = np.random.default_rng(generator)
    center = points.mean(axis=0)
    radius = np.linalg.norm(points - center, axis=1).max()
    if not radius > 0:
        raise DataError("`points` all lie at one place; a scan needs a surface")
    turned = (points - center) / radius @ _pose(rng, config).T
    camera, axes = _camera(rng, config)
    seen = turned[_visible(turned, camera, axes, config.resolution)]
    seen = seen[_beside_occluder((seen - camera) @ axes.T, rng, config.occlusion)]
    direction = rng.normal(size=3)
    seen = seen[_after_cut(seen @ direction, rng, config.crop)]
    scan = _along_rays(seen, camera, rng, config) * radius + center
    return scan.astype(np.result_type(kind, np.float32))


def _checked(points: np.ndarray) -> np.ndarray:
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise DataError(f"`points` must be numbers (N, 3), got {points.dtype} {points.shape}")
    if len(points) < _FEWEST:
        raise DataError(f"`points` must be {_FEWEST} or more, got {len(points)}")
    if unusable := int((~np.isfinite(points).all(axis=1)).sum()):
        raise DataError(f"`points` must be finite numbers: {unusable} of {len(points)} are not")
    return points.astype(np.float64)


def _pose(rng: np.random.Generator, config: ScanConfig) -> np.ndarray:
    """A turn about y, then one about a random horizontal axis, `(3, 3)`."""
    about = radians(rng.uniform(-config.rotation, config.rotation))
    tilt, axis = radians(rng.uniform(-config.tilt, config.tilt)), rng.uniform(0, 2 * np.pi)
    upright = _turn(about)
    return _turn(axis) @ _lean(tilt) @ _turn(-axis) @ upright


def _turn(angle: float) -> np.ndarray:
    """A rotation about y by radians."""
    return np.array([[cos(angle), 0, sin(angle)], [0, 1, 0], [-sin(angle), 0, cos(angle)]])


def _lean(angle: float) -> np.ndarray:
    """A rotation about x by radians."""
    return np.array([[1, 0, 0], [0, cos(angle), -sin(angle)], [0, sin(angle), cos(angle)]])


def _camera(rng: np.random.Generator, config: ScanConfig) -> tuple[np.ndarray, np.ndarray]:
    """Its place `(3,)`, on the side of +z, and its axes `(3, 3)`: right, up, and into the scene.

    Where it stands around the shape is in the turn of the shape, so that scans share a frame.
    """
    elevation = radians(rng.uniform(*config.elevation))
    forward = -np.array([0.0, sin(elevation), cos(elevation)])
    up = np.array([0.0, cos(elevation), -sin(elevation)])
    return -config.distance * forward, np.stack([np.cross(forward, up), up, forward])


def _visible(
    points: np.ndarray, camera: np.ndarray, axes: np.ndarray, resolution: int
) -> np.ndarray:
    """Places of the points that the camera sees, the nearest one in every pixel.

    What hides what is told as in "Direct visibility of point sets" (Katz, Tal and Basri, 2007):
    after a flip at a sphere around the camera, the points on the convex hull are seen.
    """
    from scipy.spatial import ConvexHull, QhullError  # here: slow to import

    rays = points - camera
    lengths = np.linalg.norm(rays, axis=1, keepdims=True)
    flipped = rays * (2 * _FLIP * lengths.max() / lengths - 1)
    try:
        hull = ConvexHull(np.vstack([flipped, np.zeros(3)])).vertices
    except QhullError as error:
        raise DataError(
            "`points` all lie on one line, or in a plane seen edge-on; a scan needs a surface"
        ) from error
    seen = np.sort(hull[hull < len(points)])
    right, up, depth = axes @ rays[seen].T
    reach = 1 / np.sqrt(camera @ camera - 1)  # image coordinates of the unit ball's outline
    pixels = (np.stack([right / depth, up / depth]) / reach + 1) / 2 * resolution
    row, column = np.clip(pixels, 0, resolution - 1).astype(np.int64)
    order = np.argsort(depth, kind="stable")
    _, nearest = np.unique((row * resolution + column)[order], return_index=True)
    return seen[np.sort(order[nearest])]


def _beside_occluder(seen: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Which points, in coordinates of the camera, an object in front does not hide, `(M,)` bool."""
    image = seen[:, :2] / seen[:, 2:]
    angle, place = rng.uniform(0, 2 * np.pi), rng.integers(len(image))
    edge = image @ np.array([cos(angle), sin(angle)])
    box = np.abs(image - image[place]).max(axis=1)
    return _after_cut(edge if rng.random() < 0.5 else box, rng, most)


def _after_cut(values: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Which points stay when a random share with the smallest values goes, `(M,)` bool."""
    count = int(rng.uniform(0, most) * len(values))
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") >= count


def _along_rays(
    seen: np.ndarray, camera: np.ndarray, rng: np.random.Generator, config: ScanConfig
) -> np.ndarray:
    """The points moved along their view rays by noise, and some of them far."""
    rays = seen - camera
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    offset = config.noise * rng.normal(size=len(seen))
    fly = rng.random(len(seen)) < config.outliers
    offset = np.where(fly, rng.uniform(-0.5, 0.5, len(seen)), offset)
    return seen + offset[:, None] * rays
