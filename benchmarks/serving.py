"""Requests per second and latencies of the service, beside a bare loop over the model.

The loop prepares nothing and sends nothing: it gives ready clouds to the model, one by one and in
batches of 32. Memory is of the tensors of 1, 10 and 100 adapters on one trunk.

    python benchmarks/serving.py --output benchmarks/results/serving-cpu.json
"""

import argparse
import contextlib
import io
import os
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn

import pointpeft as pp
from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.serving.adapters import AdapterSet
from pointpeft.serving.app import create_app
from pointpeft.serving.service import Service

POINTS = 1024
CLIENTS = (1, 8, 32)
ADAPTERS = (1, 10, 100)


def trained(folder: Path) -> Path:
    """A run of one epoch on shapes that come with the package."""
    settings = {"data.source": "homeobjects", "method": "linear", "trainer.epochs": 1}
    pp.finetune(pp.load_config(pp.FinetuneConfig, values=settings), folder)
    return folder


@contextlib.contextmanager
def serving(service: Service) -> Iterator[str]:
    """A running service; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(create_app(service), port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def cloud(seed: int) -> bytes:
    """A cloud as an ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(seed).normal(size=(POINTS, 3)).astype(np.float32))
    return file.getvalue()


def ask(address: str, adapter: str, content: bytes) -> float:
    """Seconds that a request took."""
    start = time.perf_counter()
    request = urllib.request.Request(
        f"{address}/v1/predict?adapter={adapter}",
        content,
        {"Content-Type": "application/octet-stream"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
    return time.perf_counter() - start


def of_clients(address: str, names: list[str], clients: int, count: int) -> dict[str, float]:
    """What so many clients at a time see, each asking for another adapter in turn."""
    contents = [cloud(seed) for seed in range(16)]
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        seconds = list(
            threads.map(
                lambda n: ask(address, names[n % len(names)], contents[n % len(contents)]),
                range(count),
            )
        )
    whole = time.perf_counter() - start
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"requests_per_second": count / whole, "p50_seconds": p50, "p99_seconds": p99}


def bare_loop(model: Any, batch: int, count: int) -> float:
    """Clouds per second of the model alone."""
    points = torch.randn(batch, POINTS, 3)
    with torch.no_grad():
        model(points)
        start = time.perf_counter()
        for _ in range(count // batch):
            model(points)
    return count // batch * batch / (time.perf_counter() - start)


def memory(run: Path) -> dict[str, int]:
    """Bytes of all tensors of so many adapters on one trunk."""
    adapters, found = AdapterSet([run]), {}
    for number in range(1, max(ADAPTERS) + 1):
        if number > 1:
            adapters.load(f"adapter-{number}", run)
        if number in ADAPTERS:
            tensors = (*adapters.model.parameters(), *adapters.model.buffers())
            storages = [tensor.untyped_storage() for tensor in tensors]
            found[str(number)] = sum({one.data_ptr(): one.nbytes() for one in storages}.values())
    return found


def measure(count: int) -> dict[str, Any]:
    """All figures of one run."""
    with tempfile.TemporaryDirectory() as place:
        run = trained(Path(place) / "run")
        adapters = AdapterSet([run])
        names = ["run", *(f"adapter-{number}" for number in range(2, 5))]
        for name in names[1:]:
            adapters.load(name, run)
        model = pp.Predictor(run).model
        found: dict[str, Any] = {"bare loop, clouds per second": {
            f"batches of {batch}": bare_loop(model, batch, count) for batch in (1, 32)
        }}  # fmt: skip
        with serving(Service(adapters)) as address:
            of_clients(address, names, 4, 16)  # processes start, memories are made ready
            for clients in CLIENTS:
                found[f"{clients} clients"] = of_clients(address, names, clients, count)
                print(clients, found[f"{clients} clients"], flush=True)
        found["bytes of tensors, by adapters"] = memory(run)
    return found


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--requests", type=int, default=192)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = measure(arguments.requests)
    print(results)
    if arguments.output:
        content = {
            "requests": arguments.requests,
            "points": POINTS,
            "adapters": 4,
            "threads": arguments.threads,
            "load_average": os.getloadavg()[0],
            "note": "two cores, shared with other work and with the clients while this ran",
            "results": results,
            "versions": versions(),
        }
        write_json(arguments.output, content)


if __name__ == "__main__":
    main()
