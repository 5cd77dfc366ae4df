"""A shape is known by its geometry, whatever file keeps it."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from pointpeft.data import InputTransform, ShapeSplit, load_shapes
from pointpeft.data.cache import geometry_digest, pack_digests, unpack_digests


def digests(source: Path) -> set[str]:
    data = load_shapes(source, InputTransform(32), val_fraction=0.0)
    return set(data.train.digests)


def test_a_cloud_is_the_same_in_every_kind_of_file(tmp_path: Path, cloud: np.ndarray) -> None:
    points = cloud.astype(np.float32)
    folder = tmp_path / "set" / "egg"
    folder.mkdir(parents=True)
    np.save(folder / "a.npy", points)
    np.save(folder / "b.npy", points.astype(np.float64))
    np.savetxt(folder / "c.xyz", points, fmt="%.9g")
    np.savetxt(folder / "d.csv", points, fmt="%.9g", delimiter=",", header="x,y,z", comments="")
    trimesh.PointCloud(points).export(folder / "e.ply")
    np.savez(tmp_path / "set.npz", points=points[None], label=[0], names=["egg"])
    expected = {geometry_digest(points)}
    assert digests(tmp_path / "set") == digests(tmp_path / "set.npz") == expected
    assert digests(tmp_path / "set") == expected  # also from the cache
    np.save(folder / "a.npy", points + np.float32([0, 0, 1e-3]))
    assert len(digests(tmp_path / "set")) == 2


def test_a_mesh_is_the_same_in_every_kind_of_file_and_is_not_its_vertices(tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=1)
    (tmp_path / "ball").mkdir()
    for name in ("a.off", "b.ply", "c.obj"):
        mesh.export(tmp_path / "ball" / name)
    text = (tmp_path / "ball/a.off").read_text()
    (tmp_path / "ball/renamed.off").write_text(text)
    found = digests(tmp_path)
    assert len(found) <= 2  # formats that keep fewer digits keep other coordinates
    assert geometry_digest(mesh.vertices) not in found


def test_signs_of_zeros_tell_nothing() -> None:
    assert geometry_digest(np.array([[0.0, 1, 2]])) == geometry_digest(np.array([[-0.0, 1, 2]]))


def test_packed_digests_come_back_once_and_sorted() -> None:
    one, other = geometry_digest(np.zeros((1, 3))), geometry_digest(np.ones((1, 3)))
    assert unpack_digests(pack_digests([one, other, one])) == sorted([one, other])
    assert unpack_digests(pack_digests([])) == []
    for damaged in (one[:-1], one.upper() + "g" * 16, [one], None):
        with pytest.raises(ValueError, match="hexadecimal"):
            unpack_digests(damaged)


def test_shapes_made_by_hand_are_known_by_their_points() -> None:
    points = np.random.default_rng(0).normal(size=(2, 20, 3)).astype(np.float32)
    split = ShapeSplit(points, np.zeros(2, np.int64), ("a", "b"))
    assert split.marks() == set(map(geometry_digest, points))
