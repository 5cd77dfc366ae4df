"""Cost of one pre-training and one classification step of every backbone, as published.

Counted multiply-adds (matrix products alone), bytes that autograd stores for the backward pass,
peak memory, and median seconds of forward and backward. Each measurement has a process of its own.
I2P-MAE is pre-trained with an image encoder of the published size, whose weights are random.

    python benchmarks/backbones.py --output benchmarks/results/backbones-cpu.json
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import pointpeft as pp
from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.models import get_entry, list_models
from pointpeft.models.i2p_mae import I2PMAEPretraining
from pointpeft.vision import ClipTeacher

BATCH = 8
CLASSES = 15
PUBLISHED: dict[str, dict[str, float]] = {
    # The published code on a CPU of the same kind with 2 threads, clouds of 2,048 points.
    "point_mae classification": {
        "giga_multiply_adds": 117.9, "stored_MiB": 888, "peak_MiB": 1572,
        "forward_seconds": 0.77, "backward_seconds": 1.28,
    },
    "point_m2ae pretraining": {
        "peak_MiB": 2048, "forward_seconds": 1.41, "backward_seconds": 1.52,
    },
    "i2p_mae pretraining, 4 clouds": {
        "peak_MiB": 1884, "forward_seconds": 5.15, "backward_seconds": 0.75,
    },
}  # fmt: skip


def cases() -> list[tuple[str, str, int]]:
    """Names and tasks of the networks of published size, and clouds of a batch."""
    whole = [
        (name, task, BATCH)
        for name in list_models()
        if not name.endswith("_small")
        for task in ("pretraining", "classification")
        if task in get_entry(name).tasks
    ]
    return [*whole, ("i2p_mae", "pretraining", 4)]  # as the published code was measured


def build(name: str, task: str, batch: int) -> tuple[Any, Tensor]:
    """A network in train mode and clouds of the size it expects."""
    preset = "scanobjectnn" if task == "classification" else None
    classes = {"num_classes": CLASSES} if task == "classification" else {}
    if (name, task) == ("i2p_mae", "pretraining"):
        model: Any = I2PMAEPretraining(pp.create_model(name), teacher=image_teacher())
    else:
        model = pp.create_model(name, task=task, preset=preset, **classes)  # type: ignore[arg-type]
    spec = model.core.spec
    points = torch.nn.functional.normalize(torch.randn(batch, spec.num_points, 3), dim=-1)
    return model.train(), points


def image_teacher() -> ClipTeacher:
    """The visual tower of CLIP ViT-B/16 with random weights: counts do not hang on them."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return ClipTeacher(CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=16)))


def stored_bytes(model: Any, points: Tensor) -> int:
    """Bytes of distinct tensors that a forward pass keeps for the backward one, weights apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    alive = []  # a freed tensor would give its address to the next one

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(points).sum()
    return sum(kept.values())


def measure(name: str, task: str, batch: int, steps: int, threads: int) -> dict[str, float]:
    """All figures of one network."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    model, points = build(name, task, batch)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # products inside fused attention are not counted
        model(points).sum().backward()
    forward, backward = [], []
    for _ in range(steps):
        start = time.perf_counter()
        loss = model(points).sum()
        middle = time.perf_counter()
        loss.backward()
        end = time.perf_counter()
        model.zero_grad(set_to_none=True)
        forward.append(middle - start)
        backward.append(end - middle)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counted = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "giga_multiply_adds": counter.get_total_flops() / 2e9,
        "stored_MiB": stored_bytes(model, points) / 2**20,
        "peak_MiB": peak,
    }
    if not steps:
        return counted
    timed = {"forward_seconds": forward, "backward_seconds": backward}
    return counted | {name: statistics.median(seconds) for name, seconds in timed.items()}


def main() -> None:
    """Measure everything, or one network in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--steps", type=int, default=5, help="timed ones; 0: count alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=3, metavar=("NAME", "TASK", "CLOUDS"))
    arguments = parser.parse_args()
    if arguments.one:
        name, task, batch = arguments.one
        figures = measure(name, task, int(batch), arguments.steps, arguments.threads)
        print(json.dumps(figures))
        return
    results = {}
    for name, task, batch in cases():
        command = [sys.executable, __file__, "--one", name, task, str(batch)]
        command += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        key = f"{name} {task}" if batch == BATCH else f"{name} {task}, {batch} clouds"
        results[key] = json.loads(done.stdout.splitlines()[-1])
        print(key, results[key], flush=True)
    if arguments.output:
        settings = {"batch": BATCH, "steps": arguments.steps, "threads": arguments.threads}
        content = {"results": results, "published": PUBLISHED, "versions": versions()}
        write_json(arguments.output, {**settings, **content})


if __name__ == "__main__":
    main()
