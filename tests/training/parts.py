"""Tiny shapes with part labels that are easily told apart."""

from pathlib import Path

import numpy as np

from tests.training.support import NUM_POINTS

CATEGORIES = {"lamp": ("lamp/foot", "lamp/pole", "lamp/shade"), "mug": ("mug/body", "mug/handle")}
PART_NAMES = tuple(part for parts in CATEGORIES.values() for part in parts)
DEPTH = "backbone.depth=3"  # part segmentation looks at three blocks


def lamp(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A pole with a disc below and a wider one above, and which of them each point is on."""
    seg = generator.integers(3, size=count)
    angle, reach = generator.uniform(0, 2 * np.pi, count), generator.random(count) ** 0.5
    radius = np.array([0.4, 0.05, 0.8])[seg] * reach
    height = np.array([-1.0, 0.0, 1.0])[seg] + np.where(seg == 1, 1.8, 0.2) * (
        generator.random(count) - 0.5
    )
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], axis=1), seg


def mug(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A cylinder and a ring beside it, and which of them each point is on."""
    seg = (generator.random(count) < 0.3).astype(np.int64)
    angle, height = generator.uniform(0, 2 * np.pi, count), generator.uniform(-0.5, 0.5, count)
    body = np.stack([0.5 * np.cos(angle), height, 0.5 * np.sin(angle)], axis=1)
    handle = np.stack([0.9 + 0.3 * np.cos(angle), 0.3 * np.sin(angle), 0.1 * height], axis=1)
    return np.where(seg[:, None] == 0, body, handle), seg


MAKERS = {"lamp": lamp, "mug": mug}


def part_arrays(count: int, num_points: int = 2 * NUM_POINTS) -> dict[str, np.ndarray]:
    """`count` shapes of each category as the arrays of an `.npz`, part labels counted through."""
    points, seg, label = [], [], []
    first = 0
    for place, (name, parts) in enumerate(CATEGORIES.items()):
        for number in range(count):
            cloud, own = MAKERS[name](np.random.default_rng((place, number)), num_points)
            points.append(cloud)
            seg.append(own + first)
            label.append(place)
        first += len(parts)
    return {
        "points": np.array(points, np.float32),
        "seg": np.array(seg, np.int16),
        "label": np.array(label),
        "names": np.array(list(CATEGORIES)),
        "parts": np.array(PART_NAMES),
    }


def write_part_archive(path: Path, count: int = 16, **changes: np.ndarray | None) -> Path:
    """An `.npz` of shapes with part labels; a change of None leaves an array out."""
    arrays = part_arrays(count) | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def write_part_folder(folder: Path, count: int = 8) -> Path:
    """A folder `<category>/<number>.txt` of lines `x y z part`, with `parts.txt`."""
    arrays = part_arrays(count)
    for number, (cloud, seg, label) in enumerate(
        zip(arrays["points"], arrays["seg"], arrays["label"], strict=True)
    ):
        target = folder / list(CATEGORIES)[label] / f"{number:02d}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(target, np.column_stack([cloud, seg]), fmt=["%.5f"] * 3 + ["%d"])
    (folder / "parts.txt").write_text("\n".join(PART_NAMES))
    return folder
