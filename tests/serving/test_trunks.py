"""Adapters of several trunks in one service."""

import asyncio

import pytest
import torch
from fastapi.testclient import TestClient

import pointpeft as pp
from pointpeft.serving.served_adapters import AdapterSet
from pointpeft.serving.service import Service
from pointpeft.serving.web_app import create_app
from pointpeft.training import FinetuneConfig, finetune, load_config
from tests.serving.conftest import LIMITS, LOCAL
from tests.training.parts import DEPTH
from tests.training.support import TINY, TINY_BACKBONE


@pytest.fixture(scope="module")
def other(archive, tmp_path_factory):
    """An adapter on a trunk of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    torch.manual_seed(1)
    path = folder / "other.safetensors"
    pp.save_model(pp.create_model("point_mae_small", **(TINY_BACKBONE | {"depth": 3})), path)
    given = [*TINY, f"checkpoint={path}", f"data.source={archive}", "method=knn"]
    finetune(load_config(FinetuneConfig, [], [*given, DEPTH]), folder / "other")
    return folder / "other"


def test_each_answers_on_its_own(runs, other, shapes):
    service = Service(AdapterSet([runs / "linear", other, runs / "prompts"]), LIMITS, readers=1)
    cloud = shapes / "cloud.npy"
    sent = [("file", (cloud.name, cloud.read_bytes()))]
    with TestClient(create_app(service), base_url=LOCAL) as client:
        for folder in (runs / "linear", other, runs / "prompts"):
            answer = client.post(f"/v1/predict?adapter={folder.name}", files=sent).json()
            (found,) = answer["results"]
            expected = pp.Predictor(folder).predict_file(cloud)
            assert found["class"] == expected.label
            assert found["probability"] == pytest.approx(expected.probability, abs=1e-5)
            assert found["unusual"] == pytest.approx(expected.unusual, abs=1e-4)


def test_a_trunk_goes_with_its_last_adapter(runs, other):
    adapters = AdapterSet([runs / "linear", other, runs / "prompts"])
    service = Service(adapters, LIMITS, runs, readers=1)
    try:
        assert len(adapters.models) == 2
        for name, trunks in (("prompts", 2), ("other", 1)):
            asyncio.run(service.remove(name))
            asyncio.run(service.load("linear"))  # by then the model has done what came before
            assert len(adapters.models) == trunks
    finally:
        service.close()
