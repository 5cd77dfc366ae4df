"""Trained runs, a part adapter, and a service that has them on one trunk."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

import pointpeft as pp
from pointpeft.serving.limits import Limits
from pointpeft.serving.served_adapters import AdapterSet
from pointpeft.serving.service import Service
from pointpeft.serving.web_app import create_app
from pointpeft.training import FinetuneConfig, finetune, load_config
from tests.training.conftest import archive, light_runs  # noqa: F401 - shared fixtures
from tests.training.parts import DEPTH, write_part_archive
from tests.training.support import TINY, TINY_BACKBONE, mesh

LIMITS = Limits(max_bytes=200_000, max_files=4, max_points=5000, reading_bytes=256 << 20)
LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an encoder that is deep enough for parts."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    pp.save_model(pp.create_model("point_mae_small", **(TINY_BACKBONE | {"depth": 3})), path)
    return path


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, archive: Path, weights: Path) -> Path:  # noqa: F811
    """A folder of runs of one trunk: two of classes, by different methods, and one of parts."""
    folder = tmp_path_factory.mktemp("runs")

    def train(name: str, data: Path, *settings: str) -> None:
        given = [*TINY, DEPTH, f"checkpoint={weights}", f"data.source={data}", *settings]
        finetune(load_config(FinetuneConfig, [], [*given, "trainer.epochs=1"]), folder / name)

    train("linear", archive, "method=linear", "optimizer.lr=5e-3")
    train("prompts", archive, "method=point-peft")
    parts = write_part_archive(folder / "parts.npz", 16)
    train("parts", parts, "task=part_segmentation", "method=linear", "optimizer.warmup=0")
    return folder


def wait_for_names(adapters: AdapterSet) -> None:
    """Wait until training shapes have been found beside the requests."""
    last = time.monotonic() + 300
    while any(one.familiarity and not one.familiarity.named for one in adapters):
        assert time.monotonic() < last
        time.sleep(0.05)


@pytest.fixture(scope="session")
def client(runs: Path, archive: Path) -> Iterator[TestClient]:  # noqa: F811
    """A client of a service with all three adapters."""
    folders = [runs / name for name in ("linear", "prompts", "parts")]
    adapters = AdapterSet(folders, neighbors_from=str(archive))
    wait_for_names(adapters)
    app = create_app(Service(adapters, LIMITS, runs, readers=1))
    with TestClient(app, base_url=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One mesh as ``.off`` and one cloud as ``.npy``."""
    folder = tmp_path_factory.mktemp("shapes")
    mesh("box", 30).export(folder / "box.off")
    np.save(folder / "cloud.npy", np.random.default_rng(5).normal(size=(300, 3)))
    return folder
