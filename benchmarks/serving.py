"""Requests per second and latencies of the service, beside a bare loop over the model.

The loop does the same work on the same files in one process without HTTP: it reads and prepares
them, and gives batches of 32 to the model, which also compares each shape with those of training.
Loop and clients take turns, since other work on the machine changes the speed of both; seconds of
the processor, of the service with its reading processes, are told beside those of the clock.
Clients are a process of their own. Memory is of the tensors of 1, 10 and 100 adapters on one trunk.

    python benchmarks/serving.py --output benchmarks/results/serving-cpu.json
"""

import argparse
import contextlib
import http.client
import io
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
import uvicorn

import pointpeft as pp
from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.serving.served_adapters import AdapterSet
from pointpeft.serving.service import Service
from pointpeft.serving.web_app import create_app

POINTS = 1024
ADAPTERS = (1, 10, 100)
DIFFERENT = 64
"""Clouds that are sent in turn."""
KIND = "application/octet-stream"


class Case(NamedTuple):
    """How shapes are sent: by so many clients, to so many adapters in turn, so many a request."""

    clients: int
    adapters: int = 1
    shapes: int = 1

    def __str__(self) -> str:
        words = [f"{self.clients} clients"]
        words += [f"{self.adapters} adapters"] * (self.adapters > 1)
        words += [f"{self.shapes} shapes a request"] * (self.shapes > 1)
        return ", ".join(words)


CASES = (Case(1), Case(8), Case(32), Case(32, adapters=4), Case(4, shapes=32))


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


def form(contents: list[bytes]) -> tuple[bytes, str]:
    """A body of several files, and its content type."""
    head = b'--end\r\nContent-Disposition: form-data; name="file"; filename="a.npy"\r\n\r\n'
    parts = (head + content + b"\r\n" for content in contents)
    return b"".join(parts) + b"--end--\r\n", "multipart/form-data; boundary=end"


class Clients:
    """What so many clients at a time see; it runs in a process of its own."""

    def __init__(self, address: str, names: list[str]) -> None:
        self.place, self.names = urlsplit(address).netloc, names
        self.contents = [cloud(seed) for seed in range(DIFFERENT)]
        self.several = form(self.contents[:32])
        self.own = threading.local()

    def ask(self, case: Case, number: int) -> float:
        """Seconds that a request took."""
        if not hasattr(self.own, "connection"):
            self.own.connection = http.client.HTTPConnection(self.place, timeout=120)
        one = (self.contents[number % DIFFERENT], KIND)
        body, kind = one if case.shapes == 1 else self.several
        path = f"/v1/predict?adapter={self.names[number % case.adapters]}"
        start = time.perf_counter()
        self.own.connection.request("POST", path, body, {"Content-Type": kind})
        answer = self.own.connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return time.perf_counter() - start

    def serve(self, connection: Any) -> None:
        """Send as many requests in as many ways as the connection says."""
        while asked := connection.recv():
            case, count = asked
            with ThreadPoolExecutor(case.clients) as threads:
                connection.send(list(threads.map(partial(self.ask, case), range(count))))


def _clients(connection: Any, address: str, names: list[str]) -> None:
    Clients(address, names).serve(connection)


@contextlib.contextmanager
def clients_of(address: str, names: list[str]) -> Iterator[Callable[[Case, int], list[float]]]:
    """A process of clients; gives what asks for the latencies of so many requests."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_clients, args=(theirs, address, names), name="clients"
    )
    process.start()

    def ask(case: Case, count: int) -> list[float]:
        ours.send((case, count))
        return ours.recv()

    yield ask
    ours.send(None)
    process.join()


def processor_seconds() -> float:
    """Of this process and those that read for it, on Linux."""
    readers = [one.pid for one in multiprocessing.active_children() if one.name != "clients"]
    ticks = 0
    for each in (os.getpid(), *readers):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], Any], count: int) -> dict[str, Any]:
    """Milliseconds of the clock and of the processor for each of ``count`` shapes, and a result."""
    clock, processor = time.perf_counter(), processor_seconds()
    return {
        "result": work(),
        "clock": 1000 * (time.perf_counter() - clock) / count,
        "processor": 1000 * (processor_seconds() - processor) / count,
    }


def take_turns(run: Path, service: Service, names: list[str], count: int, rounds: int) -> Any:
    """Milliseconds for each shape, of the loop and of clients, and latencies in seconds."""
    loop = pp.Predictor(run)
    place = run.parent / "clouds"
    place.mkdir()
    for seed in range(DIFFERENT):
        (place / f"{seed:03}.npy").write_bytes(cloud(seed))
    files = sorted(place.iterdir()) * -(-count // DIFFERENT)
    found: dict[str, list[dict[str, float]]] = {}
    latencies: dict[str, list[float]] = {str(case): [] for case in CASES}
    with serving(service) as address, clients_of(address, names) as ask:
        ask(CASES[3], 16)  # processes start, memories are made ready
        list(loop.stream(files[:32]))
        for _ in range(rounds):
            for case in CASES:
                name, asked = str(case), count if case.clients > 1 else count // 4
                before = service.batches
                values = timed(partial(ask, case, asked // case.shapes), asked)
                latencies[name].extend(values.pop("result"))
                values["batch"] = asked / (service.batches - before)
                found.setdefault(name, []).append(values)
            for name, batch, some in (
                ("bare loop", 32, files[:count]),
                ("bare loop, one by one", 1, files[: count // 4]),
            ):
                values = timed(partial(_exhaust, loop.stream(some, batch)), len(some))
                del values["result"]
                found.setdefault(name, []).append(values)
            print({name: values[-1] for name, values in found.items()}, flush=True)
    return found, latencies


def _exhaust(predictions: Iterator[Any]) -> None:
    for _ in predictions:
        pass


def summary(found: Any, latencies: Any) -> dict[str, Any]:
    """Sums over the rounds, and what the service needs more than the loop."""
    means = {
        name: {kind: float(np.mean([one[kind] for one in rounds])) for kind in rounds[0]}
        for name, rounds in found.items()
    }
    loop = means["bare loop"]
    rows: dict[str, Any] = {}
    for name, mean in means.items():
        rows[name] = {
            "shapes_per_second": 1000 / mean["clock"],
            "processor_milliseconds": mean["processor"],
        }
        if name in latencies:
            p50, p99 = np.percentile(latencies[name], [50, 99])
            rows[name] |= {
                "clouds_per_batch": mean["batch"],
                "p50_seconds": float(p50),
                "p99_seconds": float(p99),
                "clock_over_loop": mean["clock"] / loop["clock"],
                "processor_over_loop": mean["processor"] / loop["processor"],
            }
    return rows


def memory(run: Path) -> dict[str, int]:
    """Bytes of all tensors of so many adapters on one trunk."""
    adapters, found = AdapterSet([run]), {}
    for number in range(1, max(ADAPTERS) + 1):
        if number > 1:
            adapters.load(f"adapter-{number}", run)
        if number in ADAPTERS:
            (model,) = adapters.models.values()
            tensors = (*model.parameters(), *model.buffers())
            storages = [tensor.untyped_storage() for tensor in tensors]
            found[str(number)] = sum({one.data_ptr(): one.nbytes() for one in storages}.values())
    return found


def measure(count: int, rounds: int, readers: int) -> dict[str, Any]:
    """All figures of one run."""
    with tempfile.TemporaryDirectory() as place:
        run = trained(Path(place) / "run")
        adapters = AdapterSet([run])
        names = ["run", *(f"adapter-{number}" for number in range(2, 5))]
        for name in names[1:]:
            adapters.load(name, run)
        service = Service(adapters, readers=readers)
        found = summary(*take_turns(run, service, names, count, rounds))
        found["bytes of tensors, by adapters"] = memory(run)
    return found


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = measure(arguments.requests, arguments.rounds, arguments.readers)
    print(results)
    if arguments.output:
        content = {
            "requests": arguments.requests,
            "rounds": arguments.rounds,
            "points": POINTS,
            "threads": arguments.threads,
            "readers": arguments.readers,
            "load_average": os.getloadavg()[0],
            "note": "two cores, shared with the clients; the load is that of the last minutes",
            "results": results,
            "versions": versions(),
        }
        write_json(arguments.output, content)


if __name__ == "__main__":
    main()
