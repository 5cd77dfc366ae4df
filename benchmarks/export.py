"""Exported files on the test shapes of homeobjects: size, latency, and accuracy.

Without --adapter it is a linear SVM on the backbone that comes with the package.

    pointpeft finetune --data homeobjects --method svm --output runs/svm
    pointpeft finetune --data homeobjects --method point-peft --output runs/point-peft
    python benchmarks/export.py --adapter runs/svm --adapter runs/point-peft \
        --output benchmarks/results/export-cpu.json
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
    """The method of an adapter, and a row for the model itself and one for each file."""
    torch.set_num_threads(threads)
    predictor = pp.Predictor(adapter)
    test = pp.load_shapes("homeobjects", predictor.transform).test
    clouds = np.ascontiguousarray(test.points[:, : predictor.transform.num_points])

    @torch.no_grad()
    def of_torch(points: np.ndarray) -> np.ndarray:
        return predictor.model(torch.from_numpy(points)).numpy()

    expected = classes(of_torch, clouds)
    rows = {"torch": row(of_torch, clouds, test.labels, expected, repeats)}
    for precision in PRECISIONS:
        file = folder / f"{precision}.onnx"
        written = pp.export(adapter, file, precision=precision)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(file, options)
        found = row(of_session(session), clouds, test.labels, expected, repeats)
        size, difference = written.num_bytes / 1e6, written.difference
        rows[precision] = {**found, "megabytes": size, "difference": difference}
    return {"method": written.properties["method"], "rows": rows}


def of_session(session: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A file as a function of clouds ``(B, N, 3)``."""
    return lambda points: session.run(None, {"points": points})[0]


def classes(run: Callable[[np.ndarray], np.ndarray], clouds: np.ndarray) -> np.ndarray:
    """Labels ``(B,)`` that a model gives."""
    parts = np.split(clouds, range(CLOUDS, len(clouds), CLOUDS))
    return np.concatenate([run(part).argmax(1) for part in parts])


def row(
    run: Callable[[np.ndarray], np.ndarray],
    clouds: np.ndarray,
    labels: np.ndarray,
    expected: np.ndarray,
    repeats: int,
) -> dict[str, float]:
    """Accuracy on all clouds, how many get another class than ``expected``, and the time of one."""
    given = classes(run, clouds)
    times = []
    for place in range(repeats):
        begun = time.perf_counter()
        run(clouds[place : place + 1])
        times.append(time.perf_counter() - begun)
    found = {
        "test_accuracy": 100 * float((given == labels).mean()),
        "other_classes": int((given != expected).sum()),
        "shapes": len(labels),
    }
    return {**found, "milliseconds": 1000 * statistics.median(times)} if times else found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapter", type=Path, action="append", help="run or adapter folder")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15, help="timed calls; 0: no times")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        adapters = args.adapter or [fitted(Path(place) / "run")]
        found = [measure(each, Path(place), args.threads, args.repeats) for each in adapters]
    for each in found:
        for name, row_of in each["rows"].items():
            print(each["method"], name, row_of)
    machine = {"cores": os.cpu_count(), "onnxruntime": onnxruntime.__version__, **versions()}
    settings = {"threads": args.threads, "repeats": args.repeats}
    write_json(args.output, {"settings": settings, "machine": machine, "adapters": found})


if __name__ == "__main__":
    main()
