"""Clouds drawn as lit surfaces."""

import math

import pytest
import torch

from pointpeft.vision import fit_raster, make_views
from pointpeft.vision.shading import orbit_clouds, shade, spacing

SIZE = 64


def drawn(points, count=4, size=SIZE):
    clouds = orbit_clouds(points, count)
    raster = fit_raster(clouds, size)
    return clouds, raster, shade(clouds, raster, spacing(points).repeat(count, 1))


def sphere(count=2000):
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(1, count, 3, generator=generator)
    return directions / directions.norm(dim=2, keepdim=True)


def test_a_sphere_is_closed_lit_from_above_and_before_a_white_ground():
    _, _, images = drawn(sphere())
    row, column = torch.meshgrid(*[torch.arange(SIZE) - SIZE / 2 + 0.5] * 2, indexing="ij")
    radius = (row.square() + column.square()).sqrt()
    inside, outside = radius < SIZE * 0.4, radius > SIZE * 0.55
    for image in images:
        assert (image[outside] == 1).all()
        assert (image[inside] < 0.9).float().mean() > 0.98  # it is never as bright as the ground
        assert image[inside & (row < 0)].mean() > image[inside & (row > 0)].mean() + 0.2
    assert images.min() >= 0
    assert images.max() <= 1


def test_a_plane_is_evenly_lit_however_its_points_lie():
    """Seen at a slant, where the discs of its points stand out of it like scales."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(1, 2000, 3, generator=generator) * torch.tensor([1.0, 0.0, 1.0])
    _, _, images = drawn(table, size=128)
    for image in images:
        inside = torch.nn.functional.max_pool2d((image == 1).float()[None], 9, 1, 4)[0] == 0
        assert inside.sum() > 1000
        assert image[inside].std() < 0.03


def test_what_is_behind_is_not_seen():
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 40)] * 2)
    turn = torch.pi / 4  # of the first of four cameras, which sees this wall from the front
    wall = torch.stack([grid[:, 0] * math.cos(turn), grid[:, 1], -grid[:, 0] * math.sin(turn)], 1)
    behind = torch.tensor([math.sin(turn), 0.0, math.cos(turn)]) * -0.5
    hidden = 0.3 * sphere(1600)[0] + behind
    both = torch.stack([torch.cat([wall, wall]), torch.cat([wall, hidden])])
    clouds = orbit_clouds(both, 4)[:2]  # the first view of both
    raster = fit_raster(clouds[:1].repeat(2, 1, 1), SIZE)
    distances = torch.full(both.shape[:2], 0.05)
    alone, covered = shade(clouds, raster, distances)
    assert torch.equal(alone, covered)


def test_a_quarter_turn_of_the_cloud_is_the_next_view():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1, 500, 3, generator=generator)
    turned = points[..., [2, 1, 0]] * torch.tensor([1.0, 1.0, -1.0])
    one, other = orbit_clouds(points, 4), orbit_clouds(turned, 4)
    matches = [[torch.allclose(a, b, atol=1e-5) for b in other] for a in one]
    assert [row.count(True) for row in matches] == [1, 1, 1, 1]
    assert not any(matches[view][view] for view in range(4))


@pytest.mark.parametrize("name", ["depth", "shaded"])
def test_images_are_finite_whatever_the_cloud(name):
    views = make_views(name)
    for points in (torch.zeros(2, 1, 3), torch.rand(2, 3, 3), torch.rand(2, 50, 3) * 1e4):
        clouds = views.clouds(points)
        images = views.images(clouds, fit_raster(clouds, 32))
        assert images.shape == (2 * views.count, 3, 32, 32)
        assert images.isfinite().all()


def test_views_are_the_same_under_mixed_precision():
    points = torch.cat([sphere(), 0.5 * sphere() + 0.25])
    for name in ("shaded", "depth"):
        views = make_views(name)
        exact = views.show(points, SIZE)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(views.show(points, SIZE), exact)
