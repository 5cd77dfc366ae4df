"""How a process that trains handles the memory that it frees."""

import ctypes
from contextlib import suppress

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of ``mallopt`` in GNU's C library."""


def keep_freed_memory() -> None:
    """Have this process keep what it frees, for the rest of its life.

    GNU's C library gives large arrays back to the system at once. The next step asks for them anew
    and touches them page by page, which takes up to half of the time of large batches on a CPU.
    With other C libraries this does nothing.
    """
    with suppress(OSError, AttributeError):  # AttributeError: a library without mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)  # no array is mapped on its own
        mallopt(_TRIM_THRESHOLD, -1)  # the heap does not shrink
        mallopt(_TOP_PAD, 2**28)  # and grows by 256 MiB
