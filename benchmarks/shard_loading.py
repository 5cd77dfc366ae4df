"""Clouds per second that shards give, beside those that a step of pre-training takes, on one core.

Batches are loaded and trained on in turns, in one process, so that whatever else the machine does
falls on both alike; rates are medians. A turn loads a window of blocks: each is read from its file,
which the system has in its cache. Writing shards, of meshes and of clouds, is timed once before.

    python benchmarks/shard_loading.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pointpeft as pp
from pointpeft.data import InputTransform
from pointpeft.data.shards import load_sharded, write_shards
from pointpeft.data.transforms import pool_size, recipe
from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.training.pretraining_batches import PretrainingBatches

BATCH, POINTS, STORED = 128, 1024, 2048
MESHES, FACES = 200, 10_000
"""Meshes whose reading is timed, and about how many triangles each has."""


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_meshes(folder: Path) -> None:
    """Spheres with bumps, as `.obj`."""
    side = int((FACES / 2) ** 0.5)
    u, v = np.meshgrid(np.linspace(0.1, 3.0, side + 1), np.linspace(0, 6.2, side + 1))
    first = (np.arange(side)[:, None] * (side + 1) + np.arange(side)).ravel() + 1
    faces = np.concatenate(
        [np.stack([first, first + 1, first + side + 2], 1),
         np.stack([first, first + side + 2, first + side + 1], 1)]
    )  # fmt: skip
    lines = "".join(f"f {a} {b} {c}\n" for a, b, c in faces)
    for number in range(MESHES):
        radius = 1 + 0.1 * np.sin((2 + number % 7) * u) * np.cos((number % 5) * v)
        x, y, z = np.sin(u) * np.cos(v), np.cos(u), np.sin(u) * np.sin(v)
        points = np.stack([x, y, z], axis=-1).reshape(-1, 3) * radius.reshape(-1, 1)
        text = "".join(f"v {a:.6f} {b:.6f} {c:.6f}\n" for a, b, c in points)
        (folder / f"{number:04d}.obj").write_text(text + lines)


def batches(folder: Path) -> Iterator[dict[str, Any]]:
    """Training batches, epoch after epoch."""
    shapes = load_sharded(folder, InputTransform(POINTS))
    loader = PretrainingBatches(shapes, 0, pool_size(POINTS), BATCH, drop_last=True)
    iterable: Any = loader.train_dataloader()
    for epoch in range(1000):
        iterable.sampler.set_epoch(epoch)
        yield from iterable


class Step:
    """Steps of pre-training."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: Any = pp.create_model("point_mae_small", task="pretraining").train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.augment = recipe("scale-shift", POINTS)

    def __call__(self, points: torch.Tensor) -> None:
        """Augmentation, loss, gradients, step."""
        self.optimizer.zero_grad()
        self.model(self.augment(points)).backward()
        self.optimizer.step()


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=8192)
    parser.add_argument("--turns", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "meshes").mkdir()
        write_meshes(folder / "meshes")
        meshes = timed(lambda: write_shards(folder / "meshes", folder / "of-meshes", workers=0))
        clouds = np.random.default_rng(0).normal(size=(args.shapes, STORED, 3)).astype(np.float32)
        np.savez(folder / "clouds.npz", points=clouds)
        del clouds
        archive = timed(lambda: write_shards(folder / "clouds.npz", folder / "shards", workers=0))
        size = sum(file.stat().st_size for file in (folder / "shards").glob("*.parquet"))
        results = loading_and_training(folder / "shards", args.turns)
    results |= {
        "written_from_meshes": MESHES / meshes,
        "written_from_clouds": args.shapes / archive,
        "bytes_of_a_cloud": size / args.shapes,
    }
    for name, value in results.items():
        print(f"{name:24} {value:,.1f}")
    setting = {"batch": BATCH, "points": POINTS, "stored": STORED, "shapes": args.shapes}
    setting |= {"turns": args.turns, "threads": 1, "triangles": FACES, "model": "point_mae_small"}
    write_json(
        Path(__file__).parent / "results" / "shard_loading-cpu.json",
        {"setting": setting, "results": results, "versions": versions()},
    )


def loading_and_training(shards: Path, turns: int) -> dict[str, float]:
    """Clouds per second of both, each turn as many batches as a window of blocks has."""
    stream, step = batches(shards), Step()
    window = 16 * 256 // BATCH
    loaded, trained = [], []
    for turn in range(turns + 1):
        found: list[dict[str, Any]] = []
        seconds = timed(lambda: found.extend(next(stream) for _ in range(window)))  # noqa: B023
        points = found[0]["points"]
        taken = timed(lambda: step(points))  # noqa: B023
        if turn:  # the first one warms up
            loaded.append(BATCH * window / seconds)
            trained.append(BATCH / taken)
    rates = statistics.median(loaded), statistics.median(trained)
    return {"loaded": rates[0], "trained": rates[1], "times": rates[0] / rates[1]}


if __name__ == "__main__":
    main()
