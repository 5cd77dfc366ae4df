"""What training shapes looked like in their files, and whether a new one looks alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from pointpeft.data.prepare import Axis, InputTransform
from pointpeft.data.reading import RawShape
from pointpeft.data.triangles import sample_cloud, sample_surface, usable_faces
from pointpeft.errors import DataError
from pointpeft.files import with_tuples

__all__ = ["InputStatistics"]

_FAR_OFF_SCALE = 3.0
"""A size this many times outside the range of the training shapes is worth a word."""
_FAR_FEWER = 0.5
"""Below this part of the expected number of points a cloud is called sparse."""
_ALREADY_NORMALIZED = (0.9, 1.1)
"""Training sizes that all lie here come from normalised files and say nothing about units."""
_UNIT_RATIOS = {
    1000.0: "millimetres against metres",
    100.0: "centimetres against metres",
    25.4: "millimetres against inches",
    10.0: "millimetres against centimetres",
}
_SAME_RATIO = 1.5
"""Ratios of sizes that differ by less than this factor are taken for the same."""
_CHECK_POINTS = 2048
_AXES: tuple[Axis, ...] = ("x", "y", "z")
_SMALLEST_EXTENT = 1e-3
"""Extents are floored here before the logarithm: thinner plates are all alike."""
_SMALLEST_SPREAD = 0.15
"""Spread of log extents assumed at least, so that few training shapes do not cause alarms."""
_FITS_BADLY, _FITS_WELL, _BETTER_BY = 9.0, 3.0, 4.0
"""Mean squared deviations (in standard deviations) of the extents as given and turned, and the
least ratio of the two: all three must hold before another up-axis is suggested."""

_SIZES = {"point_counts": (0, 5), "radius": (3,), "log_extent_mean": (3,), "log_extent_std": (3,)}
"""How many numbers there are of each."""


@dataclass(frozen=True)
class InputStatistics:
    """Raw size, density and proportions of the training shapes. It travels with an adapter.

    Attributes:
        num_shapes: How many shapes were counted.
        point_counts: Smallest, 25%, 50%, 75% and largest number of points of raw clouds; empty
            for meshes.
        radius: Smallest, median and largest distance of the farthest point from the mean, in the
            unit of the files.
        log_extent_mean: Mean over shapes of the log extents along x, y, z of normalised clouds,
            y up.
        log_extent_std: Their standard deviation.
    """

    num_shapes: int
    point_counts: tuple[int, ...]
    radius: tuple[float, ...]
    log_extent_mean: tuple[float, ...]
    log_extent_std: tuple[float, ...]

    @classmethod
    def from_raw(
        cls, counts: Sequence[int], radii: Sequence[float], clouds: np.ndarray
    ) -> "InputStatistics":
        """Gather the statistics of a training set.

        Args:
            counts: Points of each raw cloud; 0 for a mesh.
            radii: Raw radius of each shape, in the unit of the files.
            clouds: Prepared clouds `(S, N, 3)`, y up.

        Raises:
            DataError: There are no shapes.
        """
        if not len(clouds) == len(radii) == len(counts) or not len(clouds):
            raise DataError(f"{len(clouds)} clouds, {len(radii)} radii, {len(counts)} counts")
        of_clouds = [count for count in counts if count > 0]
        quantiles = np.quantile(of_clouds, [0, 0.25, 0.5, 0.75, 1]) if of_clouds else ()
        extents = np.log([_extents(cloud) for cloud in clouds])
        return cls(
            num_shapes=len(clouds),
            point_counts=tuple(round(float(q)) for q in quantiles),
            radius=(float(np.min(radii)), float(np.median(radii)), float(np.max(radii))),
            log_extent_mean=tuple(extents.mean(axis=0).tolist()),
            log_extent_std=tuple(extents.std(axis=0).tolist()),
        )

    def check(self, shape: RawShape | np.ndarray, transform: InputTransform) -> list[str]:
        """Warnings, in plain language, when a raw shape is unlike the training shapes.

        Args:
            shape: A shape as read, or the points `(N, 3)` of a raw cloud.
            transform: How shapes are prepared for the model.

        Returns:
            No, one or more sentences.
        """
        if isinstance(shape, np.ndarray):
            shape = RawShape(shape, None, "cloud")
        points = np.asarray(shape.points, dtype=np.float64)
        if len(usable_faces(points, shape.faces)[0]):
            points = sample_surface(points, shape.faces, _CHECK_POINTS, seed=0)
        else:
            points = sample_cloud(points, _CHECK_POINTS, seed=0)
        count = len(shape.points) if shape.faces is None else None
        return [
            *self._check_count(count, transform),
            *self._check_scale(points, transform),
            *self._check_up_axis(points, transform),
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InputStatistics":
        """From what `to_dict` gave.

        Raises:
            DataError: A key is missing or unknown, or holds something else than its numbers.
        """
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise DataError(f"input statistics: keys {sorted(values)}, expected {sorted(known)}")
        found = cls(**with_tuples(values))
        for name, sizes in _SIZES.items():
            numbers = getattr(found, name)
            is_right = isinstance(numbers, tuple) and len(numbers) in sizes
            if not is_right or not all(_is_number(number) for number in numbers):
                raise DataError(
                    f"input statistics: {name}={numbers!r}: expected {sizes[-1]} numbers"
                )
        return found

    def _check_count(self, count: int | None, transform: InputTransform) -> list[str]:
        if count is None:
            return []
        if count < _FAR_FEWER * transform.num_points:
            return [
                f"only {count} points, the model sees {transform.num_points}: points are "
                "repeated, and fine detail is missing"
            ]
        if self.point_counts and count < _FAR_FEWER * self.point_counts[0]:
            return [f"only {count} points, the training clouds had {self.point_counts[0]} or more"]
        return []

    def _check_scale(self, points: np.ndarray, transform: InputTransform) -> list[str]:
        smallest, _, largest = self.radius
        low, high = _ALREADY_NORMALIZED
        harmless = transform.normalize == "unit_ball"
        if harmless and low <= smallest and largest <= high:
            return []
        radius = float(np.linalg.norm(points - points.mean(axis=0), axis=1).max())
        if radius > _FAR_OFF_SCALE * largest:
            ratio, word = radius / largest, "larger than the largest"
        elif 0 < radius < smallest / _FAR_OFF_SCALE:
            ratio, word = smallest / radius, "smaller than the smallest"
        else:
            return []
        effect = (
            "harmless, since clouds are scaled to the unit ball, but check the units"
            if harmless
            else "the model uses the raw size, so bring it to the unit of the training shapes"
        )
        units = [
            f" ({units}?)"
            for factor, units in _UNIT_RATIOS.items()
            if factor / _SAME_RATIO < ratio < factor * _SAME_RATIO
        ]
        return [f"about {_plain(ratio)} times {word} training shape{''.join(units)}: {effect}"]

    def _check_up_axis(self, points: np.ndarray, transform: InputTransform) -> list[str]:
        extents = _extents(points)
        turned = {axis: replace(transform, up_axis=axis).turn_upright(extents) for axis in _AXES}
        misfit = {axis: self._misfit(np.abs(turned[axis])) for axis in _AXES}
        given, best = misfit[transform.up_axis], min(misfit, key=lambda axis: misfit[axis])
        if given < max(_FITS_BADLY, _BETTER_BY * misfit[best]) or misfit[best] > _FITS_WELL:
            return []
        return [
            f"its proportions fit the training shapes better with {best} pointing up "
            f"than with {transform.up_axis}: if that is so, say up_axis={best}"
        ]

    def _misfit(self, extents: np.ndarray) -> float:
        """Mean squared deviation from the training profile, in standard deviations.

        The two horizontal axes may change places: which way a shape faces says nothing.
        """
        x, y, z = np.log(extents)
        spread = np.maximum(self.log_extent_std, _SMALLEST_SPREAD)
        deviations = (np.array([[x, y, z], [z, y, x]]) - np.array(self.log_extent_mean)) / spread
        return float(np.mean(deviations**2, axis=1).min())


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _extents(cloud: np.ndarray) -> np.ndarray:
    """Extents `(3,)` of a cloud `(N, 3)` scaled so that its farthest point is at distance 1."""
    centered = np.asarray(cloud, dtype=np.float64) - np.mean(cloud, axis=0)
    radius = np.linalg.norm(centered, axis=1).max() or 1.0
    return np.maximum(np.ptp(centered, axis=0) / radius, _SMALLEST_EXTENT)


def _plain(ratio: float) -> str:
    """A number with two digits that matter, such as 970 or 2.5."""
    digits = max(0, 1 - math.floor(math.log10(ratio)))
    return f"{round(ratio, 1 - math.floor(math.log10(ratio))):,.{digits}f}"
