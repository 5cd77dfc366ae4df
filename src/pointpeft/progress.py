"""Work that takes a while: a moving bar on a terminal, elsewhere a plain line now and then."""

import time
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

__all__ = ["Meter"]

_SILENCE = 60.0
"""Seconds after which a plain line says that the work goes on."""
_SPEED_OVER = 600.0
"""Seconds over which the speed is averaged that tells the time left."""


class Meter:
    """Shows how far a piece of work has come, and the time left.

    Without a terminal there is a line a minute, so that what is done sooner prints nothing.

    Args:
        title: what is being done.
        console: where to show it; by default standard error.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title, self.console = title, console or Console(stderr=True)
        self._progress = Progress(
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            speed_estimate_period=_SPEED_OVER,
        )
        self._task = self._progress.add_task(title, total=None)
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def update(self, done: int, total: int, text: str | None = None) -> None:
        """Move on; the bar is there from the first call until all is done.

        Args:
            done: steps that are done.
            total: steps of the whole work.
            text: what is said beside the bar; by default these numbers.
        """
        text = f"{done}/{total}" if text is None else text
        described = escape(f"{self.title}: {text}")
        self._progress.update(self._task, completed=done, total=total, description=described)
        if done < total:  # another bar may be drawn before and after; both calls may be repeated
            self._progress.start()
        else:
            self.close()
        if done < total and time.monotonic() - self._said >= _SILENCE:
            seconds = self._progress.tasks[self._task].time_remaining
            left = "" if seconds is None else f", about {timedelta(seconds=seconds)} left"
            self.say(f"{text}, {done / total:.0%} done{left}")

    def say(self, text: str) -> None:
        """Print a line; on a terminal, where the bar says it, nothing."""
        if not self.console.is_terminal:
            self.console.print(
                f"{self.title}: {text}", highlight=False, markup=False, soft_wrap=True
            )
            self._said = time.monotonic()
