"""Many minutes of good, bad and huge requests from many clients, with an adapter swapped meanwhile.

Every answer is compared with the one that the same request got alone: none may be lost or be of
another request. Memory is read every few seconds.

    python benchmarks/soak.py --minutes 10 --output benchmarks/results/soak-cpu.json
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from serving import cloud, serving, trained  # beside this file

from pointpeft.files import write_json
from pointpeft.measure.records import versions
from pointpeft.serving.limits import Limits
from pointpeft.serving.served_adapters import AdapterSet
from pointpeft.serving.service import Service

CLIENTS = 16
LIMITS = Limits(max_bytes=1 << 20)
BAD = (b"not an array", b"", b"\x93NUMPY" + bytes(200))
HUGE = bytes((1 << 20) + 1)


class Soak:
    """Clients that ask until they are stopped, and what they saw."""

    def __init__(self, address: str) -> None:
        self.address, self.stop = address, threading.Event()
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.good = [cloud(seed) for seed in range(24)]
        self.expected = [self.post(content)[1]["results"][0] for content in self.good]

    def post(self, content: bytes) -> tuple[int, Any]:
        """Status and document of an answer."""
        return self.ask("POST", "/v1/predict?adapter=run", content)

    def ask(self, method: str, path: str, content: bytes | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.address + path, content, {"Content-Type": "application/octet-stream"},
            method=method,
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def client(self, seed: int) -> None:
        """One client."""
        rng = random.Random(seed)
        while not self.stop.is_set():
            kind = rng.choices(("good", "bad", "huge"), (8, 2, 1))[0]
            place = rng.randrange(len(self.good))
            content = {"good": self.good[place], "bad": rng.choice(BAD), "huge": HUGE}[kind]
            try:
                status, document = self.post(content)
            except (OSError, ValueError) as error:
                self.wrong.append(f"lost: {kind}: {error!r}")
                continue
            self.seen[f"{kind}: {status}"] += 1
            if kind == "good" and status == 200:
                self.compare(document["results"][0], self.expected[place])
            elif status not in {"good": (503,), "bad": (422, 503), "huge": (413, 503)}[kind]:
                self.wrong.append(f"{kind}: {status}: {document}")

    def compare(self, got: dict[str, Any], expected: dict[str, Any]) -> None:
        same = got["nearest"][0]["id"] == expected["nearest"][0]["id"]
        if not same or abs(got["probability"] - expected["probability"]) > 1e-4:
            self.wrong.append(f"another answer: {got} instead of {expected}")

    def swap(self) -> None:
        """Load an adapter again and again, and take it away."""
        while not self.stop.wait(1):
            for method, path in (("POST", "run"), ("POST", "other"), ("DELETE", "other")):
                status, _ = self.ask(method, f"/v1/adapters/{path}")
                self.seen[f"swap {method}: {status}"] += 1


def main() -> None:
    """Soak the service, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        run = trained(Path(place) / "run")
        (Path(place) / "other").symlink_to(run)
        with serving(Service(AdapterSet([run]), LIMITS, Path(place))) as address:
            soak = Soak(address)
            memory = run_clients(soak, 60 * arguments.minutes)
    content = {
        "minutes": arguments.minutes,
        "clients": CLIENTS,
        "answers": dict(sorted(soak.seen.items())),
        "wrong": soak.wrong[:20],
        "megabytes_over_time": memory,
        "load_average": os.getloadavg()[0],
        "note": "two cores; memory is of service with clients, and readers",
        "versions": versions(),
    }
    print(json.dumps(content, indent=2))
    if arguments.output:
        write_json(arguments.output, content)
    raise SystemExit(bool(soak.wrong))


def resident() -> float:
    """Memory of this process and of those that read for it in megabytes, on Linux."""
    pages = 0
    for each in (os.getpid(), *(one.pid for one in multiprocessing.active_children())):
        with contextlib.suppress(OSError):  # a reader has just ended
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def run_clients(soak: Soak, seconds: float) -> list[float]:
    """Have the clients ask for so long; gives the memory at 24 times, in megabytes."""
    memory = []
    threads = [threading.Thread(target=soak.client, args=(seed,)) for seed in range(CLIENTS)]
    threads.append(threading.Thread(target=soak.swap))
    for thread in threads:
        thread.start()
    for _ in range(24):
        time.sleep(seconds / 24)
        memory.append(resident())
    soak.stop.set()
    for thread in threads:
        thread.join()
    return memory


if __name__ == "__main__":
    main()
