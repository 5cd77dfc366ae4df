"""Files per second that become rows of a corpus, stage by stage, and memory by their number.

Each stage is measured alone, on one thread, with files in the cache of the system, by the time
that the core spent on it. Memory is that of a new process for each number of files.

    python benchmarks/corpus.py --output benchmarks/results/corpus-cpu.json
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointpeft.data import read_shape
from pointpeft.data.chunks import in_batches
from pointpeft.data.corpus import FileList
from pointpeft.data.procedural import procedural_shape
from pointpeft.data.shards.index import import_parquet
from pointpeft.files import write_json
from pointpeft.measure.corpus import Features, make_corpus
from pointpeft.measure.embedding import ShapeEncoder
from pointpeft.measure.records import versions

POINTS, TRIANGLES = 1024, 10_000
BATCH = 16
NAMES = (10_000, 1_000_000)


def write_cloud(path: Path, number: int) -> None:
    """A text of as many points as the model sees."""
    points = procedural_shape(number, 0, POINTS).points
    np.savetxt(path.with_suffix(".xyz"), points, fmt="%.5f")


def write_mesh(path: Path, number: int) -> None:
    """A binary STL of triangles, which need not hang together."""
    corners = procedural_shape(number, 0, 3 * TRIANGLES).points.reshape(-1, 3, 3)
    record = np.zeros(len(corners), dtype=[("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    record["v"] = corners
    content = bytes(80) + np.uint32(len(corners)).tobytes() + record.tobytes()
    path.with_suffix(".stl").write_bytes(content)


KINDS: dict[str, Callable[[Path, int], None]] = {
    f"xyz clouds of {POINTS:,} points": write_cloud,
    f"stl meshes of {TRIANGLES:,} triangles": write_mesh,
}


def write_files(folder: Path, write: Callable[[Path, int], None], count: int) -> list[Path]:
    """Shapes that all differ."""
    folder.mkdir()
    for number in range(count):
        write(folder / f"{number:06d}", number)
    return sorted(folder.iterdir())


def rate(work: Callable[[], Any], count: int) -> tuple[Any, float]:
    """What the work returns, and files per second of a core, whatever else the machine does."""
    start = time.process_time()
    made = work()
    return made, round(count / (time.process_time() - start), 1)


def peak_memory() -> int:
    """Largest resident memory in bytes; the one that `resource` knows begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def stages(folder: Path, files: list[Path]) -> dict[str, float]:
    """Files per second of every stage alone, and of all together."""
    encoder, count = ShapeEncoder.of_backbone(), len(files)
    transform = encoder.model.transform
    transform.prepare_batch([read_shape(files[0])])  # what is loaded on first use
    raw, read = rate(lambda: [read_shape(file) for file in files], count)
    ready, prepared = rate(
        lambda: [one for some in in_batches(raw, BATCH) for one in transform.prepare_batch(some)],
        count,
    )
    clouds = torch.from_numpy(np.stack([one.points[: transform.num_points] for one in ready]))
    encoder.encode(clouds[:2])
    _, embedded = rate(lambda: [encoder.encode(some) for some in clouds.split(32)], count)
    _, whole = rate(
        lambda: make_corpus(Features(), [folder], f"{folder}-rows", device="cpu", workers=0), count
    )
    return {"read": read, "prepared": prepared, "embedded": embedded, "all with shards": whole}


def peak_of_files(folder: str, count: int) -> int:
    """Peak memory of a process that embeds some of the files of a folder."""
    torch.set_num_threads(1)
    files = sorted(Path(folder).iterdir())[:count]
    output = f"{folder}-{count}"
    make_corpus(Features(), files, output, shard_size=50, device="cpu", workers=0)
    return peak_memory()


def peak_of_names(folder: str, count: int) -> int:
    """Peak memory of a process that lists as many files, which need not be there."""
    arrow, parquet = import_parquet()
    table = Path(folder) / f"{count}.parquet"
    schema = arrow.schema([("file", arrow.string())])
    with parquet.ParquetWriter(table, schema) as file:
        for some in in_batches(range(count), 10_000):
            names = [f"s3://shapes/{number // 1000:06d}/{number:09d}.glb" for number in some]
            file.write_table(arrow.table({"file": names}, schema=schema))
    assert FileList.make([table], 1000, Path(folder) / f"{count}-list.parquet").count == count
    return peak_memory()


def in_new_process(work: Callable[[str, int], int], folder: Path, count: int) -> int:
    """The same work where nothing else was done before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (str(folder), count))


def measure(count: int) -> dict[str, Any]:
    """Rates and memory."""
    rates, memory = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for number, (name, write) in enumerate(KINDS.items()):
            folder = Path(place) / str(number)
            rates[name] = stages(folder, write_files(folder, write, count))
            print(name, rates[name], flush=True)
        for some in (count // 4, count):
            memory[f"{some} files embedded"] = in_new_process(peak_of_files, folder, some)
        for some in NAMES:
            memory[f"{some} files listed"] = in_new_process(peak_of_names, Path(place), some)
        print(memory, flush=True)
    return {"files_per_second": rates, "peak_memory_bytes": memory}


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--files", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(arguments.files)
    if arguments.output:
        content = {
            "model": "point_mae_small",
            "files": arguments.files,
            "threads": 1,
            "load_average": os.getloadavg()[1],
            "note": "rates by the time that a core spent on the work",
            **found,
            "versions": versions(),
        }
        write_json(arguments.output, content)


if __name__ == "__main__":
    main()
