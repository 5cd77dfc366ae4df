"""Weights, data and runs that the tests of training share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import pointpeft as pp
from pointpeft.measure import analysis
from pointpeft.training import (
    FinetuneConfig,
    PretrainConfig,
    finetune,
    fitting,
    load_config,
    pretrain,
)
from tests.training.support import TINY, TINY_BACKBONE, write_archive


@pytest.fixture(autouse=True, scope="module")
def light_runs() -> Iterator[None]:
    """What every run has beside its training takes less time than the training.

    No SVM is fitted beside a run, and maps of features take the fewest steps that there are. It
    ends with the module: tests elsewhere see what users see.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_MOST_SHAPES", 0)
        patch.setattr(analysis, "_ITERATIONS", 250)
        yield


@pytest.fixture
def svm_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SVM is fitted beside runs, as it is for users."""
    monkeypatch.setattr(fitting, "_MOST_SHAPES", 100)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny encoder."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    pp.save_model(pp.create_model("point_mae_small", **TINY_BACKBONE), path)
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes with 8 training, 2 validation and 2 test shapes each."""
    return write_archive(tmp_path_factory.mktemp("data") / "shapes.npz")


@pytest.fixture(scope="session")
def finetune_config(weights: Path, archive: Path) -> Callable[..., FinetuneConfig]:
    """Settings of a short run, with overrides."""

    def make(*overrides: str) -> FinetuneConfig:
        given = [f"checkpoint={weights}", f"data.source={archive}", "method=linear",
                 "optimizer.lr=5e-3", "trainer.epochs=4"]  # fmt: skip
        return load_config(FinetuneConfig, [], [*TINY, *given, *overrides])

    return make


@pytest.fixture
def run_finetune(
    finetune_config: Callable[..., FinetuneConfig], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Trains into the folder `name` with overrides and returns the metrics."""

    def run(*overrides: str, name: str = "run", resume: bool = False) -> dict[str, Any]:
        return finetune(finetune_config(*overrides), tmp_path / name, resume=resume)

    return run


@pytest.fixture
def run_pretrain(archive: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Pre-trains into the folder `name` with overrides and returns the metrics."""

    def run(*overrides: str, name: str = "pretrain", resume: bool = False) -> dict[str, Any]:
        given = [f"data.source={archive}", "pretraining.decoder_depth=1", "trainer.epochs=4"]
        config = load_config(PretrainConfig, [], [*TINY, *given, *overrides])
        return pretrain(config, tmp_path / name, resume=resume)

    return run
