"""The log of a run: its file, and what a run says before it begins."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L

from pointpeft.data import ShapeData
from pointpeft.errors import PointPeftError

__all__ = ["Announcement", "announce_data", "logged_to"]

log = logging.getLogger("pointpeft")

_FORM = "%(asctime)s %(levelname)s %(message)s"


class _Onward(logging.Handler):
    """Hands messages on to the handlers above the package's logger."""

    def emit(self, record: logging.LogRecord) -> None:
        if log.parent is not None:
            log.parent.handle(record)


class _Once(logging.Filter):
    """Leaves out information that was logged before, such as the same weights for every seed."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = record.levelno != logging.INFO or text not in self._said
        self._said.add(text)
        return new


class _LogFile(logging.FileHandler):
    """A log file that never stands in the way: what a full disk does not take is not in it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as the base class has it
        """Say nothing of a message that could not be written."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close it, also where the last messages cannot be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Write the package's messages of every level to a file as well, and the error that ends it.

    What is shown elsewhere stays as logging is configured.
    """
    file = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter(_FORM, datefmt="%Y-%m-%d %H:%M:%S"))
    file.addFilter(_Once())
    level, propagate = log.level, log.propagate
    onward = [_Onward(log.getEffectiveLevel())] if propagate else []  # else an outer run hands on
    for handler in (file, *onward):
        log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield
    except Exception as error:
        trace = None if isinstance(error, PointPeftError) else sys.exc_info()
        file.handle(log.makeRecord(log.name, logging.ERROR, "", 0, "%s", (error,), trace))
        raise
    finally:
        log.setLevel(level)
        log.propagate = propagate
        for handler in (file, *onward):
            log.removeHandler(handler)
        file.close()


_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def announce_data(
    source: str, data: ShapeData, splits: Sequence[str] = ("train", "val", "test")
) -> None:
    """Log how many shapes there are in the splits that are used, and of what."""
    own = [name for name in splits if name != "val" or data.selects_on == "val"]
    counts = ", ".join(f"{len(getattr(data, name)):,} {_SPLITS[name]}" for name in own)
    log.info(
        "%s: shapes: %s; classes: %d; points of a shape: %d",
        source, counts, len(data.class_names), data.transform.num_points,
    )  # fmt: skip


class Announcement(L.Callback):
    """Logs what is trained for how long on what, and where the results go.

    Args:
        name: of the run.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def on_train_start(self, trainer: Any, task: L.LightningModule) -> None:
        """Say it."""
        trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
        device, processes = trainer.strategy.root_device.type, trainer.world_size
        log.info(
            "%s: trains %s parameters on %s; epochs %d to %d, batches of an epoch: %d, shapes of a "
            "batch: %d; writes to %s",
            self.name, f"{trained:,}",
            device if processes == 1 else f"{processes} devices ({device})",
            trainer.current_epoch + 1, trainer.max_epochs, trainer.num_training_batches,
            processes * trainer.train_dataloader.batch_size, trainer.logger.save_dir,
        )  # fmt: skip
