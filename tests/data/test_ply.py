import numpy as np
import trimesh

from pointpeft.data import read_shape
from pointpeft.data.ply import part_colors, write_labelled_ply


def test_labelled_clouds_come_back_exactly(tmp_path):
    """In the frame of a survey, where single precision would lose centimetres."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(500, 3)) + np.array([4.5e6, 5.3e6, 100.0])
    seg = generator.integers(94, size=500)
    write_labelled_ply(tmp_path / "new" / "cloud.ply", points, seg)
    shape = read_shape(tmp_path / "new" / "cloud.ply", segmented=True)
    assert np.array_equal(shape.points, points)
    assert np.array_equal(shape.seg, seg)


def test_other_programs_see_the_colours(tmp_path):
    seg = np.array([0, 1, 1, 2])
    write_labelled_ply(tmp_path / "cloud.ply", np.eye(4, 3), seg)
    colors = trimesh.load(tmp_path / "cloud.ply").colors
    assert np.array_equal(colors[:, :3], part_colors(seg))
    assert np.array_equal(colors[1], colors[2])


def test_near_labels_have_distinct_colours():
    colors = part_colors(np.arange(12)).astype(int)
    gaps = np.abs(colors[:, None] - colors[None]).sum(axis=2)
    assert gaps[~np.eye(12, dtype=bool)].min() > 30
    assert np.array_equal(part_colors(np.array([7]))[0], colors[7])
