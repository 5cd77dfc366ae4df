"""What an image encoder sees of stored shapes: looked at once, and kept on disk."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pointpeft.data import ShapeSplit
from pointpeft.data.cache import default_cache_dir, geometry_digest, short_digest
from pointpeft.data.mesh_files import MeshFile
from pointpeft.data.shards import ShardedShapes
from pointpeft.errors import CheckpointError
from pointpeft.models.objective import CloudTeacher
from pointpeft.models.safetensors_files import read_safetensors, write_safetensors
from pointpeft.vision import Mesh

__all__ = ["teacher_features"]

log = logging.getLogger("pointpeft")

_TOGETHER = 512
"""Shapes of a file: what is lost at most when a run is stopped while the teacher looks."""
_AT_ONCE = 8
_MOST_POINTS = 4096


def teacher_features(
    teacher: CloudTeacher,
    stored: ShapeSplit | ShardedShapes,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Features of all shapes in half precision, ``(S, D)``.

    It sees the faces of meshes, if its views draw these. Of clouds it sees all points that are
    stored, up to 4,096, as more of them close the surfaces. The files are named by the teacher's
    weights, how it is shown a shape, and the content of the shapes, with the faces that it sees.

    Args:
        teacher: what looks at them.
        stored: the shapes, which it sees without augmentation.
        folder: where features are kept; None: ``teacher`` in the cache of prepared shapes.
        progress: called with (done, total) while it looks.

    Raises:
        DataError: the file of a mesh cannot be read any more, or holds another one now.
    """
    folder = (folder or default_cache_dir() / "teacher") / _identity(teacher)
    found = []
    for start in range(0, len(stored), _TOGETHER):
        places = range(start, min(start + _TOGETHER, len(stored)))
        points, meshes = _points(stored, places), _meshes(stored, places, teacher)
        path = folder / f"{_name(points, meshes)}.safetensors"
        kept = _read(path)
        found.append(_write(path, _look(teacher, points, meshes)) if kept is None else kept)
        if progress:
            progress(start + len(points), len(stored))
    return torch.cat(found)


def _points(stored: ShapeSplit | ShardedShapes, places: range) -> Tensor:
    if isinstance(stored, ShapeSplit):
        return torch.from_numpy(stored.points[places.start : places.stop, :_MOST_POINTS])
    count = min(stored.index.transform.num_points, _MOST_POINTS)
    return torch.from_numpy(stored.read(places, count)[0])


def _meshes(
    stored: ShapeSplit | ShardedShapes, places: range, teacher: CloudTeacher
) -> Sequence[MeshFile | None]:
    """Whose faces the teacher sees, None where it sees points."""
    if isinstance(stored, ShapeSplit) and stored.meshes and teacher.views.draws_faces:
        return stored.meshes[places.start : places.stop]
    return [None] * len(places)


def _name(points: Tensor, meshes: Sequence[MeshFile | None]) -> str:
    """Of the file of some shapes. What their points are tells how their meshes are placed."""
    shapes = zip(points.numpy(), meshes, strict=True)
    known = (geometry_digest(cloud) + (f"+{mesh.digest}" if mesh else "") for cloud, mesh in shapes)
    return short_digest("".join(known))


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
    """A name for the teacher's weights and its pictures of a spiral: whatever changes those."""
    t = torch.linspace(0.1, 1, 256)
    spiral = torch.stack([t * (20 * t).cos(), t, t * (20 * t).sin()], dim=1)
    band = Mesh(spiral, torch.arange(254).unsqueeze(1) + torch.arange(3))
    size, both = teacher.encoder.image_size, spiral.expand(2, -1, -1)
    images = teacher.views.show(both, size, [None, band])
    shades = (16 * images).round().to(torch.int16)  # machines differ in the last digits
    digest = hashlib.sha256(repr(tuple(shades.shape)).encode() + shades.numpy().tobytes())
    for name, tensor in sorted(teacher.encoder.network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
