"""Files per second that are classified, and the memory of the command over many files.

``predict`` is timed beside "ready", the same work on clouds that are read and prepared before: the
model, and the look of the frozen encoder for near training shapes, which `lda` and its like share
and `linear` needs besides. With one core for the model, a process may read on the other one. The
ways take turns, batches are of 32, and the files lie in the page cache of the system.

    python benchmarks/predicting.py --output benchmarks/results/predicting-cpu.json
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

import pointpeft as pp
from pointpeft.data.streaming import stream_files
from pointpeft.files import write_json
from pointpeft.formats import counted
from pointpeft.measure.records import versions

POINTS = 1024
METHODS = ("lda", "linear")
WAYS = ((1, 0), (1, 1), (2, 0), (2, 2))
"""Threads of the model, and processes that read."""
SMALL_NETWORK = {
    "backbone.depth": 1,
    "backbone.embed_dim": 48,
    "backbone.num_groups": 8,
    "backbone.group_size": 8,
    "data.num_points": 64,
}
"""So that files, not the network, decide how long 100,000 of them take."""


def write_files(folder: Path, count: int, points: int, suffix: str) -> list[Path]:
    """Random clouds."""
    folder.mkdir()
    generator, files = np.random.default_rng(0), []
    for number in range(count):
        files.append(folder / f"{number:06d}{suffix}")
        cloud = generator.normal(size=(points, 3)).astype(np.float32)
        if suffix == ".npy":
            np.save(files[-1], cloud)
        else:
            np.savetxt(files[-1], cloud, fmt="%.5f")
    return files


def trained(folder: Path, **settings: object) -> Path:
    """A run of one epoch on shapes that come with the package."""
    settings = {"data.source": "homeobjects", "method": "linear", "trainer.epochs": 1} | settings
    pp.finetune(pp.load_config(pp.FinetuneConfig, values=settings), folder)
    return folder


def seconds_for(work: Iterable[object]) -> float:
    """How long it takes until all is done."""
    start = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - start


def measure_speed(method: str, count: int, rounds: int) -> dict[str, float]:
    """Files per second of every way, median of the rounds; starting processes counts."""
    taken: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        predictor = pp.Predictor(trained(Path(place) / "run", method=method))
        files = write_files(Path(place) / "files", count, POINTS, ".xyz")
        ready = list(stream_files(files, predictor.transform, predictor.statistics))
        for _ in range(rounds):
            for threads, workers in WAYS:
                torch.set_num_threads(threads)
                predictor.predict(files[:4])
                on = counted(threads, "thread")
                taken[f"ready, {on}"].append(seconds_for(predictor.classify(ready)))
                way = f"predict, {on}, {counted(workers, 'process', 'processes')}"
                taken[way].append(seconds_for(predictor.stream(files, workers=workers)))
    return {way: count / statistics.median(seconds) for way, seconds in taken.items()}


def watch(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end; returns the peak memory in MiB.

    Not that of ``resource``, which counts the memory of the parent at the start as well.
    """
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        peak = int(found[1]) if found else peak
        time.sleep(0.1)
    return peak / 1024


def measure_memory(counts: list[int]) -> list[dict[str, float]]:
    """Seconds and peak memory, in MiB, of ``pointpeft predict FOLDER --output rows.csv``."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        run = trained(Path(place) / "run", **SMALL_NETWORK)
        for count in counts:
            folder = Path(place) / f"{count}"
            write_files(folder, count, 64, ".npy")
            command = [
                sys.executable, "-m", "pointpeft", "predict", str(folder), "--adapter", str(run),
                "--output", f"{folder}.csv", "--workers", "0",
            ]  # fmt: skip
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            peak = watch(process)
            seconds = time.perf_counter() - start
            rows = len(Path(f"{folder}.csv").read_text().splitlines()) - 1
            if process.returncode or rows != count:
                raise SystemExit(f"{rows} rows, and the command ended with {process.returncode}")
            found.append({"files": count, "seconds": seconds, "peak_mib": peak})
            print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, nargs="*", default=[1000, 10_000, 100_000])
    arguments = parser.parse_args()
    memory = measure_memory(arguments.many)
    speed = {each: measure_speed(each, arguments.files, arguments.rounds) for each in METHODS}
    print(speed)
    if arguments.output:
        content = {
            "files": arguments.files,
            "points": POINTS,
            "rounds": arguments.rounds,
            "load_average": os.getloadavg()[1],
            "files_per_second": speed,
            "command_over_many_files": memory,
            "versions": versions(),
        }
        write_json(arguments.output, content)


if __name__ == "__main__":
    main()
