import math

import numpy as np
import pytest
import torch

from pointpeft.ops import knn
from pointpeft.ops._neighbor_search import search_all, search_trees, tree_is_faster
from pointpeft.ops.neighbors import find_nearest
from tests.ops._slow import nearest


def expect_slow(query, points, k):
    distances, indices = knn(query, points, k)
    for cloud in range(len(points)):
        expected = nearest(query[cloud].numpy(), points[cloud].numpy(), k)
        assert np.array_equal(distances[cloud].numpy(), expected[0])
        assert np.array_equal(indices[cloud].numpy(), expected[1])


def duplicated(batch, num_points, copies):
    """A cloud on a coarse lattice, in which every distance occurs many times."""
    return torch.randint(0, copies, (batch, num_points, 3)).float() / 8


@pytest.mark.parametrize("k", [1, 2, 7, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_the_definition(k, dtype):
    expect_slow(torch.randn(2, 11, 3, dtype=dtype), torch.randn(2, 30, 3, dtype=dtype), k)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_ties_go_to_the_lower_index(k):
    points = duplicated(2, 40, 3)
    expect_slow(points[:, :9], points, k)


@pytest.mark.usefixtures("always_tree")
@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tree_agrees_with_the_definition_in_the_presence_of_ties(k, dtype):
    points = duplicated(2, 40, 3).to(dtype)
    expect_slow(points[:, :9], points, k)


@pytest.mark.usefixtures("tiny_tiles")
@pytest.mark.parametrize(("clouds", "rows"), [(1, 1), (5, 1), (3, 7), (1, 23)])
def test_tiles_do_not_change_the_result(clouds, rows):
    expect_slow(torch.randn(clouds, rows, 3), torch.randn(clouds, 13, 3), 4)


@pytest.mark.parametrize("copies", [2, 6, 10_000])
@pytest.mark.parametrize("k", [1, 16])
def test_tree_and_all_pairs_are_identical_on_large_clouds(copies, k):
    points = duplicated(1, 5000, copies)
    query = torch.cat([points[:, :200], torch.rand(1, 100, 3)], dim=1)
    for result, expected in zip(
        search_trees(query, points, k), search_all(query, points, k), strict=True
    ):
        assert torch.equal(result, expected)


@pytest.mark.parametrize("scale", [1e-22, 1e-4, 1e4, 1e18, 1e19, 1e25])
def test_tree_and_all_pairs_are_identical_where_float32_under_or_overflows(scale):
    points = torch.randn(1, 3000, 3) * scale
    for result, expected in zip(
        search_trees(points[:, :50], points, 8), search_all(points[:, :50], points, 8), strict=True
    ):
        assert torch.equal(result, expected)


def test_far_from_the_origin_rounding_does_not_separate_tree_and_all_pairs():
    points = 1000 + torch.randn(1, 3000, 3)
    for result, expected in zip(
        search_trees(points[:, :300], points, 16),
        search_all(points[:, :300], points, 16),
        strict=True,
    ):
        assert torch.equal(result, expected)


def test_blocks_of_candidates_do_not_change_the_tree_search(monkeypatch):
    points = duplicated(1, 400, 4)
    expected = search_all(points, points, 5)
    monkeypatch.setattr("pointpeft.ops._neighbor_search._MAX_CANDIDATES", 100)
    for result, value in zip(search_trees(points, points, 5), expected, strict=True):
        assert torch.equal(result, value)


def test_only_large_searches_use_the_tree():
    assert tree_is_faster(100_000, 100_000, 16)
    assert not tree_is_faster(64, 1024, 32)
    assert not tree_is_faster(100_000, 100, 50)


def test_a_point_finds_itself_first():
    points = torch.randn(2, 50, 3)
    distances, indices = knn(points, points, 3)
    assert torch.equal(indices[..., 0], torch.arange(50).expand(2, -1))
    assert distances[..., 0].eq(0).all()


def test_one_point():
    distances, indices = knn(torch.ones(1, 2, 3), torch.zeros(1, 1, 3), 1)
    assert distances.flatten().tolist() == [3.0, 3.0]
    assert indices.flatten().tolist() == [0, 0]


def test_clouds_of_a_batch_do_not_mix():
    query, points = torch.randn(3, 5, 3), torch.randn(3, 20, 3)
    alone = [knn(query[i : i + 1], points[i : i + 1], 4)[1] for i in range(3)]
    assert torch.equal(knn(query, points, 4)[1], torch.cat(alone))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_to_float32(dtype):
    points = torch.randn(1, 20, 3).to(dtype)
    distances, indices = knn(points, points, 5)
    expected = knn(points.float(), points.float(), 5)
    assert distances.dtype == torch.float32
    assert torch.equal(distances, expected[0])
    assert torch.equal(indices, expected[1])


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("bad", [1, 39, 40])
def test_points_of_a_diverged_network_are_found_last(bad, k):
    points = torch.randn(1, 40, 3)
    points[0, :bad] = math.nan
    indices = find_nearest(torch.randn(1, 6, 3), points, k)
    assert indices.ge(0).all()
    assert indices.lt(40).all()
    if k > 1:
        assert indices[..., : min(k, 40 - bad)].ge(bad).all()


def test_result_has_no_gradient():
    distances, _ = knn(torch.randn(1, 4, 3).requires_grad_(), torch.randn(1, 9, 3), 2)
    assert not distances.requires_grad
