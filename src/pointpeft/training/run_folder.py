"""Run folders, and how checkpoints get into them."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from pointpeft.compat.names import extra_epochs
from pointpeft.errors import CheckpointError, ConfigError, check_text
from pointpeft.files import no_trace_if_refused, replacing
from pointpeft.locations import ADAPTER, ENCODER, RUN_CONFIG
from pointpeft.measure.records import output_folder, versions
from pointpeft.peft.adapter_config import read_adapter_config
from pointpeft.training.config import (
    RunConfig,
    VerbConfig,
)
from pointpeft.training.config_files import config_text, dotted, read_settings, save_config
from pointpeft.training.processes import is_first_process
from pointpeft.training.run_log import logged_to
from pointpeft.training.settings import written

__all__ = [
    "ENCODER_HASH",
    "AtomicCheckpointIO",
    "EpochCheckpoint",
    "RunFolder",
    "TimedCheckpoint",
]

ENCODER_HASH = "encoder"
"""Entry of checkpoints of fine-tuning and of metrics of an SVM: the frozen encoder's identity."""

log = logging.getLogger("pointpeft")

_HARDWARE = (
    "trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.num_nodes",
    "trainer.num_workers",
)  # fmt: skip
"""Settings of what a run is computed on, not of what it computes."""
_MAY_CHANGE = (
    "trainer.epochs", "trainer.patience", "few_shot.fold", "few_shot.folds", "data.on_error",
    "on_fault", "checkpoint_minutes", *_HARDWARE,
)  # fmt: skip
"""Settings that a resumed run may change."""
_ENTRIES = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step")
"""What the checkpoint of a run has, whatever it trains."""
_WAY_OUT = "remove it to begin again, or name another `output`"
_UNSET = "not set"
"""What is said of an entry of a free-form mapping, such as ``backbone``, that is not there."""


class RunFolder:
    """Where a run writes: config, log, metrics, checkpoints, encoder weights, adapter.

    Of several processes the first one alone writes; in the others the methods that do have no
    effect.

    Args:
        path: the folder; created when absent, once there is something to write.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / RUN_CONFIG
        self.metrics = self.path / "metrics.json"
        self.history = self.path / "metrics.csv"
        self.log = self.path / "log.txt"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.best_vote = self.checkpoints / "best_vote.ckpt"
        self.adapter = self.path / ADAPTER
        self.best_vote_adapter = self.path / "adapter_best_vote"
        self.backbone = self.path / ENCODER

    def prepare(self, config: RunConfig, resume: bool) -> None:
        """Refuse to write over another run, or where no file can be read again.

        Raises:
            ConfigError: the path is no UTF-8; or the folder holds a run and ``resume`` is off, or
                the reverse, or the run there has other settings than its length and hardware, or
                more epochs behind it, or has ended and left no checkpoint to prolong it from.
        """
        check_text(str(self.path), "output")
        if not is_first_process():
            return
        if resume:
            self._check_same_run(config)
        elif self.config.exists():
            raise ConfigError(
                f"{self.path} already holds a run; pass `resume` to continue it, or another "
                "`output`"
            )

    def _check_same_run(self, config: RunConfig) -> None:
        if not self.config.is_file():
            raise ConfigError(f"nothing to resume: {self.path} holds no run ({self.config.name})")
        differ = _differences(self.config, config, _HARDWARE)
        changes = "; ".join(
            f"{key} was {written(was)} and is {written(given)} now"
            for key, (was, given) in differ.items()
            if key not in _MAY_CHANGE
        )
        if changes:
            raise ConfigError(
                f"{self.path} was begun with other settings: {changes}\nto resume leave all as in "
                f"its {self.config.name} but {', '.join(_MAY_CHANGE)}; for another run name "
                "another `output`"
            )
        histories = [self.history, *self.path.glob(f"seed*/{self.history.name}")]
        texts = [file.read_bytes() for file in histories if file.is_file()]
        ended = texts and self.metrics.is_file()
        if ended and differ and not self._has_checkpoint:  # what it reached would be lost
            raise ConfigError(
                f"{self.path} has ended and cannot go on, as {self.last} is missing: name another "
                "`output`"
            )
        done = max((len(text.splitlines()) - 1 for text in texts), default=0)
        if done > config.trainer.epochs + extra_epochs(config):
            raise ConfigError(
                f"{self.path} has {done} epochs behind it, more than trainer.epochs="
                f"{config.trainer.epochs}: a run cannot be shortened"
            )

    def begin(self, config: RunConfig) -> None:
        """Note the settings; metrics that are there belong to other ones."""
        if not is_first_process():
            return
        output_folder(self.path)
        self.metrics.unlink(missing_ok=True)
        save_config(config, self.config)

    def finished_metrics(self, config: VerbConfig) -> dict[str, Any] | None:
        """Metrics of a run that ended with these settings, on whatever hardware; None otherwise.

        Damaged ones are taken for none, and told of.
        """
        try:  # in this order, for the first process may be in begin() while another is here
            differ = _differences(self.config, config, _HARDWARE)
            content = self.metrics.read_bytes()
        except FileNotFoundError:
            return None
        except ConfigError as error:
            log.warning("%s: the run is taken for one that has not ended", error)
            return None
        if differ:
            return None
        try:
            metrics = json.loads(content)
        except ValueError:
            metrics = None
        if isinstance(metrics, dict) and metrics:
            return metrics
        log.warning("%s is damaged: the run is taken for one that has not ended", self.metrics)
        return None

    def begin_from(self, resume: bool) -> Path | None:
        """The checkpoint that a resumed run continues from, if one was written.

        Warns where epochs were trained and none is left.
        """
        if resume and self.last.is_file():
            return self.last
        if resume and self.history.is_file():
            log.warning("%s is missing: training begins again, from the start", self.last)
        return None

    def check_encoder(self, identity: str, source: str) -> None:
        """Refuse other weights than those that the run was begun with.

        Args:
            identity: hash of the encoder.
            source: where it came from.

        Raises:
            CheckpointError: it is another, or a checkpoint is damaged.
        """
        if self.encoder_hashes() - {identity}:
            raise CheckpointError(
                f"the weights of the encoder, {source}, are not those that {self.path} was begun "
                "with: put these back, or name another `output`"
            )

    def encoder_hashes(self) -> set[str]:
        """Identities of the encoders that its checkpoints and adapters, of all seeds, are for.

        Raises:
            CheckpointError: one of them is damaged.
        """
        found = set()
        for run in (self, *map(RunFolder, self.path.glob("seed*"))):
            if run.last.is_file():
                found.add(AtomicCheckpointIO().load_checkpoint(run.last).get(ENCODER_HASH))
            elif run.adapter.is_dir():
                found.add(read_adapter_config(run.adapter)["base_model"]["hash"])
        return {each for each in found if each}  # older checkpoints do not say it

    def to_go_on(self, longer: str) -> str:
        """What is said of a run that has ended, if a larger setting ``longer`` would go on."""
        if self._has_checkpoint:
            return f"; a larger {longer} goes on"
        return f"; it cannot go on, as {self.last} is missing"

    @property
    def _has_checkpoint(self) -> bool:
        """Of the run, or of one of its seeds."""
        name = self.last.relative_to(self.path)
        return self.last.is_file() or any(self.path.glob(f"seed*/{name}"))

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Send the package's log messages to ``log.txt`` as well, and the error that ends the run.

        Of a run that is refused before an epoch is completed no new folder is left.
        """
        if not is_first_process():
            yield
            return
        with no_trace_if_refused(self.path), logged_to(output_folder(self.path) / self.log.name):
            log.debug("command: %s", " ".join(sys.argv))
            log.debug("versions: %s", json.dumps(versions()))
            yield


def _differences(
    begun_with: Path, config: VerbConfig, free: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """Both values of settings, but for ``free`` ones, in which a file and a config differ.

    Raises:
        ConfigError: the file is damaged.
        FileNotFoundError: it is not there.
    """
    old, new = dotted(read_settings(begun_with)), dotted(yaml.safe_load(config_text(config)))
    return {
        key: (old.get(key, _UNSET), new.get(key, _UNSET))
        for key in {**new, **old}
        if key not in free and old.get(key) != new.get(key)
    }


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name, then renames; reads tensors and plain values only.

    Args:
        goes_on: a checkpoint that cannot be written, as on a full disk, is logged and does not end
            the run.
    """

    def __init__(self, goes_on: bool = False) -> None:
        super().__init__()
        self.goes_on = goes_on

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Replace ``path`` once the new file is complete and on disk.

        Raises:
            OSError: it cannot be written; the one before is as it was.
        """
        try:
            with replacing(path) as temporary:
                # By name: Ctrl-C in the writing of a Python file would come out as a RuntimeError.
                torch.save(checkpoint, temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            reason = error if isinstance(error, OSError) else f"is the disk full? ({error})"
            kept = "the one before it is kept" if Path(path).exists() else "there is none before it"
            text = f"checkpoint {path} cannot be written, {kept}: {reason}"
            if not self.goes_on:
                raise OSError(f"{text}; make room and --resume") from error
            log.error("%s", text)

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint without running code from it.

        Raises:
            CheckpointError: it is damaged, is none of a run, or holds more than tensors and plain
                values.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # arbitrary bytes raise almost anything
            reason = str(error) or type(error).__name__
            raise CheckpointError(f"{path} is damaged: {reason}; {_WAY_OUT}") from error
        found = content if isinstance(content, dict) else {}
        if lacks := [key for key in _ENTRIES if key not in found]:
            raise CheckpointError(
                f"{path} is no checkpoint of a run, it lacks {', '.join(lacks)}; {_WAY_OUT}"
            )
        return content


class EpochCheckpoint(ModelCheckpoint):
    """Keeps one checkpoint up to date at the end of every epoch.

    Args:
        path: the file.
        monitor: metric, larger is better, that an epoch must improve to be kept; None keeps the
            latest epoch.
        first_epoch: the first one that may be kept.
    """

    def __init__(self, path: Path, monitor: str | None = None, first_epoch: int = 0) -> None:
        super().__init__(
            path.parent, path.stem, monitor, mode="max", save_on_train_epoch_end=True,
            enable_version_counter=False,
        )  # fmt: skip
        self.path = Path(os.path.realpath(path))  # as the base class names the file
        self.first_epoch = first_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the epoch, if it is to be kept."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_train_epoch_end(trainer, pl_module)

    @property
    def state_key(self) -> str:
        """Found again in checkpoints whatever the settings of this class."""
        return f"EpochCheckpoint({self.path.stem})"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score, also in a folder that was moved."""
        score = state_dict["best_model_score"]
        if self.monitor and score is not None and self.path.is_file():
            self.best_model_score = self.kth_value = score
            self.best_model_path = self.kth_best_model_path = str(self.path)
            self.best_k_models = {str(self.path): score}


class TimedCheckpoint(L.Callback):
    """Writes a checkpoint within an epoch whenever some time has passed since the latest one.

    Args:
        path: the file, which the end of an epoch writes, too.
        minutes: that must have passed, by the clock of any process.
        check: raises an error where the weights are not to be kept.
    """

    def __init__(
        self, path: Path, minutes: float, check: Callable[[L.Trainer, L.LightningModule], None]
    ) -> None:
        self.path, self.seconds, self.check = path, 60 * minutes, check
        self._last = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The end of the epoch before has written one, or there is nothing to keep yet."""
        self._last = time.monotonic()

    on_train_start = on_train_epoch_start

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, *of_batch: Any
    ) -> None:
        """Write one, if it is time and the epoch does not end."""
        due = time.monotonic() - self._last >= self.seconds and not trainer.is_last_batch
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self.check(trainer, task)
            trainer.save_checkpoint(self.path)
            self._last = time.monotonic()
