import numpy as np
import pytest

from pointpeft.data.procedural import PROGRAMS, procedural_clouds, procedural_shape
from pointpeft.errors import DataError


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_makes_sound_clouds(program):
    for index in range(15):
        shape = procedural_shape(index, num_points=512, program=program)
        assert shape.points.shape == (512, 3)
        assert shape.points.dtype == np.float32
        assert np.isfinite(shape.points).all()
        assert np.linalg.norm(shape.points, axis=1).max() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(shape.points.mean(axis=0), 0, atol=1e-5)
        assert shape.seg.min() >= 0
        assert shape.seg.max() < len(shape.parts)
        assert shape.program == program


def test_a_number_names_the_same_shape_for_ever():
    first = procedural_shape(7, seed=3)
    procedural_shape(8, seed=3)
    again = procedural_shape(7, seed=3)
    assert np.array_equal(first.points, again.points)
    assert np.array_equal(first.seg, again.seg)
    assert not np.array_equal(first.points, procedural_shape(7, seed=4).points)
    assert not np.array_equal(first.points, procedural_shape(9, seed=3).points)


def test_the_stream_uses_all_programs():
    drawn = {procedural_shape(index, num_points=16).program for index in range(200)}
    assert drawn == set(PROGRAMS)


def test_points_are_in_no_order():
    """The first half covers the shape as the whole does."""
    for index in range(20):
        points = procedural_shape(index, num_points=1024).points
        np.testing.assert_allclose(points[:512].mean(axis=0), 0, atol=0.12)


def test_every_part_has_points():
    whole = 0
    for index in range(30):
        shape = procedural_shape(index, program="winged")
        counts = np.bincount(shape.seg, minlength=len(shape.parts))
        assert counts.sum() == len(shape.points)
        whole += (counts > 0).all()
    assert whole >= 25  # a cut may take a part away


def test_points_spread_evenly_over_the_surface():
    """Of a shape with many parts, no part is left out and none is over-sampled."""
    small = procedural_shape(5, num_points=512, program="cabinet")
    large = procedural_shape(5, num_points=8192, program="cabinet")
    shares = [np.bincount(s.seg, minlength=len(s.parts)) / len(s.seg) for s in (small, large)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.02)


def test_clouds_are_stacked():
    clouds = procedural_clouds([2, 0], seed=1, num_points=64)
    assert clouds.shape == (2, 64, 3)
    assert np.array_equal(clouds[1], procedural_shape(0, 1, 64).points)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"index": -1}, "index=-1"),
        ({"index": 0, "seed": -2}, "seed=-2"),
        ({"index": 0, "num_points": 0}, "num_points=0"),
        ({"index": 0, "program": "tabel"}, "'table'"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(DataError, match=named):
        procedural_shape(**arguments)
