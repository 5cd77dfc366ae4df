"""Time and peak memory of the point operations.

    python benchmarks/ops.py [--device cpu] [--repeats 5] [--threads 1]

One thread by default: on a shared machine the thread barriers of small operations stall for tens
of scheduler ticks, and times on several threads say more about the neighbours than about the code.

Writes ``benchmarks/results/ops-<device>.json``. Every case runs in a process of its own, so that
the peak memory is its own: resident memory on a CPU (with what importing torch takes, listed as
the case "import"), allocated memory on a GPU.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointpeft.ops import chamfer_distance, farthest_point_sample, knn

RESULTS = Path(__file__).parent / "results"


def cloud(device: str, batch: int, points: int, seed: int = 0) -> Tensor:
    """Points near a unit sphere, of any radius between 0.7 and 1."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(batch, points, 3, generator=generator)
    radii = 0.7 + 0.3 * torch.rand(batch, points, 1, generator=generator)
    return (torch.nn.functional.normalize(directions, dim=-1) * radii).to(device)


def sampling(batch: int, points: int, samples: int) -> Callable[[str], Callable[[], Any]]:
    def prepare(device: str) -> Callable[[], Any]:
        x = cloud(device, batch, points)
        return lambda: farthest_point_sample(x, samples)

    return prepare


def neighbors(batch: int, queries: int, points: int, k: int) -> Callable[[str], Callable[[], Any]]:
    def prepare(device: str) -> Callable[[], Any]:
        x = cloud(device, batch, points)
        query = x[:, :queries].contiguous()
        return lambda: knn(query, x, k)

    return prepare


def chamfer(batch: int, points: int, backward: bool) -> Callable[[str], Callable[[], Any]]:
    def prepare(device: str) -> Callable[[], Any]:
        a = cloud(device, batch, points).requires_grad_(backward)
        b = cloud(device, batch, points, seed=1)
        if backward:
            return lambda: torch.autograd.grad(chamfer_distance(a, b), a)
        return lambda: chamfer_distance(a, b)

    return prepare


CASES: dict[str, Callable[[str], Callable[[], Any]]] = {
    "import": lambda device: lambda: torch.zeros(1, device=device),
    "fps 32 x 1024 -> 64": sampling(32, 1024, 64),
    "fps 8 x 2048 -> 128": sampling(8, 2048, 128),
    "fps 1 x 100000 -> 1024": sampling(1, 100_000, 1024),
    "knn 32 x 64 in 1024, k 32": neighbors(32, 64, 1024, 32),
    "knn 100000 in 100000, k 16": neighbors(1, 100_000, 100_000, 16),
    "chamfer 1216 x 32": chamfer(1216, 32, backward=False),
    "chamfer 1216 x 32, with backward": chamfer(1216, 32, backward=True),
    "chamfer 1 x 100000": chamfer(1, 100_000, backward=False),
}


def run_case(name: str, device: str, repeats: int) -> dict[str, float | int]:
    """Median time of one case after a warm-up, and the peak memory of this process."""
    call = CASES[name](device)
    call()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return {
        "median_ms": round(1e3 * statistics.median(times), 3),
        "fastest_ms": round(1e3 * min(times), 3),
        "peak_mib": round(peak_memory(device) / 2**20),
    }


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_memory(device: str) -> int:
    """Bytes."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_in_own_process(name: str) -> dict[str, float | int]:
    """Repeat this command line for one case."""
    command = [sys.executable, *sys.argv, "--case", name]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(output.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", choices=list(CASES), help="run this one here, print JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case:
        print(json.dumps(run_case(options.case, options.device, options.repeats)))
        return
    results = {}
    for name in CASES:
        results[name] = run_in_own_process(name)
        print(f"{name:36}{results[name]['median_ms']:12.2f} ms{results[name]['peak_mib']:8} MiB")
    report = {
        "device": options.device,
        "processor": processor(options.device),
        "threads": options.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "repeats": options.repeats,
        "cases": results,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"ops-{options.device.replace(':', '')}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {path}")


def processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
