import numpy as np
import pytest
import torch

from pointpeft.ops import inverse_distance_weights, three_interpolate
from tests.ops._slow import distances, nearest


def test_weights_agree_with_the_definition():
    query, source = torch.randn(2, 6, 3), torch.randn(2, 4, 3)
    weights = inverse_distance_weights(query, source).numpy()
    for cloud in range(2):
        raw = 1 / (distances(query[cloud].numpy(), source[cloud].numpy()) + 1e-8)
        np.testing.assert_allclose(weights[cloud], raw / raw.sum(1, keepdims=True), rtol=1e-5)


def test_weights_sum_to_one_also_for_coincident_and_far_points():
    source = torch.randn(1, 5, 3)
    query = torch.cat([source, 1e6 * source], dim=1)
    torch.testing.assert_close(inverse_distance_weights(query, source).sum(-1), torch.ones(1, 10))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_interpolation_agrees_with_the_definition(k):
    query, source, features = torch.randn(2, 9, 3), torch.randn(2, 7, 3), torch.randn(2, 7, 4)
    result = three_interpolate(query, source, features, k).numpy()
    for cloud in range(2):
        d2, indices = nearest(query[cloud].numpy(), source[cloud].numpy(), k)
        weights = 1 / (d2 + 1e-8)
        weights /= weights.sum(1, keepdims=True)
        expected = (weights[..., None] * features[cloud].numpy()[indices]).sum(1)
        np.testing.assert_allclose(result[cloud], expected, rtol=1e-4, atol=1e-6)


def test_features_are_reproduced_at_the_source_points():
    source, features = torch.randn(2, 8, 3), torch.randn(2, 8, 4)
    result = three_interpolate(source, source, features)
    torch.testing.assert_close(result, features, atol=1e-4, rtol=0)


def test_one_source_is_broadcast():
    features = torch.randn(2, 1, 4)
    result = three_interpolate(torch.randn(2, 5, 3), torch.randn(2, 1, 3), features)
    assert torch.equal(result, features.expand(2, 5, 4))


def test_two_sources_are_both_used():
    source = torch.tensor([[[-1.0, 0, 0], [1, 0, 0]]])
    features = torch.tensor([[[0.0], [1.0]]])
    assert three_interpolate(torch.zeros(1, 1, 3), source, features).item() == pytest.approx(0.5)


def test_gradients():
    query = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    source = torch.randn(1, 6, 3, dtype=torch.float64, requires_grad=True)
    features = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(inverse_distance_weights, (query, source))
    assert torch.autograd.gradcheck(three_interpolate, (query, source, features))
    assert torch.autograd.gradgradcheck(three_interpolate, (query, source, features))


def test_clouds_of_a_batch_do_not_change_each_other_nor_their_gradients():
    query, source, features = (torch.randn(4, *shape) for shape in [(90, 3), (7, 3), (7, 5)])
    together = results(query, source, features)
    for i in range(4):
        alone = results(*(x[i : i + 1] for x in (query, source, features)))
        for one, all_ in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_[i])


def results(*arguments):
    """Interpolated features, and the gradients of all arguments."""
    arguments = [x.clone().requires_grad_() for x in arguments]
    features = three_interpolate(*arguments)
    return features, *torch.autograd.grad(features.square().sum(), arguments)


def test_sources_that_no_query_is_near_get_no_gradient():
    source = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [50, 0, 0], [60, 0, 0]]])
    features = torch.randn(1, 5, 2, requires_grad=True)
    three_interpolate(torch.rand(1, 9, 3), source, features).sum().backward()
    assert features.grad[0].any(1).tolist() == [True, True, True, False, False]


def test_gradients_are_finite_at_coincident_points():
    source = torch.randn(1, 6, 3, requires_grad=True)
    three_interpolate(source, source, torch.randn(1, 6, 2)).sum().backward()
    assert source.grad.isfinite().all()


def test_result_has_the_dtype_of_the_features():
    source = torch.randn(1, 6, 3)
    result = three_interpolate(source, source, torch.randn(1, 6, 2, dtype=torch.bfloat16))
    assert result.dtype == torch.bfloat16
