"""What an image encoder sees of stored shapes: looked at once, and kept on disk."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointpeft.data import ShapeSplit
from pointpeft.data.cache import default_cache_dir, geometry_digest, short_digest
from pointpeft.data.shards import ShardedShapes
from pointpeft.errors import CheckpointError
from pointpeft.models.objective import CloudTeacher
from pointpeft.models.safetensors_files import read_safetensors, write_safetensors

__all__ = ["teacher_features"]

log = logging.getLogger("pointpeft")

_TOGETHER = 512
"""Shapes of a file: what is lost at most when a run is stopped while the teacher looks."""
_AT_ONCE = 8


def teacher_features(
    teacher: CloudTeacher,
    stored: ShapeSplit | ShardedShapes,
    num_points: int,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Features of all shapes in half precision, ``(S, D)``.

    The files are named by the teacher's weights, what it is shown, and the content of the shapes.

    Args:
        teacher: what looks at them.
        stored: the shapes, which it sees without augmentation.
        num_points: of each that it sees.
        folder: where features are kept; None: ``teacher`` in the cache of prepared shapes.
        progress: called with (done, total) while it looks.
    """
    folder = (folder or default_cache_dir() / "teacher") / _identity(teacher, num_points)
    found = []
    for start in range(0, len(stored), _TOGETHER):
        points = _points(stored, range(start, min(start + _TOGETHER, len(stored))), num_points)
        digest = short_digest("".join(geometry_digest(cloud) for cloud in points.numpy()))
        path = folder / f"{digest}.safetensors"
        kept = _read(path)
        found.append(_write(path, _look(teacher, points)) if kept is None else kept)
        if progress:
            progress(start + len(points), len(stored))
    return torch.cat(found)


def _points(stored: ShapeSplit | ShardedShapes, places: range, num_points: int) -> Tensor:
    if isinstance(stored, ShapeSplit):
        return torch.from_numpy(stored.points[places.start : places.stop, :num_points])
    return torch.from_numpy(stored.read(places, num_points)[0])


def _read(path: Path) -> Tensor | None:
    """The features of a file; None where it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        return read_safetensors(path)[0]["features"]
    except (CheckpointError, KeyError):
        log.warning("%s is damaged: the teacher looks again", path)
        return None


def _write(path: Path, features: Tensor) -> Tensor:
    """Keep features, if that can be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, {"features": features}, {})
    except OSError as error:
        log.warning("features of the teacher are not kept: %s", error)
    return features


def _look(teacher: CloudTeacher, points: Tensor) -> Tensor:
    device = next(teacher.encoder.network.parameters()).device
    return torch.cat([teacher(few.to(device)).half().cpu() for few in points.split(_AT_ONCE)])


def _identity(teacher: CloudTeacher, num_points: int) -> str:
    """A name for the teacher's weights and what it is shown."""
    views: dict[str, Any] = {"kind": type(teacher.views).__name__, **vars(teacher.views)}
    settings = [views, teacher.encoder.image_size, num_points]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(teacher.encoder.network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
