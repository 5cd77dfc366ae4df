"""From clouds to patch tokens."""

import pytest
import torch

from pointpeft.errors import DataError
from pointpeft.models.tokenizer import PatchEmbed, PatchTokenizer
from tests.models.tiny import clouds, settle


def naive_embed(embed: PatchEmbed, patches: torch.Tensor) -> torch.Tensor:
    """The mini-PointNet as it is drawn: [maximum, point] concatenated for every point."""
    B, G, S, _ = patches.shape
    local = embed.first_conv(patches.reshape(-1, 3)).view(B * G, S, -1)
    pooled = local.max(dim=1, keepdim=True).values.expand(-1, S, -1)
    both = torch.cat([pooled, local], dim=2)
    out = embed.second_conv(both.reshape(B * G * S, -1)).view(B, G, S, -1)
    return out.max(dim=2).values


@pytest.mark.parametrize("training", [False, True])
def test_the_embedding_equals_the_naive_concatenation(training):
    embed = settle(PatchEmbed(24, (8, 12, 16))).double().train(training)
    patches = torch.randn(2, 4, 8, 3, dtype=torch.float64)
    torch.testing.assert_close(embed(patches), naive_embed(embed, patches))


def test_the_order_of_points_in_a_patch_does_not_matter():
    embed = settle(PatchEmbed(24, (8, 12, 16))).eval()
    patches = torch.randn(2, 4, 8, 3)
    shuffled = patches[:, :, torch.randperm(8)]
    torch.testing.assert_close(embed(patches), embed(shuffled))


def test_patches_are_the_nearest_points_relative_to_farthest_points():
    tokenizer, points = PatchTokenizer(8, 8, 24, (8, 12, 16)), clouds()
    neighborhoods, centers = tokenizer.group(points)
    assert torch.equal(centers[:, 0], points[:, 0])
    for cloud, patch, center in zip(points, neighborhoods, centers, strict=True):
        nearest = (cloud[None] - center[:, None]).square().sum(-1).argsort(dim=1)[:, :8]
        torch.testing.assert_close(patch + center[:, None], cloud[nearest])


def test_tokens_follow_the_cloud_when_it_is_moved():
    """Neighbourhoods are relative, so a shift changes centers and nothing else."""
    tokenizer, points = PatchTokenizer(8, 8, 24, (8, 12, 16)).eval().double(), clouds().double()
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    (tokens, centers), (moved, moved_centers) = tokenizer(points), tokenizer(points + shift)
    torch.testing.assert_close(moved, tokens)
    torch.testing.assert_close(moved_centers, centers + shift)


@pytest.mark.parametrize(("groups", "size"), [(65, 8), (8, 65)])
def test_clouds_with_too_few_points_are_refused(groups, size):
    with pytest.raises(DataError, match=f"64.*{groups}.*{size}"):
        PatchTokenizer(groups, size, 24)(clouds())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_clouds_of_another_dtype_than_the_weights_are_refused(dtype):
    tokenizer = PatchTokenizer(8, 8, 24, (8, 12, 16))
    with pytest.raises(DataError, match=f"float32.*{dtype}"):
        tokenizer(clouds().to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert tokenizer.embed(torch.randn(2, 8, 8, 3).bfloat16()).shape == (2, 8, 24)


def test_as_many_groups_as_points_are_possible():
    tokens, centers = PatchTokenizer(64, 64, 24, (8, 12, 16)).eval()(clouds())
    assert tokens.shape == (3, 64, 24)
    assert centers.unique(dim=1).shape == (3, 64, 3)
