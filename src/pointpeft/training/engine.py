"""The Lightning trainer that fills a run folder, in one process or in several."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch.utils.data import DataLoader

from pointpeft.errors import ConfigError
from pointpeft.training.callbacks import EpochSeeds
from pointpeft.training.config import TrainerConfig
from pointpeft.training.faults import Faults
from pointpeft.training.processes import disconnect_at_exit, is_first_process
from pointpeft.training.run_folder import (
    AtomicCheckpointIO,
    EpochCheckpoint,
    RunFolder,
    TimedCheckpoint,
)

__all__ = ["fit", "make_trainer"]

log = logging.getLogger("pointpeft")

# The others wait while the first process votes or measures a test split alone.
_PATIENCE = timedelta(days=2)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Leave out the trainer's advice, which is on code that calls it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning(\..*)?")
        yield


def make_trainer(
    config: TrainerConfig,
    run: RunFolder,
    seed: int,
    callbacks: list[L.Callback],
    monitor: str | None,
    grad_clip: float | None,
    first_epoch: int = 0,
    idle_parameters: bool = False,
    faults: Faults | None = None,
    minutes: float | None = None,
) -> L.Trainer:
    """A Lightning trainer that writes into ``run``.

    Under ``torchrun`` it takes part in all processes that were started.

    Args:
        config: length, precision, devices.
        run: the folder to fill.
        seed: of all random numbers during training.
        callbacks: further callbacks.
        monitor: validation metric, larger is better, that selects the best checkpoint; None keeps
            the last one only.
        grad_clip: largest L2 norm of the gradient.
        first_epoch: the first one that may be selected.
        idle_parameters: some trained parameters receive no gradient; several processes then look
            for them in every step.
        faults: what is done with those; by default they end the run.
        minutes: between checkpoints within an epoch; None writes them at its end alone.

    Raises:
        ConfigError: this machine cannot meet the settings, such as a GPU or a precision, or they
            ask for other processes than there are.
    """
    _quiet_trainer()
    faults = faults or Faults(run.last)
    callbacks = [EpochSeeds(seed), faults, *callbacks]
    if minutes is not None:
        callbacks.append(TimedCheckpoint(run.last, minutes, faults.check_weights))
    if monitor:
        callbacks.append(EpochCheckpoint(run.best, monitor, first_epoch))
    callbacks.append(EpochCheckpoint(run.last))
    config = _as_launched(config)
    try:
        trainer = _trainer(config, config.strategy, run, callbacks, grad_clip, faults)
        if trainer.world_size > 1 and config.strategy in ("auto", "ddp"):
            ddp = DDPStrategy(find_unused_parameters=idle_parameters, timeout=_PATIENCE)
            trainer = _trainer(config, ddp, run, callbacks, grad_clip, faults)
        if trainer.world_size > 1:
            disconnect_at_exit()
    except (MisconfigurationException, ImportError, ValueError) as error:
        raise ConfigError(
            f"trainer settings cannot be met (accelerator {config.accelerator}, devices "
            f"{config.devices}, precision {config.precision}): {error}; without a GPU use "
            "`device` cpu, which is trainer.accelerator=cpu"
        ) from error
    _check_processes(trainer, config)
    _warn_of_emulation(trainer, config)
    return trainer


@_without_advice()
def fit(
    trainer: L.Trainer,
    task: L.LightningModule,
    data: L.LightningDataModule | DataLoader,
    resume: Path | None,
) -> None:
    """Train; Ctrl-C ends as KeyboardInterrupt, with every completed epoch on disk."""
    try:
        trainer.fit(task, data, ckpt_path=resume)
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def _as_launched(config: TrainerConfig) -> TrainerConfig:
    """The config with what torchrun started in place of numbers that were left open."""
    if not TorchElasticEnvironment.detect():
        return config
    here, everywhere = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return replace(
        config,
        devices=str(here) if config.devices == "auto" else config.devices,
        num_nodes=max(config.num_nodes, everywhere // here),
    )


@_without_advice()
def _trainer(
    config: TrainerConfig,
    strategy: str | Strategy,
    run: RunFolder,
    callbacks: list[L.Callback],
    grad_clip: float | None,
    faults: Faults,
) -> L.Trainer:
    return L.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=int(config.devices) if config.devices.isdigit() else config.devices,
        strategy=strategy,
        num_nodes=config.num_nodes,
        precision=config.precision,  # type: ignore[arg-type]
        deterministic="warn" if config.deterministic else False,
        use_distributed_sampler=False,  # the loaders know their process
        gradient_clip_val=grad_clip,
        callbacks=callbacks,
        logger=TensorBoardLogger(run.path, name="tensorboard", version=""),
        sync_batchnorm=config.sync_batchnorm,
        plugins=[AtomicCheckpointIO(faults.goes_on)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _check_processes(trainer: L.Trainer, config: TrainerConfig) -> None:
    """Refuse a trainer for other processes than were started before it, or that cannot share."""
    on_cpus = trainer.strategy.root_device.type == "cpu" and trainer.world_size > 1
    if config.sync_batchnorm and on_cpus:
        raise ConfigError("trainer.sync_batchnorm is for GPUs; leave it out on CPUs")
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ConfigError(
            f"trainer.strategy={config.strategy} starts its processes in the middle of a run; use "
            "ddp, or one device in a notebook"
        )
    asked = started = trainer.num_devices * trainer.num_nodes
    if TorchElasticEnvironment.detect():
        started = int(os.environ["WORLD_SIZE"])
    if asked != started or (trainer.world_size == 1 and not is_first_process()):
        raise ConfigError(
            f"trainer.devices={config.devices} on trainer.num_nodes={config.num_nodes} machines "
            "are not the processes that were started: give their number on each machine and the "
            "number of machines; under torchrun leave both out"
        )


def _warn_of_emulation(trainer: L.Trainer, config: TrainerConfig) -> None:
    """Say where bfloat16 is far slower than float32: on a CPU without AVX-512 or its like."""
    if "bf16" not in config.precision or trainer.strategy.root_device.type != "cpu":
        return
    if torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        log.warning(
            "trainer.precision=%s: this CPU is too old for bfloat16, so that training is many "
            "times slower than with 32-true",
            config.precision,
        )


def _quiet_trainer() -> None:
    """Leave out what the trainer logs of hardware; what it logs as a warning passes."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
