"""Which patches are hidden: how many, which, and how often."""

import math

import pytest
import torch

from pointpeft.models.masking import block_mask, patch_mask, random_mask
from tests.models.tiny import clouds


@pytest.mark.parametrize("kind", ["random", "block"])
@pytest.mark.parametrize(("ratio", "hidden"), [(0.6, 38), (0.0, 0), (0.99, 63), (0.01, 0)])
def test_every_cloud_hides_the_same_number_of_patches(kind, ratio, hidden):
    mask = patch_mask(clouds(5, 64), ratio, kind)
    assert mask.dtype == torch.bool
    assert mask.shape == (5, 64)
    assert mask.sum(1).tolist() == [hidden] * 5


@pytest.mark.parametrize("make", [random_mask, block_mask])
def test_clouds_of_a_batch_are_masked_independently(make):
    centers = clouds(1, 32).expand(20, -1, -1)
    assert len({tuple(row) for row in make(centers, 10).tolist()}) > 10


def test_random_masks_hide_every_patch_equally_often():
    trials, patches, hidden = 4000, 10, 4
    often = random_mask(torch.zeros(trials, patches, 3), hidden).float().mean(0)
    share = hidden / patches
    deviation = math.sqrt(share * (1 - share) / trials)
    assert (often - share).abs().max() < 5 * deviation


def test_random_masks_hide_pairs_of_patches_equally_often():
    trials, patches, hidden = 4000, 6, 3
    mask = random_mask(torch.zeros(trials, patches, 3), hidden).double()
    pairs = (mask.T @ mask / trials)[~torch.eye(patches, dtype=bool)]
    share = hidden * (hidden - 1) / (patches * (patches - 1))
    assert (pairs - share).abs().max() < 5 * math.sqrt(share * (1 - share) / trials)


def test_a_block_mask_hides_one_patch_and_those_nearest_to_it():
    centers = clouds(6, 20)
    for center, mask in zip(centers, block_mask(centers, 7), strict=True):
        hidden = set(mask.nonzero().flatten().tolist())
        nearest = torch.cdist(center.double(), center.double()).argsort(dim=1)[:, :7]
        assert hidden in [set(row) for row in nearest.tolist()]


def test_a_block_mask_starts_at_every_patch():
    mask = block_mask(clouds(1, 8).expand(400, -1, -1), 1)
    assert mask.any(0).all()
