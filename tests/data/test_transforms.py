import pytest
import torch
from torch import Tensor

from pointpeft.data.transforms import (
    Compose,
    FirstPoints,
    RandomRotation,
    RandomScaleShift,
    RandomSubset,
    recipe,
)
from pointpeft.errors import ConfigError, DataError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairwise(points: Tensor) -> Tensor:
    return (points[:, :, None] - points[:, None]).norm(dim=-1)


@pytest.fixture
def clouds() -> Tensor:
    """Eight clouds, all the same, so that differences come from the transform."""
    return torch.randn(1, 64, 3, generator=seeded()).expand(8, -1, -1)


def test_scale_and_shift_stay_in_range_per_axis_and_sample() -> None:
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1]]).expand(4000, -1, -1)
    moved = RandomScaleShift((0.5, 2.0), 0.3)(corners, seeded())
    shift, scale = moved[:, 0], moved[:, 1] - moved[:, 0]
    for values, low, high in ((shift, -0.3, 0.3), (scale, 0.5, 2.0)):
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        assert values.min() < low + 0.05 * (high - low)
        assert values.max() > high - 0.05 * (high - low)
        assert torch.allclose(values.mean(dim=0), torch.tensor((low + high) / 2), atol=0.03)
        assert abs(torch.corrcoef(values.T) - torch.eye(3)).max() < 0.06


def test_one_factor_for_all_axes_keeps_proportions(clouds: Tensor) -> None:
    moved = RandomScaleShift((0.8, 1.25), 0.1, per_axis=False)(clouds, seeded())
    factors = pairwise(moved)[:, 0, 1] / pairwise(clouds)[:, 0, 1]
    assert torch.allclose(pairwise(moved), factors[:, None, None] * pairwise(clouds), atol=1e-5)
    assert len(factors.unique()) == len(clouds)
    assert factors.min() >= 0.8 - 1e-5
    assert factors.max() <= 1.25 + 1e-5
    shift = moved.mean(dim=1) - factors[:, None] * clouds.mean(dim=1)
    assert abs(shift).max() <= 0.1 + 1e-5


@pytest.mark.parametrize("name", ["part-segmentation", "scale-rotate", "none"])
def test_labels_stay_with_their_points(clouds: Tensor, name: str) -> None:
    """The label of every point is its place, which a transformed cloud still tells apart."""
    labels = torch.arange(64).expand(8, -1)
    for transform in (recipe(name, 32), Compose((RandomSubset(40, 64), FirstPoints(32)))):
        points, kept = transform.with_labels(clouds, labels, seeded(3))
        assert torch.equal(points, transform(clouds, seeded(3)))
        assert kept.shape == (8, 32)
        assert all(len(row.unique()) == 32 for row in kept)
    assert torch.equal(points, clouds.gather(1, kept.unsqueeze(-1).expand(-1, -1, 3)))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_keeps_the_axis_and_all_distances(clouds: Tensor, axis: str) -> None:
    turned = RandomRotation(axis)(clouds, seeded())
    fixed = "xyz".index(axis)
    assert torch.allclose(turned[..., fixed], clouds[..., fixed], atol=1e-6)
    assert torch.allclose(pairwise(turned), pairwise(clouds), atol=1e-5)
    frame = torch.eye(3)[None]
    assert torch.linalg.det(RandomRotation(axis)(frame, seeded())[0]) == pytest.approx(1, abs=1e-5)


def test_rotation_angles_cover_the_circle_evenly() -> None:
    arrow = torch.tensor([[[1.0, 0, 0]]]).expand(8000, -1, -1)
    turned = RandomRotation("y")(arrow, seeded())[:, 0]
    counts = torch.histc(torch.atan2(turned[:, 2], turned[:, 0]), bins=8)
    assert counts.min() > 900
    assert counts.max() < 1100


def test_rotation_follows_the_published_matrix() -> None:
    turned = RandomRotation("y")(torch.eye(3)[None], seeded())[0]
    cosine, sine = turned[0, 0], turned[0, 2]
    expected = torch.stack(
        [
            torch.stack([cosine, torch.zeros(()), sine]),
            torch.tensor([0.0, 1.0, 0.0]),
            torch.stack([-sine, torch.zeros(()), cosine]),
        ]
    )
    assert torch.allclose(turned, expected)


def test_rotation_of_the_whole_batch(clouds: Tensor) -> None:
    turned = RandomRotation("y", per_sample=False)(clouds, seeded())
    assert torch.equal(turned, turned[:1].expand(8, -1, -1))


def test_subset_is_without_replacement_from_the_pool(clouds: Tensor) -> None:
    ranks = torch.arange(64.0).view(1, 64, 1).expand(50, -1, 3)
    chosen = RandomSubset(20, 30)(ranks, seeded())[..., 0]
    assert chosen.max() == 29
    assert all(len(row.unique()) == 20 for row in chosen)
    assert len({tuple(row.tolist()) for row in chosen}) == 50


def test_subset_pool_is_limited_by_what_is_stored() -> None:
    ranks = torch.arange(24.0).view(1, 24, 1).expand(1, -1, 3)
    chosen = RandomSubset(24, 30)(ranks, seeded())[0, :, 0]
    assert sorted(chosen.tolist()) == list(range(24))


def test_first_points_are_a_prefix(clouds: Tensor) -> None:
    assert torch.equal(FirstPoints(10)(clouds), clouds[:, :10])


@pytest.mark.parametrize(
    "transform", [FirstPoints(65), RandomSubset(65, 80), RandomSubset(65, None)]
)
def test_too_few_points_are_refused(clouds: Tensor, transform: FirstPoints | RandomSubset) -> None:
    with pytest.raises(DataError, match=r"64.*65"):
        transform(clouds)


@pytest.mark.parametrize(
    "name",
    ["scale-shift", "rotate", "scale-shift-rotate", "scale-rotate", "part-segmentation", "none"],
)
def test_recipes_are_per_sample_and_repeatable(clouds: Tensor, name: str) -> None:
    transform = recipe(name, 32)
    first, again, other = (transform(clouds, seeded(seed)) for seed in (1, 1, 2))
    assert first.shape == (8, 32, 3)
    assert first.dtype == clouds.dtype
    assert torch.equal(first, again)
    if name == "none":
        assert torch.equal(first, clouds[:, :32])
    else:
        assert not torch.equal(first, other)
        assert not torch.allclose(first[0], first[1])


@pytest.mark.parametrize(
    ("points", "pool"), [(1024, 1200), (2048, 2400), (4096, 4800), (8192, 8192)]
)
def test_pool_is_the_published_one(points: int, pool: int) -> None:
    subset = recipe("scale-shift", points).steps[0]
    assert subset == RandomSubset(points, pool)


def test_published_ranges() -> None:
    assert recipe("scale-shift", 8).steps[1] == RandomScaleShift((2 / 3, 3 / 2), 0.2)
    assert recipe("scale-rotate", 8).steps[1:] == (
        RandomScaleShift((0.9, 1.1), 0.0),
        RandomRotation("y"),
    )


def test_input_is_left_alone(clouds: Tensor) -> None:
    clouds = clouds.clone()
    before = clouds.clone()
    recipe("scale-shift", 64)(clouds)
    assert torch.equal(clouds, before)


def test_global_generator_serves_by_default(clouds: Tensor) -> None:
    torch.manual_seed(5)
    first = RandomScaleShift()(clouds)
    torch.manual_seed(5)
    assert torch.equal(first, RandomScaleShift()(clouds))


def test_empty_composition_changes_nothing(clouds: Tensor) -> None:
    assert torch.equal(Compose()(clouds), clouds)


@pytest.mark.parametrize("make", [lambda: recipe("jitter", 8), lambda: RandomSubset(8, 4)])
def test_bad_settings_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_bad_axis_is_refused() -> None:
    with pytest.raises(ConfigError, match="axis='w'"):
        RandomRotation("w")  # type: ignore[arg-type]
