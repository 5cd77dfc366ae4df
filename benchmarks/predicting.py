"""Files per second that are classified: one after the other, and in batches with processes.

"one by one" is what `predict` did before it had batches: read, prepare and classify a file, then
the next. It does not compare with training shapes, which the other ways do.

    python benchmarks/predicting.py --output benchmarks/results/predicting-cpu.json
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import pointpeft as pp
from pointpeft.data import read_shape
from pointpeft.files import write_json
from pointpeft.measure.records import versions

POINTS = 1024
WAYS = ((1, 0), (32, 0), (32, 1), (32, 2))
"""Sizes of batches, and processes that read."""


def write_files(folder: Path, count: int) -> list[Path]:
    """Clouds of as many points as the model sees, as `.xyz`."""
    generator, files = np.random.default_rng(0), []
    for number in range(count):
        files.append(folder / f"{number:04d}.xyz")
        np.savetxt(files[-1], generator.normal(size=(POINTS, 3)), fmt="%.5f")
    return files


def trained(folder: Path) -> Path:
    """A run of one epoch on shapes that come with the package."""
    settings = {"data.source": "homeobjects", "method": "linear", "trainer.epochs": 1}
    pp.finetune(pp.load_config(pp.FinetuneConfig, values=settings), folder)
    return folder


def one_by_one(predictor: pp.Predictor, files: list[Path]) -> None:
    """The loop of the version without batches."""
    for file in files:
        shape = read_shape(file)
        prepared = predictor.prepare(shape)
        points = torch.from_numpy(prepared.points[: predictor.transform.num_points])
        with torch.no_grad():
            predictor.model(points.unsqueeze(0)).softmax(1)
        predictor.warnings(shape, prepared)


def measure(count: int, threads: int) -> dict[str, float]:
    """Files per second of every way; starting processes counts."""
    torch.set_num_threads(threads)
    found = {}
    with tempfile.TemporaryDirectory() as place:
        predictor = pp.Predictor(trained(Path(place) / "run"))
        (Path(place) / "files").mkdir()
        files = write_files(Path(place) / "files", count)
        predictor.predict(files[:4])
        start = time.perf_counter()
        one_by_one(predictor, files)
        found["one by one, as before"] = count / (time.perf_counter() - start)
        for batch_size, workers in WAYS:
            start = time.perf_counter()
            made = list(predictor.stream(files, batch_size, workers))
            assert len(made) == count
            key = f"batches of {batch_size}, {workers} processes"
            found[key] = count / (time.perf_counter() - start)
            print(key, round(found[key], 1), flush=True)
    return found


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    results = measure(arguments.files, arguments.threads)
    print(results)
    if arguments.output:
        content = {
            "files": arguments.files,
            "points": POINTS,
            "threads": arguments.threads,
            "load_average": os.getloadavg()[1],
            "note": "two cores, shared with other work while this ran: compare the ways, not "
            "machines",
            "files_per_second": results,
            "versions": versions(),
        }
        write_json(arguments.output, content)


if __name__ == "__main__":
    main()
