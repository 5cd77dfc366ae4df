"""Meshes drawn by their faces, against loops over pixels, and beside their points as splats."""

import pytest
import torch
import trimesh
from torch.nn import functional as F

from pointpeft.vision import Mesh, Raster, draw_faces, fit_raster, orbit_mesh
from pointpeft.vision.shading import brightness, orbit_clouds, shade, spacing

SIZE = 64


def mesh_of(solid):
    return Mesh(torch.tensor(solid.vertices).float(), torch.tensor(solid.faces))


def plain(size=SIZE):
    """A raster whose pixels are as wide as the unit, from the origin on."""
    return Raster(
        torch.full((1, 1, 2), 1.0), torch.ones(1, 1, 1), torch.zeros(1, 1, 2).long(), size
    )


def drawn(triangles, size=SIZE):
    """The image of triangles ``(F, 3, 3)`` in pixels, one view."""
    faces = torch.arange(3 * len(triangles)).view(-1, 3)
    return draw_faces(triangles.reshape(1, -1, 3), faces, plain(size))[0]


def by_hand(triangles, size):
    """Every triangle at the middle of every pixel; nan where it hangs on rounding."""
    nearest, image = torch.full((size, size), -torch.inf).double(), torch.ones(size, size).double()
    middle = torch.stack(torch.meshgrid(*[torch.arange(size) + 0.5] * 2, indexing="ij"), -1)
    for corners in triangles.double():
        a, b, c = corners
        edges = torch.stack([b - a, c - a], dim=1)
        weights = torch.linalg.solve(edges[:2], (middle - a[:2]).unsqueeze(-1)).squeeze(-1)
        margin = torch.minimum(weights.amin(dim=-1), 1 - weights.sum(dim=-1))
        near = a[2] + weights @ edges[2]
        normal = F.normalize(torch.linalg.cross(b - a, c - a), dim=0)
        seen = (margin > 0) & (near > nearest)
        nearest[seen] = near[seen]
        image[seen] = brightness(normal * normal[2].sign())
        image[margin.abs() < 1e-2] = torch.nan
    return image


@pytest.mark.parametrize("seed", range(3))
def test_against_every_triangle_at_every_pixel(seed):
    generator = torch.Generator().manual_seed(seed)
    triangles = torch.rand(12, 3, 3, generator=generator) * 50 - 9  # some pass the border
    expected, found = by_hand(triangles, 32), drawn(triangles, 32)
    told = expected.isfinite()
    assert told.float().mean() > 0.5
    torch.testing.assert_close(found[told], expected[told].float())


def test_a_sphere_is_round_and_lit_as_a_sphere():
    images = orbit_mesh(mesh_of(trimesh.creation.icosphere(5)), 4, 20.0, SIZE)
    row, column = torch.meshgrid(*[torch.arange(SIZE) - SIZE / 2 + 0.5] * 2, indexing="ij")
    row, column = row / (SIZE - 3) * 2, column / (SIZE - 3) * 2  # the radius is 1
    squared = row.square() + column.square()
    inside = squared < 0.9
    near = (1 - squared).clamp(min=0).sqrt()
    expected = brightness(torch.stack([row, column, near], dim=-1))
    for image in images:
        assert (image[squared > 1.1] == 1).all()
        assert (image - expected)[inside].abs().max() < 0.06
        assert (image - expected)[inside].abs().mean() < 0.01


def test_a_cube_shows_the_top_and_two_sides():
    images = orbit_mesh(mesh_of(trimesh.creation.box()), 4, 20.0, SIZE)
    eye = orbit_clouds(torch.eye(3).unsqueeze(0), 4)  # x, y and z as each camera sees them
    for image, axes in zip(images, eye, strict=True):
        normals = axes * axes[:, 2:].sign()
        shown, count = image[image < 1].unique(return_counts=True)
        torch.testing.assert_close(shown, brightness(normals).sort().values)
        area = count / normals[:, 2].gather(0, brightness(normals).argsort())  # not foreshortened
        assert area.max() / area.min() < 1.1
        assert image.max() == 1  # the ground


def test_what_is_nearer_is_seen_in_any_order():
    generator = torch.Generator().manual_seed(0)
    front = torch.tensor([[[5.0, 5, 9], [60, 5, 9], [5, 60, 9]]])
    behind = torch.rand(40, 3, 3, generator=generator) * torch.tensor([64.0, 64, 8])
    both = torch.cat([behind, front])
    covered = drawn(front) < 1
    assert torch.equal(drawn(both)[covered], drawn(front)[covered])
    assert not torch.equal(drawn(both), drawn(front))
    shuffled = both[torch.randperm(41, generator=generator)]
    assert torch.equal(drawn(shuffled), drawn(both))


def test_of_two_faces_in_one_place_the_order_does_not_matter():
    flat = torch.tensor([[[5.0, 5, 3], [60, 5, 3], [5, 60, 3]]])
    crossing = torch.tensor([[[5.0, 5, -12.5], [60, 5, 42.5], [5, 60, -12.5]]])  # at row 20.5
    assert torch.equal(drawn(torch.cat([flat, crossing])), drawn(torch.cat([crossing, flat])))


def test_back_faces_are_drawn_alike():
    generator = torch.Generator().manual_seed(0)
    triangles = torch.rand(9, 3, 3, generator=generator) * 60
    assert torch.equal(drawn(triangles), drawn(triangles.flip(1)))


def test_a_triangle_larger_than_the_image_fills_it():
    huge = torch.tensor([[[-1e6, -1e6, 0.0], [3e6, -1e6, 1e6], [-1e6, 3e6, 0.0]]])
    image = drawn(huge)
    assert image.max() < 1
    assert image.min() == image.max()


def test_neighbours_leave_no_gap():
    """A square of triangles whose edges meet the middles of pixels."""
    lines = torch.linspace(10, 50, 81)
    grid = torch.stack([*torch.meshgrid(lines, lines, indexing="ij"), torch.zeros(81, 81)], -1)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]
    halves = [torch.stack(each, dim=2).view(-1, 3, 3) for each in ((a, b, c), (b, c, d))]
    image = drawn(torch.cat(halves))
    assert (image[10:50, 10:50] < 1).all()
    assert (image < 1).sum() == 40 * 40


@pytest.mark.parametrize("bad", ["point", "line", "edge on"])
def test_faces_without_an_area_are_left_out(bad):
    flat = torch.tensor([[[5.0, 5, 3], [60, 5, 3], [5, 60, 3]]])
    thin = {
        "point": [[20.0, 20, 9]] * 3,
        "line": [[10.0, 10, 9], [20, 20, 9], [30, 30, 9]],
        "edge on": [[10.0, 10, 9], [20, 20, 9], [30, 30, 12]],
    }[bad]
    assert torch.equal(drawn(torch.cat([flat, torch.tensor([thin])])), drawn(flat))
    assert (drawn(torch.tensor([thin])) == 1).all()


def test_a_mesh_without_faces_is_refused():
    empty = Mesh(torch.rand(4, 3), torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="mesh"):
        orbit_mesh(empty, 4, 20.0, SIZE)


@pytest.mark.parametrize(
    "solid",
    [
        trimesh.creation.icosphere(4),
        trimesh.creation.torus(1.0, 0.4),
        trimesh.creation.cone(1.0, 2.0),
        trimesh.creation.box((2, 1, 0.5)),
    ],
    ids=["sphere", "torus", "cone", "box"],
)
def test_faces_and_dense_splats_look_alike(solid):
    points = torch.tensor(trimesh.sample.sample_surface(solid, 20000, seed=0)[0]).float()[None]
    clouds = orbit_clouds(points, 4)
    splats = shade(clouds, fit_raster(clouds, SIZE), spacing(points).repeat(4, 1))
    faces = orbit_mesh(mesh_of(solid), 4, 20.0, SIZE)
    for one, other in ((splats < 1, faces < 1), (faces < 1, splats < 1)):
        reach = F.max_pool2d(other.float(), 5, 1, 2) > 0  # two pixels further
        assert (reach | ~one).all()
    inside = (splats < 1) & (faces < 1)
    assert abs(float(splats[inside].mean() - faces[inside].mean())) < 0.02
    assert float((splats - faces)[inside].abs().mean()) < 0.05


def test_many_faces_are_the_same_as_few_at_a_time(monkeypatch):
    mesh = mesh_of(trimesh.creation.icosphere(3))
    whole = orbit_mesh(mesh, 3, 20.0, SIZE)
    monkeypatch.setattr("pointpeft.vision.faces._TRIANGLES", 100)
    monkeypatch.setattr("pointpeft.vision.faces._PIXELS", 50)
    assert torch.equal(orbit_mesh(mesh, 3, 20.0, SIZE), whole)
