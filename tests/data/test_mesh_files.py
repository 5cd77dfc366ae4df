"""Faces of a prepared mesh are where its points are."""

import numpy as np
import pytest
import torch
import trimesh

from pointpeft.data import InputTransform, load_unlabelled
from pointpeft.errors import DataError
from pointpeft.vision import Mesh, draw_faces, fit_raster
from pointpeft.vision.shading import orbit_clouds

SOLIDS = {
    "a.obj": trimesh.creation.capsule(1.0, 0.4),
    "b.ply": trimesh.creation.cone(1.0, 2.0),
    "c.stl": trimesh.creation.box((3.0, 1.0, 2.0)),
    "d.off": trimesh.creation.annulus(0.5, 1.0, 0.3),
}


@pytest.fixture
def folder(tmp_path):
    for name, solid in SOLIDS.items():
        moved = solid.copy()
        moved.apply_transform(trimesh.transformations.rotation_matrix(0.4, [1, 2, 3]))
        moved.apply_scale(120.0)
        moved.apply_translation([500.0, -40.0, 3.0])
        (tmp_path / "shapes").mkdir(exist_ok=True)
        moved.export(tmp_path / "shapes" / name)
    return tmp_path / "shapes"


def load(folder, axis="y", normalize="unit_ball"):
    transform = InputTransform(256, normalize=normalize, up_axis=axis)
    return load_unlabelled(folder, transform, cache_dir=folder.parent / "cache")


@pytest.mark.parametrize("kept", [False, True], ids=["read", "from the cache"])
@pytest.mark.parametrize("normalize", ["unit_ball", "none"])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_points_lie_on_the_faces(folder, axis, normalize, kept):
    shapes = load(folder, axis, normalize)
    if kept:
        shapes = load(folder, axis, normalize)
    for cloud, mesh, solid in zip(shapes.points, shapes.meshes, SOLIDS.values(), strict=True):
        vertices, faces = mesh.read()
        surface = trimesh.Trimesh(vertices, faces, process=False)
        size = np.abs(vertices).max()
        distance = trimesh.proximity.closest_point_naive(surface, cloud)[1]
        assert distance.max() < 1e-5 * size
        assert len(faces) == len(solid.faces)


def test_points_fall_on_what_is_drawn(folder):
    """On a pixel that the faces cover, or beside one."""
    shapes = load(folder, "z")
    for cloud, file in zip(shapes.points, shapes.meshes, strict=True):
        mesh = Mesh(*map(torch.from_numpy, file.read()))
        both = torch.cat([mesh.vertices, torch.from_numpy(cloud)]).unsqueeze(0)
        views = orbit_clouds(both, 4)
        raster = fit_raster(views, 64)
        drawn = (draw_faces(views, mesh.faces, raster) < 1).float()
        reached = torch.nn.functional.max_pool2d(drawn, 3, 1, 1)
        row, column = raster.pixels(views[:, len(mesh.vertices) :]).unbind(-1)
        assert (reached[torch.arange(4).unsqueeze(1), row, column] == 1).all()


def test_clouds_have_no_faces(tmp_path):
    np.savetxt(tmp_path / "a.xyz", SOLIDS["a.obj"].sample(100, seed=0))
    np.save(tmp_path / "b.npy", SOLIDS["b.ply"].sample(100, seed=0))
    assert load_unlabelled(tmp_path, InputTransform(64)).meshes == ()


def test_subsets_keep_the_faces_of_their_shapes(folder):
    shapes = load(folder)
    some = shapes.subset(np.array([False, True, True, False]))
    assert some.meshes == shapes.meshes[1:3]
    assert [mesh.path.name for mesh in shapes.subset([3, 0]).meshes] == ["d.off", "a.obj"]


@pytest.mark.parametrize("change", ["another mesh", "gone"])
def test_a_file_that_is_not_the_same_any_more_is_refused(folder, change):
    (mesh, *_) = load(folder).meshes
    mesh.path.unlink()
    if change == "another mesh":
        SOLIDS["c.stl"].export(mesh.path)
    with pytest.raises(DataError, match=r"a\.obj"):
        mesh.read()
