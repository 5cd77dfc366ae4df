"""Tiny models and tiny, easily separable data: a training run takes a second or two."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from safetensors import safe_open
from safetensors.torch import load_file, save_file

NUM_POINTS = 64
CLASSES = ("box", "cylinder", "sphere", "torus")
TINY_BACKBONE = {
    "dim": 24,
    "depth": 2,
    "num_heads": 6,
    "num_groups": 8,
    "group_size": 8,
    "patch_widths": [8, 12, 16],
}
TINY = [
    *(f"backbone.{key}={value}".replace(" ", "") for key, value in TINY_BACKBONE.items()),
    f"data.num_points={NUM_POINTS}",
    "trainer.batch_size=16",
    "trainer.accelerator=cpu",
]


def mesh(name: str, place: int) -> trimesh.Trimesh:
    """The `place`-th shape of a class; all of about the same size."""
    size = 1.0 + 0.03 * place
    make = {
        "box": lambda: trimesh.creation.box(extents=(size, 1.0, 1.0)),
        "cylinder": lambda: trimesh.creation.cylinder(radius=0.15, height=2 * size, sections=12),
        "sphere": lambda: trimesh.creation.icosphere(subdivisions=2, radius=size),
        "torus": lambda: trimesh.creation.torus(size, 0.15, 24, 8),
    }
    return make[name]()


def write_meshes(folder: Path, counts: dict[str, int], suffix: str = "off", start: int = 0) -> Path:
    """A folder `<class>/<files>`; `start` is the number of the first shape of a class."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place in range(start, start + count):
            mesh(name, place).export(folder / name / f"{name}_{place:02d}.{suffix}")
    return folder


def clouds(name: str, count: int, noise: float = 0.02) -> np.ndarray:
    """Noisy surface samples `(count, 128, 3)` of a class."""
    generator = np.random.default_rng(CLASSES.index(name))
    sampled = [
        trimesh.sample.sample_surface(mesh(name, place), 2 * NUM_POINTS, seed=place)[0]
        for place in range(count)
    ]
    return np.stack(sampled) + noise * generator.normal(size=(count, 2 * NUM_POINTS, 3))


def write_archive(
    path: Path, parts: dict[str, int] | None = None, wrong_test_labels: bool = False
) -> Path:
    """An `.npz` of all classes; `parts` says how many shapes of a class each split has."""
    parts = parts or {"train": 8, "val": 2, "test": 2}
    count = sum(parts.values())
    label = np.repeat(np.arange(len(CLASSES)), count)
    split = np.tile(np.repeat(list(parts), list(parts.values())), len(CLASSES))
    if wrong_test_labels:
        label[split == "test"] = 0
    points = np.concatenate([clouds(name, count) for name in CLASSES]).astype(np.float32)
    np.savez(path, points=points, label=label, names=np.array(CLASSES), split=split)
    return path


def adapter_bytes(run: Path) -> dict[str, bytes]:
    """The files of a run's adapter, but for how far up from it the weights of its encoder lie."""
    files = sorted(file for file in (run / "adapter").rglob("*") if file.is_file())
    return {file.name: file.read_bytes().replace(b"../", b"") for file in files}


def rows(run: Path) -> list[dict[str, str]]:
    """The epochs of a run as ``metrics.csv`` has them."""
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def learnt(run: Path) -> list[dict[str, str]]:
    """The same without what hangs on the machine: equal runs have equal ones."""
    measured = ("clouds_per_second", "peak_memory_bytes")
    return [{k: v for k, v in row.items() if k not in measured} for row in rows(run)]


def start(*arguments: str) -> subprocess.Popen:
    """A command of the package in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pointpeft", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_epochs(process: subprocess.Popen, run: Path, number: int) -> None:
    """Until `number` epochs of a run are in its history and its checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if len(rows(run)) >= number and (run / "checkpoints/last.ckpt").is_file():
                return
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    raise AssertionError(f"{number} epochs were not seen; exit code {process.poll()}")


def times(found: Any, factor: float) -> Any:
    """What a training step returns, a loss or losses by name, with the loss times a factor."""
    return {**found, "loss": found["loss"] * factor} if isinstance(found, dict) else found * factor


def retrained(weights, path):
    """Weights of the same encoder after more training."""
    state = {name: tensor + 0.01 for name, tensor in load_file(weights).items()}
    with safe_open(weights, "pt") as file:
        save_file(state, path, file.metadata())
