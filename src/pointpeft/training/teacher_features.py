"""What an image encoder sees of stored shapes: looked at once, and kept on disk."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pointpeft.data import ShapeSplit
from pointpeft.data.array_cache import ArrayCache
from pointpeft.data.cache import geometry_digest
from pointpeft.data.mesh_files import MeshFile
from pointpeft.data.prepared_items import OnError
from pointpeft.data.shards import ShardedShapes
from pointpeft.errors import DataError
from pointpeft.models.objective import CloudTeacher
from pointpeft.training.processes import Share
from pointpeft.vision import Mesh

__all__ = ["MOST_POINTS", "teacher_features"]

log = logging.getLogger("pointpeft")

_TOGETHER = 512
"""Shapes in memory that are dealt with at a time."""
_AT_ONCE = 8
MOST_POINTS = 4096
"""Of a cloud that are shown."""


def teacher_features(
    teacher: CloudTeacher,
    stored: ShapeSplit | ShardedShapes,
    cache_dir: Path | None = None,
    on_error: OnError = "refuse",
    share: Share = Share(),  # noqa: B008 - frozen
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Features of all shapes in half precision, ``(S, D)``.

    It sees the faces of meshes, if its views draw these. Of clouds it sees all points that are
    stored, up to 4,096, as more of them close the surfaces. What it saw of a shape is kept by the
    teacher's weights, how it is shown a shape, and the content of the shape, with the faces that it
    sees.

    Args:
        teacher: what looks at them.
        stored: the shapes, which it sees without augmentation.
        cache_dir: where features are kept; see :class:`ArrayCache`.
        on_error: whether shapes of shards that cannot be read get NaN and are named in the log, or
            are refused.
        share: of several processes each begins elsewhere, and finds in the cache what others saw.
        progress: called with (done, total) while it looks.

    Raises:
        DataError: the file of a mesh cannot be read any more, or holds another one now; a shard
            cannot be read.
    """
    cache, who = ArrayCache(cache_dir, "teacher"), _identity(teacher)
    found = torch.full((len(stored), teacher.encoder.channels), math.nan, dtype=torch.float16)
    portions = _portions(stored)
    begin = len(portions) * share.rank // share.processes
    done = 0
    for places in portions[begin:] + portions[:begin]:
        done += len(places)
        try:
            points = _points(stored, places)
        except DataError as error:
            if on_error == "refuse":
                raise
            log.error("the teacher cannot see %s", error)
            continue
        meshes = _meshes(stored, places, teacher)
        found[places.start : places.stop] = _see(teacher, points, meshes, cache, who)
        if progress:
            progress(done, len(stored))
    for note in cache.notes:
        log.warning("teacher: %s", note)
    return found


def _portions(stored: ShapeSplit | ShardedShapes) -> list[range]:
    """All shapes; of shards those of a block, which can be read together or not at all."""
    if isinstance(stored, ShardedShapes):
        return [range(int(block[0]), int(block[-1]) + 1) for block in stored.blocks()]
    starts = range(0, len(stored), _TOGETHER)
    return [range(start, min(start + _TOGETHER, len(stored))) for start in starts]


def _see(
    teacher: CloudTeacher,
    points: Tensor,
    meshes: Sequence[MeshFile | None],
    cache: ArrayCache,
    who: str,
) -> Tensor:
    """Features of a portion; the teacher looks at what the cache does not have."""

    def unpack(arrays: Mapping[str, np.ndarray]) -> Tensor:
        features = torch.from_numpy(arrays["features"])
        whole = features.shape == (teacher.encoder.channels,) and features.isfinite().all()
        if not whole or features.dtype != torch.float16:
            raise ValueError("no features")
        return features

    # What the points of a mesh are tells how it is placed.
    keys = [
        f"{who} {geometry_digest(cloud)} {mesh.digest if mesh else ''}"
        for cloud, mesh in zip(points.numpy(), meshes, strict=True)
    ]
    rows = [cache.get(key, unpack) for key in keys]
    if new := [place for place, row in enumerate(rows) if row is None]:
        seen = _look(teacher, points[new], [meshes[place] for place in new])
        for place, row in zip(new, seen, strict=True):
            rows[place] = row
            cache.put(keys[place], {"features": row.numpy()})
    return torch.stack([row for row in rows if row is not None])


def _points(stored: ShapeSplit | ShardedShapes, places: range) -> Tensor:
    if isinstance(stored, ShapeSplit):
        return torch.from_numpy(stored.points[places.start : places.stop, :MOST_POINTS])
    count = min(stored.index.transform.num_points, MOST_POINTS)
    return torch.from_numpy(stored.read(places, count)[0])


def _meshes(
    stored: ShapeSplit | ShardedShapes, places: range, teacher: CloudTeacher
) -> Sequence[MeshFile | None]:
    """Whose faces the teacher sees, None where it sees points."""
    if isinstance(stored, ShapeSplit) and stored.meshes and teacher.views.draws_faces:
        return stored.meshes[places.start : places.stop]
    return [None] * len(places)


def _look(teacher: CloudTeacher, points: Tensor, meshes: Sequence[MeshFile | None]) -> Tensor:
    device, found = next(teacher.encoder.network.parameters()).device, []

    def mesh(file: MeshFile | None) -> Mesh | None:
        if file is None:
            return None
        return Mesh(*(torch.from_numpy(part).to(device) for part in file.read()))

    for start in range(0, len(points), _AT_ONCE):
        few = slice(start, start + _AT_ONCE)
        found.append(teacher(points[few].to(device), [*map(mesh, meshes[few])]).half().cpu())
    return torch.cat(found)


def _identity(teacher: CloudTeacher) -> str:
    """A name for the teacher and its pictures of a spiral: whatever changes what it sees."""
    t = torch.linspace(0.1, 1, 256)
    spiral = torch.stack([t * (20 * t).cos(), t, t * (20 * t).sin()], dim=1)
    band = Mesh(spiral, torch.arange(254).unsqueeze(1) + torch.arange(3))
    size, both = teacher.encoder.image_size, spiral.expand(2, -1, -1)
    images = teacher.views.show(both, size, [None, band])
    shades = (16 * images).round().to(torch.int16)  # machines differ in the last digits
    digest = hashlib.sha256(repr(tuple(shades.shape)).encode() + shades.numpy().tobytes())
    for name, tensor in sorted(teacher.encoder.weights().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    if settings := teacher.encoder.settings():
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]
