import pytest
import torch

from pointpeft.ops import farthest_point_sample, gather_points
from pointpeft.ops.sampling import _sample
from tests.ops._slow import farthest


def both_kernels(points, num_samples, skip=False):
    """The CPU kernel and the one for all other devices, which must agree."""
    result = farthest_point_sample(points, num_samples, skip)
    assert torch.equal(result, _sample._init_fn(points, num_samples, skip))
    return result


def expect_slow(points, num_samples, skip=False):
    expected = [farthest(cloud, num_samples, skip) for cloud in points.numpy()]
    assert both_kernels(points, num_samples, skip).tolist() == expected


@pytest.fixture(params=["block", "boxes"])
def each_way(request):
    """Small clouds go through NumPy at once, large ones by boxes; both must do for all clouds."""
    if request.param == "boxes":
        request.getfixturevalue("always_boxes")


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("num_samples", [1, 2, 17, 40])
def test_agrees_with_the_definition(num_samples):
    expect_slow(torch.randn(3, 40, 3), num_samples)


@pytest.mark.usefixtures("each_way")
def test_agrees_with_the_definition_near_the_origin():
    points = torch.randn(3, 40, 3)
    points[:, ::3] *= 0.01
    expect_slow(points, 30, skip=True)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("skip", [False, True])
def test_agrees_with_the_definition_where_most_distances_are_equal(skip):
    expect_slow(torch.randint(0, 3, (3, 60, 3)).float() / 8, 40, skip)


@pytest.mark.parametrize("scale", [1e-22, 1.0, 1e19])
@pytest.mark.parametrize("skip", [False, True])
def test_a_large_cloud_is_sampled_like_a_small_one(scale, skip):
    both_kernels(scale * torch.randn(2, 20_000, 3), 300, skip)


def test_a_large_cloud_of_few_places_repeats_the_lowest_index():
    points = torch.randn(1, 50, 3)[:, torch.arange(20_000) % 50]
    samples = both_kernels(points, 300)[0]
    assert samples[:50].sort().values.tolist() == list(range(50))
    assert samples[50:].eq(0).all()


def test_a_point_at_the_float32_value_of_the_origin_limit_is_kept():
    limit = torch.tensor(1e-3)  # as float32 a little above 0.001, and compared in float64
    x = torch.linspace(0.01, 0.03, 100)
    y = (limit - x * x).sqrt()
    at_limit = torch.stack([x, y, 0 * x], dim=1)[x * x + y * y == limit][:1]
    points = torch.cat([torch.eye(3)[:1], at_limit, at_limit / 2]).unsqueeze(0)
    assert both_kernels(points, 3, skip=True)[0].tolist() == [0, 1, 0]


@pytest.mark.usefixtures("each_way")
def test_ties_go_to_the_lowest_index():
    square = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]])
    assert both_kernels(square, 5)[0].tolist() == [0, 1, 2, 4, 0]


def test_all_points_of_a_cloud_without_duplicates_are_a_permutation():
    samples = farthest_point_sample(torch.randn(2, 64, 3), 64)
    assert torch.equal(samples.sort(1).values, torch.arange(64).expand(2, -1))


def test_fewer_samples_are_a_prefix():
    points = torch.randn(2, 100, 3)
    assert torch.equal(farthest_point_sample(points, 50)[:, :10], farthest_point_sample(points, 10))


def test_sampling_the_samples_keeps_their_order():
    points = torch.randn(2, 100, 3)
    level = gather_points(points, farthest_point_sample(points, 30))
    assert torch.equal(farthest_point_sample(level, 10), torch.arange(10).expand(2, -1))


@pytest.mark.usefixtures("each_way")
def test_one_point():
    assert both_kernels(torch.zeros(2, 1, 3), 1, skip=True).tolist() == [[0], [0]]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("skip", [False, True])
def test_identical_points_repeat_the_first(skip):
    assert both_kernels(torch.ones(1, 5, 3), 5, skip)[0].tolist() == [0] * 5


@pytest.mark.usefixtures("each_way")
def test_with_everything_skipped_index_zero_is_repeated():
    assert both_kernels(torch.full((1, 4, 3), 1e-3), 4, skip=True)[0].tolist() == [0] * 4


@pytest.mark.usefixtures("each_way")
def test_an_exhausted_cloud_repeats_a_chosen_point_that_is_not_skipped():
    points = torch.zeros(1, 4, 3)
    points[0, 2] = 1.0  # the only point that may be chosen after index 0
    assert both_kernels(points, 4, skip=True)[0].tolist() == [0, 2, 2, 2]


def test_result_does_not_depend_on_the_block_of_clouds(monkeypatch):
    points = torch.randn(7, 50, 3)
    expected = farthest_point_sample(points, 20)
    monkeypatch.setattr("pointpeft.ops.sampling._CPU_BLOCK", 120)
    assert torch.equal(farthest_point_sample(points, 20), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_sample_as_their_raised_values(dtype):
    points = torch.randn(2, 30, 3).to(dtype)
    raised = points if dtype == torch.float64 else points.float()
    assert torch.equal(farthest_point_sample(points, 10), farthest_point_sample(raised, 10))


def test_accepts_strided_points_that_require_a_gradient():
    points = torch.randn(2, 3, 30).transpose(1, 2).requires_grad_()
    samples = farthest_point_sample(points, 5)
    assert torch.equal(samples, farthest_point_sample(points.detach().contiguous(), 5))
    assert not samples.requires_grad


def test_order_does_not_depend_on_the_unit():
    points = torch.tensor([[[0.0, 0, 0], [2e5, 0, 0], [9e5, 0, 0], [4e5, 0, 0]]])
    expected = farthest_point_sample(points * 1e-5, 4)
    assert torch.equal(farthest_point_sample(points, 4), expected)
