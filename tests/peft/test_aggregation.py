"""Local groups and their weights against loops over single points."""

import pytest
import torch

from pointpeft.compat.methods import published_prompt_groups
from pointpeft.peft.point_peft_block import local_groups
from tests.models.tiny import clouds
from tests.peft import slow


@pytest.mark.parametrize("prompts", [0, 5])
def test_local_groups_equal_those_found_cloud_by_cloud(prompts):
    rows = clouds(3, 20 + prompts).double()
    tokens = rows[:, prompts:]
    groups = local_groups(tokens, rows, num_groups=6, group_size=4)
    assert groups.neighbors.shape == (18, 4)
    assert groups.weights.shape == (3, 20, 6)
    R = 20 + prompts
    for b, cloud in enumerate(rows.tolist()):
        centers = slow.farthest(cloud, 6)
        assert groups.centers.view(3, 6)[b].tolist() == [b * R + c for c in centers]
        for center, found in zip(centers, groups.neighbors.view(3, 6, 4)[b], strict=True):
            expected = slow.nearest(cloud, cloud[center], 4)
            assert found.tolist() == [b * R + n for n in expected]
        for token, weights in zip(cloud[prompts:], groups.weights[b], strict=True):
            expected = slow.share(token, [cloud[c] for c in centers])
            assert weights.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_rows_of_a_cloud_stay_within_it():
    groups = local_groups(clouds(4, 20), clouds(4, 20), 6, 4)
    owner = torch.arange(4)
    assert torch.equal(groups.neighbors.view(4, -1) // 20, owner.view(4, 1).expand(4, 24))
    assert torch.equal(groups.centers.view(4, -1) // 20, owner.view(4, 1).expand(4, 6))


def test_the_first_group_is_around_the_first_row():
    groups = local_groups(clouds(2, 20), clouds(2, 20), 6, 4)
    assert groups.centers[0] == 0
    assert groups.neighbors[0, 0] == 0


def test_gradient_reaches_prompt_coordinates_through_the_weights_alone():
    prompts = (0.02 * torch.randn(5, 3)).requires_grad_()
    centers = clouds(2, 20)
    rows = torch.cat([prompts.expand(2, -1, -1), centers], dim=1)
    groups = local_groups(centers, rows, 6, 4)
    (groups.weights * torch.randn(2, 20, 6)).sum().backward()
    assert prompts.grad[0].any()
    assert not groups.neighbors.requires_grad


def test_weights_of_prompts_have_exact_gradients():
    prompts = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    centers = clouds(2, 10).double()

    def weights(p):
        rows = torch.cat([p.expand(2, -1, -1), centers], dim=1)
        return local_groups(centers, rows, 4, 3).weights

    assert torch.autograd.gradcheck(weights, prompts, atol=1e-4)


def test_published_groups_number_rows_without_the_prompts():
    """The offset of cloud b is b G although its rows [prompts, tokens] begin at b (P + G)."""
    groups = published_prompt_groups(clouds(3), 0.02 * torch.randn(5, 3), 8, 4, 3)
    assert groups.weights.shape == (3, 8, 4)
    assert torch.equal(groups.centers.view(3, 4)[:, 0], torch.tensor([0, 8, 16]))
    assert torch.equal(
        groups.neighbors.view(3, -1) // 8, torch.tensor([[0], [1], [2]]).expand(3, 12)
    )
