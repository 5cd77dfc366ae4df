"""Time and memory of one training step of each method, on Point-MAE as published.

Each method runs in a process of its own; the figures are medians of several steps after one
warm-up. ``published`` holds the same measurement of the published code, taken on a machine of the
same kind (two cores, two threads) with the retrieval feature of Point-PEFT given.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.evaluation.records import versions
from pointpeft.files import write_json

METHODS = ("linear", "full", "point-peft", "point-peft, query given")
BATCH, POINTS, CLASSES, BANK = 8, 2048, 15, 11392
PUBLISHED = {
    "full": {"seconds": 2.13, "peak_MiB": 1566},
    "point-peft, query given": {"seconds": 3.86, "peak_MiB": 2424},
}


def measure(method: str, steps: int, threads: int) -> dict[str, float]:
    """Median seconds of forward + backward, and the process's peak memory."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    model = pp.create_model("point_mae", preset="scanobjectnn", num_classes=CLASSES)
    name = method.split(",")[0]
    config = {"linear": pp.LinearConfig, "full": pp.FullConfig, "point-peft": pp.PointPeftConfig}
    bank = pp.MemoryBank(torch.randn(384, BANK)) if name == "point-peft" else None
    adapted = pp.get_peft_model(model, config[name](), bank).train()
    points = F.normalize(torch.randn(BATCH, POINTS, 3), dim=-1)
    labels = torch.arange(BATCH) % CLASSES
    query = torch.randn(BATCH, 384) if method.endswith("given") else None
    forward, backward = [], []
    for _ in range(steps + 1):
        start = time.perf_counter()
        loss = F.cross_entropy(adapted(points, query=query), labels)
        middle = time.perf_counter()
        loss.backward()
        end = time.perf_counter()
        adapted.zero_grad(set_to_none=True)
        forward.append(middle - start)
        backward.append(end - middle)
    return {
        "seconds": statistics.median(map(sum, zip(forward[1:], backward[1:], strict=True))),
        "forward": statistics.median(forward[1:]),
        "backward": statistics.median(backward[1:]),
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Run every method, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--method", choices=METHODS, help="measure one, in this process")
    args = parser.parse_args()
    if args.method:
        print(json.dumps(measure(args.method, args.steps, args.threads)))
        return
    results = {}
    for method in METHODS:
        command = [sys.executable, __file__, f"--method={method}", f"--steps={args.steps}"]
        command.append(f"--threads={args.threads}")
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[method] = json.loads(done.stdout.splitlines()[-1])
        r, p = results[method], PUBLISHED.get(method)
        beside = f"   published code {p['seconds']:.2f} s {p['peak_MiB']:.0f} MiB" if p else ""
        print(f"{method:24} {r['seconds']:.2f} s  {r['peak_MiB']:.0f} MiB{beside}")
    setting = {"batch": BATCH, "points": POINTS, "bank": BANK, "threads": args.threads}
    target = Path(__file__).parent / "results" / "training_step-cpu.json"
    write_json(
        target,
        {"setting": setting, "results": results, "published": PUBLISHED, "versions": versions()},
    )


if __name__ == "__main__":
    main()
