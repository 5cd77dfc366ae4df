"""Exported files on the test shapes of homeobjects: size, latency, and accuracy.

Without --adapter it is a linear SVM on the backbone that comes with the package.

    python benchmarks/export.py --output benchmarks/results/export-cpu.json
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import pointpeft as pp
from pointpeft.exporting import PRECISIONS
from pointpeft.files import write_json
from pointpeft.measure.records import versions

CLOUDS = 8
"""Shapes that are classified at once where time is not taken."""


def fitted(folder: Path) -> Path:
    """A run of a linear SVM on shapes that come with the package."""
    settings = {"data.source": "homeobjects", "method": "svm"}
    pp.finetune(pp.load_config(pp.FinetuneConfig, values=settings), folder)
    return folder


def measure(adapter: Path, folder: Path, threads: int, repeats: int) -> dict[str, Any]:
    """A row for the model itself, and one for each file."""
    torch.set_num_threads(threads)
    predictor = pp.Predictor(adapter)
    test = pp.load_shapes("homeobjects", predictor.transform).test
    clouds = np.ascontiguousarray(test.points[:, : predictor.transform.num_points])

    @torch.no_grad()
    def of_torch(points: np.ndarray) -> np.ndarray:
        return predictor.model(torch.from_numpy(points)).numpy()

    rows = {"torch": row(of_torch, clouds, test.labels, repeats)}
    for precision in PRECISIONS:
        file = folder / f"{precision}.onnx"
        written = pp.export(adapter, file, precision=precision)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        begun = time.perf_counter()
        session = onnxruntime.InferenceSession(file, options)
        loading = time.perf_counter() - begun
        found = row(of_session(session), clouds, test.labels, repeats)
        size, difference = written.num_bytes / 1e6, written.difference
        rows[precision] = {**found, "megabytes": size, "difference": difference,
                           "seconds_to_load": loading}  # fmt: skip
    return rows


def of_session(session: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A file as a function of clouds ``(B, N, 3)``."""
    return lambda points: session.run(None, {"points": points})[0]


def row(
    run: Callable[[np.ndarray], np.ndarray], clouds: np.ndarray, labels: np.ndarray, repeats: int
) -> dict[str, float]:
    """Accuracy on all clouds, and the median time of one."""
    parts = np.split(clouds, range(CLOUDS, len(clouds), CLOUDS))
    right = np.concatenate([run(part).argmax(1) for part in parts]) == labels
    times = []
    for place in range(repeats):
        begun = time.perf_counter()
        run(clouds[place : place + 1])
        times.append(time.perf_counter() - begun)
    return {
        "test_accuracy": 100 * float(right.mean()),
        "shapes": len(labels),
        "milliseconds": 1000 * statistics.median(times),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapter", type=Path, help="run or adapter folder, of homeobjects")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15, help="timed calls")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        adapter = args.adapter or fitted(Path(place) / "run")
        rows = measure(adapter, Path(place), args.threads, args.repeats)
    for name, found in rows.items():
        print(name, found)
    described = {"adapter": "as given" if args.adapter else "svm", "threads": args.threads}
    machine = {"cores": os.cpu_count(), "onnxruntime": onnxruntime.__version__, **versions()}
    write_json(args.output, {"settings": described, "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
