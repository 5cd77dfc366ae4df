"""The service answers what the library computes, whatever the form of the shape."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

import pointpeft as pp
from pointpeft.data import read_shape
from pointpeft.measure import PartPredictor
from pointpeft.measure.embedding import ShapeEncoder
from pointpeft.tasks.class_predictions import prediction_value
from tests.training.support import CLASSES, mesh


def send(client: TestClient, files: list[Path], address: str):
    return client.post(address, files=[("file", (f.name, f.read_bytes())) for f in files])


@pytest.mark.parametrize("adapter", ["linear", "prompts"])
def test_classes_are_those_of_a_predictor(client, runs, shapes, adapter):
    files = [shapes / "box.off", shapes / "cloud.npy"]
    answer = send(client, files, f"/v1/predict?adapter={adapter}").json()
    expected = [prediction_value(one) for one in pp.Predictor(runs / adapter).predict(files)]
    assert answer["adapter"] == adapter
    for got, want in zip(answer["results"], expected, strict=True):
        assert got["file"] == Path(want["file"]).name
        assert got["class"] == want["class"]
        assert got["probability"] == pytest.approx(want["probability"], abs=1e-5)
        assert got["unusual"] == want["unusual"]
        assert [one["id"] for one in got["nearest"]] == [one["id"] for one in want["nearest"]]
        assert got["warnings"] == want["warnings"]


def test_points_come_in_three_forms(client, shapes):
    points = np.load(shapes / "cloud.npy")
    address = "/v1/predict?adapter=linear&points=true"
    sent = (shapes / "cloud.npy").read_bytes()
    answers = [
        send(client, [shapes / "cloud.npy"], address),
        client.post(address, json={"points": points.tolist()}),
        client.post(address, content=sent, headers={"content-type": "application/octet-stream"}),
    ]
    found = [answer.json()["results"][0] for answer in answers]
    assert found[0]["probability"] == found[1]["probability"] == found[2]["probability"]
    assert np.shape(found[0]["points"]) == (64, 3)


def test_the_nearest_training_shapes_are_shown(client, archive):
    data = np.load(archive)
    address = "/v1/predict?adapter=linear&points=true"
    (found,) = client.post(address, json={"points": data["points"][0].tolist()}).json()["results"]
    for near in found["nearest"]:
        assert near["name"] is not None
        assert np.linalg.norm(near["points"], axis=1).max() == pytest.approx(1, abs=1e-3)


def test_a_gltf_file_comes_with_its_buffers(client, tmp_path):
    scene = mesh("box", 3).export(file_type="gltf")
    files = [("file", (f"sub/{name}", content)) for name, content in scene.items()]
    (found,) = client.post("/v1/predict?adapter=linear", files=files).json()["results"]
    mesh("box", 3).export(tmp_path / "box.glb")
    same = send(client, [tmp_path / "box.glb"], "/v1/predict?adapter=linear").json()["results"][0]
    assert found["probability"] == pytest.approx(same["probability"], abs=1e-6)
    buffers = [file for file in files if file[1][0].endswith(".bin")]
    assert client.post("/v1/predict?adapter=linear", files=buffers).status_code == 422
    twice = client.post("/v1/predict?adapter=linear", files=[*files, buffers[0]])
    assert twice.status_code == 422
    assert buffers[0][1][0].rpartition("/")[2] in twice.json()["detail"]


def test_every_point_gets_a_part(client, runs, shapes):
    file = shapes / "cloud.npy"
    answer = send(client, [file], "/v1/predict?adapter=parts&category=lamp&points=true").json()
    (found,) = answer["results"]
    expected = PartPredictor(runs / "parts").predict_file(file, "lamp")
    assert found["seg"] == expected.seg.tolist()
    assert np.allclose(found["points"], expected.points, atol=1e-5)
    assert [(one["part"], one["share"]) for one in found["parts"]] == list(expected.shares)


def test_a_feature_is_what_enters_the_head(client, runs, shapes):
    (found,) = send(client, [shapes / "cloud.npy"], "/v1/embed?adapter=linear").json()["results"]
    cloud = pp.Predictor(runs / "linear").prepare(read_shape(shapes / "cloud.npy")).points[:64]
    encoder = ShapeEncoder.of_adapter(runs / "linear")
    assert np.allclose(
        found["feature"], encoder.encode(torch.from_numpy(cloud)[None])[0], 1e-3, 1e-3
    )


def test_clients_at_once_get_their_own_answers(client, shapes):
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(100, 3)) * rng.uniform(0.1, 3, 3) for _ in range(12)]

    def ask(place: int) -> dict:
        adapter = ("linear", "prompts")[place % 2]
        content = {"points": clouds[place].tolist()}
        return client.post(f"/v1/predict?adapter={adapter}", json=content).json()

    alone = [ask(place) for place in range(12)]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(ask, range(12)))
    for one, other in zip(alone, together, strict=True):
        assert one["adapter"] == other["adapter"]
        probability = other["results"][0]["probability"]
        assert one["results"][0]["probability"] == pytest.approx(probability, abs=1e-5)


def test_adapters_come_and_go(client, runs, shapes):
    shutil.copytree(runs / "linear", runs / "copy", dirs_exist_ok=True)
    listed = {one["name"]: one for one in client.get("/v1/adapters").json()["adapters"]}
    assert listed["linear"]["classes"] == list(CLASSES)
    assert listed["parts"]["task"] == "part_segmentation"
    assert client.post("/v1/adapters/copy").status_code == 200
    assert client.post("/v1/adapters/copy").status_code == 200  # again, in its own place
    assert send(client, [shapes / "box.off"], "/v1/predict?adapter=copy").status_code == 200
    assert client.delete("/v1/adapters/copy").status_code == 204
    assert send(client, [shapes / "box.off"], "/v1/predict?adapter=copy").status_code == 404


def test_what_was_asked_before_a_swap_is_answered(client, runs, shapes):
    shutil.copytree(runs / "linear", runs / "swapped", dirs_exist_ok=True)
    content = {"points": np.load(shapes / "cloud.npy").tolist()}
    client.post("/v1/adapters/swapped")
    with ThreadPoolExecutor(8) as threads:
        asked = [
            threads.submit(client.post, "/v1/predict?adapter=swapped", json=content)
            for _ in range(24)
        ]
        while not all(one.done() for one in asked):
            assert client.post("/v1/adapters/swapped").status_code == 200
    assert {one.result().status_code for one in asked} == {200}
    assert client.delete("/v1/adapters/swapped").status_code == 204


def test_state_is_told(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    text = client.get("/metrics").text
    assert 'pointpeft_requests_total{route="/healthz",status="200"}' in text
    assert "pointpeft_adapters 3" in text
    schema = client.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/embed", "/v1/adapters"} <= schema["paths"].keys()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_elsewhere(client, path):
    answer = client.get(path)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "//" not in answer.text


def test_a_page_tells_the_addresses(client):
    text = client.get("/docs").text
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in text
            for one in operation.get("parameters", ()):
                assert f"<code>{one['name']}</code>" in text
