"""A process that ends when the one that started it does."""

import os
import threading
from multiprocessing import parent_process

__all__ = ["INTERRUPTED", "end_with_parent"]

INTERRUPTED = 130
"""Exit code of what was stopped from outside."""


def end_with_parent() -> None:
    """Have this process end when the one that started it does, in whatever way.

    Else what a killed command has begun would go on beside the command that resumes it.
    """
    if (parent := parent_process()) is not None:

        def follow() -> None:
            parent.join()
            os._exit(INTERRUPTED)

        threading.Thread(target=follow, daemon=True).start()
