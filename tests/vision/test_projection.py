"""Images of clouds and the way back, against loops over points and pixels."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pointpeft.vision import (
    NUM_VIEWS,
    back_project,
    draw,
    fit_raster,
    sample_bicubic,
    scale_gray,
    to_images,
    unscale_gray,
    view_clouds,
)
from tests.models.tiny import clouds

SIZES = [8, 32, 50]


def raster_by_hand(cloud, size):
    """Pixels of the points of one view, and its image."""
    plane = cloud[:, :2].numpy()
    lowest = plane.min(axis=0)
    cell = (plane.max(axis=0) - lowest).max() / np.float32(size - 3)
    cells = np.floor((plane - lowest) / cell).astype(int)
    offsets = [np.array([a, b]) for a in range(-2, 3) for b in range(-2, 3)]
    dense = [cells + offset + 1 for offset in offsets]
    ends = np.max(dense, axis=(0, 1)) + np.min(dense, axis=(0, 1))
    shift = [size // 2 - math.floor(end / 2) - 1 for end in ends]
    image = np.zeros((size, size))
    for indices in dense:
        for (row, column), depth in zip(indices + shift, cloud[:, 2].tolist(), strict=True):
            row = row + 1 if row < 0 else row - 1 if row >= size else row
            column = column + 1 if column < 0 else column - 1 if column >= size else column
            image[row, column] += depth
    return cells + 1 + shift, image


def test_each_view_has_the_axes_of_the_published_one():
    points = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert view_clouds(points).tolist() == [[[1, 2, 3]], [[3, 1, 2]], [[2, 3, 1]]]
    both = view_clouds(torch.cat([points, -points]))
    assert both[:, 0, 0].tolist() == [1, -1, 3, -3, 2, -2]  # all clouds of a view, then the next


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stretch", [(1.0, 1.0, 1.0), (3.0, 0.2, 1.0), (0.1, 1.0, 2.0)])
def test_images_against_loops(size, stretch):
    views = view_clouds(clouds(2, 40) * torch.tensor(stretch) + 0.3)
    raster = fit_raster(views, size)
    images, pixels = draw(views, raster), raster.pixels(views)
    for view, image, places in zip(views, images, pixels, strict=True):
        by_hand, expected = raster_by_hand(view, size)
        assert places.tolist() == by_hand.tolist()
        np.testing.assert_allclose(image.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_at_the_border_and_the_short_side_is_in_the_middle(seed):
    views = view_clouds(clouds(3, 200, seed=seed) * torch.rand(3, 1, 3))
    raster = fit_raster(views, 64)
    pixels = raster.pixels(views)
    assert pixels.min() >= 1
    assert pixels.max() <= 62
    sums = draw(views, raster).flatten(1).sum(dim=1)
    torch.testing.assert_close(sums, 25 * views[..., 2].sum(dim=1), rtol=1e-4, atol=1e-3)
    middles = (pixels.amax(dim=1) + pixels.amin(dim=1)) / 2
    assert ((middles - 31.5).abs() <= 1).all()


def test_a_cloud_of_one_place_is_one_spot():
    views = view_clouds(torch.full((1, 5, 3), 0.25))
    images = draw(views, fit_raster(views, 16))
    assert images.isfinite().all()
    assert (images > 0).sum(dim=(1, 2)).tolist() == [25] * NUM_VIEWS


def test_images_do_not_change_with_the_place_of_a_cloud_in_its_batch():
    points = clouds(3)
    together = view_clouds(points)
    alone = view_clouds(points[1:2])
    images = draw(together, fit_raster(together, 32)).unflatten(0, (NUM_VIEWS, 3))
    assert torch.equal(draw(alone, fit_raster(alone, 32)), images[:, 1])


def test_channels_are_scaled_as_imagenet():
    images = to_images(torch.tensor([[[0.0, 1e9]]]))
    assert images.shape == (1, 3, 1, 2)
    expected = [[(0.5 - 0.485) / 0.229, (1 - 0.485) / 0.229], [(0.5 - 0.456) / 0.224, None]]
    torch.testing.assert_close(images[0, 0, 0], torch.tensor(expected[0]))
    assert images[0, 1, 0, 0].item() == pytest.approx(expected[1][0])


@pytest.mark.parametrize("size", [0, 4, 33])
def test_sizes_that_cannot_be_centered_are_refused(size):
    with pytest.raises(ValueError, match=f"size .* 6, got {size}"):
        fit_raster(clouds(1), size)


@pytest.mark.parametrize(("grid", "size"), [((14, 14), 224), ((2, 3), 8), ((1, 1), 6), ((5, 4), 7)])
def test_single_pixels_are_those_of_the_enlarged_map(grid, size):
    maps = torch.randn(3, 5, *grid)
    pixels = torch.cartesian_prod(torch.arange(size), torch.arange(size))[:: max(size // 16, 1)]
    large = F.interpolate(maps, (size, size), mode="bicubic", align_corners=False)
    for row in range(3):
        rows = torch.full((len(pixels),), row)
        actual = sample_bicubic(maps, rows, pixels, size)
        expected = large[row, :, pixels[:, 0], pixels[:, 1]].T
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_points_get_the_features_of_their_pixel():
    views = view_clouds(clouds(2, 30))
    maps, raster = torch.randn(len(views), 4, 3, 3), fit_raster(views, 24)
    large = F.interpolate(maps, (24, 24), mode="bicubic", align_corners=False)
    actual = back_project(maps, raster, views)
    for r, pixels in enumerate(raster.pixels(views)):
        for m, (row, column) in enumerate(pixels.tolist()):
            expected = large[r, :, row, column]
            torch.testing.assert_close(actual[r, m], expected, rtol=1e-5, atol=1e-5)
    rows = torch.tensor([5, 0, 0, 3])
    chosen = back_project(maps, raster, views[rows, 7:9], rows)
    torch.testing.assert_close(chosen, actual[rows, 7:9])


def test_gradients_of_sampling_agree_with_finite_differences():
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    rows, pixels = torch.tensor([0, 1, 1]), torch.tensor([[0, 0], [5, 2], [7, 7]])
    assert torch.autograd.gradcheck(lambda m: sample_bicubic(m, rows, pixels, 8), [maps])


def test_brightness_is_had_back():
    brightness = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unscale_gray(scale_gray(brightness)), brightness)
