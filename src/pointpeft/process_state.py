"""Global settings of the process, which a run changes for its time and then gives back."""

import ctypes
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["undisturbed"]

_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")
"""Of the environment, as Lightning sets them."""
_PAUSE_SOFT = 1
"""OpenMP's ``omp_pause_soft``: threads end, settings stay."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let a function change the process for its time; also a decorator.

    Inside, numbers below the smallest normal one count as zero, which makes CPUs several times
    faster once activations get tiny. Deterministic algorithms do not fill new arrays before these
    are written: it changes no result and takes a pass over each.

    Afterwards the random generators of Python, NumPy and torch, deterministic algorithms, settings
    of cuDNN and the handling of tiny numbers are what they were.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn
    benchmark, cudnn_deterministic = cudnn.benchmark, cudnn.deterministic
    memory: Any = torch.utils.deterministic  # its attributes are made at run time
    fills, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False
    flushed = _flushes_denormals()
    _flush_denormals(True)
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        _flush_denormals(flushed)
        cudnn.benchmark, cudnn.deterministic = benchmark, cudnn_deterministic
        torch.use_deterministic_algorithms(deterministic, warn_only=warns_only)
        memory.fill_uninitialized_memory = fills
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _flushes_denormals() -> bool:
    """Whether this thread does; torch sets it and does not tell."""
    return not (torch.tensor(1e-40, dtype=torch.float32) * 1).item()


def _flush_denormals(on: bool) -> None:
    """Have this thread flush them or not, and all threads that compute for it.

    Those take it over when they are started. So the ones that are there, which wait for work, are
    ended: the next computation starts others. On platforms where torch does not bring GNU's OpenMP
    along, they keep what they have.
    """
    torch.set_flush_denormal(on)
    for library in Path(torch.__file__).parent.glob("lib/libgomp*"):
        with suppress(OSError, AttributeError):  # AttributeError: older than OpenMP 5
            ctypes.CDLL(str(library)).omp_pause_resource_all(_PAUSE_SOFT)
