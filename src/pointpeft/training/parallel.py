"""Runs cells beside each other, each in a process of its own, here or by Ray.

So the peak memory of a cell is its own, and one that dies takes no other along. A cell computes
with one thread, whatever runs beside it.
"""

import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from typing import Any

from pointpeft.clusters import import_ray, ray_session
from pointpeft.errors import ConfigError
from pointpeft.memory import keep_freed_memory
from pointpeft.parent_process import INTERRUPTED, end_with_parent
from pointpeft.training.cells import Cell, run_cell

__all__ = ["Engine", "find_engine", "run_in_processes", "run_on_ray"]

Engine = Callable[[Sequence[Cell], int], Iterator[tuple[Cell, str | None]]]
"""Takes cells and how many run at a time; yields each that ended, and what ended its process."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def find_engine(name: str) -> Engine:
    """The engine of that name, one of :data:`pointpeft.training.grid.ENGINES`.

    Raises:
        ConfigError: there is none, or the library that it needs is not installed.
    """
    engines: dict[str, Engine] = {"processes": run_in_processes, "ray": run_on_ray}
    if name not in engines:
        raise ConfigError(f"`engine` must be one of {', '.join(engines)}, got {name!r}")
    if name == "ray":
        import_ray()
    return engines[name]


def run_in_processes(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, str | None]]:
    """Run cells in new processes of this machine, ``jobs`` at a time.

    They end when the caller does.
    """
    context = get_context("spawn")
    waiting = deque(cells)
    running: dict[Any, tuple[SpawnProcess, Cell]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.popleft()
                process = context.Process(target=_run_alone, args=(cell, sys.path))
                process.start()
                running[process.sentinel] = process, cell
            for sentinel in connection.wait(list(running)):
                process, cell = running.pop(sentinel)
                process.join()
                code = process.exitcode
                yield cell, f"the process ended with exit code {code}" if code else None
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def run_on_ray(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, str | None]]:
    """Run cells as tasks of Ray, as many as the cluster has cores for.

    The environment variable ``RAY_ADDRESS`` names a cluster; without it Ray starts on this machine.
    All machines must see the same files. Where there are GPUs, ``jobs`` cells share each.

    Raises:
        ConfigError: Ray is not installed.
    """
    with ray_session() as ray:
        on_gpu = ray.cluster_resources().get("GPU", 0) > 0
        # A process for each, as above: it ends after one call, and a call is not repeated.
        task = ray.remote(max_calls=1, max_retries=0)(_run_alone)
        running = {}
        for cell in cells:
            uses = on_gpu and cell.config.trainer.accelerator != "cpu"
            placed = task.options(num_cpus=1, num_gpus=1 / jobs if uses else 0)
            running[placed.remote(cell, sys.path)] = cell
        while running:
            for done in ray.wait(list(running))[0]:
                cell = running.pop(done)
                try:
                    ray.get(done)
                    yield cell, None
                except ray.exceptions.RayError as error:
                    yield cell, str(error)


def _run_alone(cell: Cell, paths: Sequence[str]) -> None:
    """Run a cell in a process that is there for it: on one thread, and in silence.

    A method of the user's own may lie in one of the ``paths`` of the caller.
    """
    import torch
    from threadpoolctl import threadpool_limits

    end_with_parent()
    sys.path.extend(path for path in paths if path not in sys.path)
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # of libraries that are not loaded yet
    torch.set_num_threads(1)
    logging.getLogger("pointpeft").addHandler(logging.NullHandler())  # its log.txt has it all
    with (
        threadpool_limits(1),
        open(os.devnull, "w") as nothing,  # noqa: PTH123 - no path
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        keep_freed_memory()
        try:
            run_cell(cell)
        except KeyboardInterrupt:  # Ctrl-C reaches all processes; the first one speaks of it
            sys.exit(INTERRUPTED)
