import numpy as np
import pytest
import torch

from pointpeft.ops import ball_query
from tests.ops._slow import ball


def expect_slow(query, points, radius, k):
    result = ball_query(query, points, radius, k).numpy()
    for cloud in range(len(points)):
        expected = ball(query[cloud].numpy(), points[cloud].numpy(), np.float32(radius), k)
        assert np.array_equal(result[cloud], expected)


@pytest.mark.parametrize("radius", [0.05, 0.7, 100.0])
@pytest.mark.parametrize("k", [1, 5, 30, 45])
def test_agrees_with_the_definition(radius, k):
    expect_slow(torch.randn(2, 11, 3), torch.randn(2, 30, 3), radius, k)


@pytest.mark.usefixtures("tiny_tiles")
@pytest.mark.parametrize(("clouds", "rows"), [(1, 1), (5, 1), (3, 7), (1, 23)])
def test_tiles_do_not_change_the_result(clouds, rows):
    expect_slow(torch.randn(clouds, rows, 3), torch.randn(clouds, 13, 3), 0.9, 4)


def test_a_point_at_exactly_the_radius_is_outside():
    points = torch.tensor([[[0.5, 0, 0], [0.25, 0, 0]]])
    assert ball_query(torch.zeros(1, 1, 3), points, 0.5, 2).tolist() == [[[1, 1]]]


def test_an_empty_ball_gives_zeros():
    assert ball_query(torch.full((1, 1, 3), 9.0), torch.rand(1, 8, 3), 0.1, 3).tolist() == [
        [[0, 0, 0]]
    ]
