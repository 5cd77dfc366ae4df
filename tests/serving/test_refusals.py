"""What cannot be answered is a problem document with a status of 4xx or 503, and never a 500."""

import io
import zipfile

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pointpeft.cli.serving import serve
from pointpeft.data import InputTransform
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.serving.limits import Limits
from pointpeft.serving.readers import ReaderPool
from pointpeft.serving.served_adapters import AdapterSet, served_name
from pointpeft.serving.service import Service
from pointpeft.serving.uploads import Upload
from pointpeft.serving.web_app import create_app
from tests.serving.conftest import LIMITS

ADDRESS = "/v1/predict?adapter=linear"
JSON = "application/json"
TOKEN = "0123456789abcdef"
TRANSFORM = InputTransform(64)


def problem(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    return document["detail"]


def bomb(rows: int) -> bytes:
    """A small archive that unpacks to many zeros."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (rows, 3)}
    )
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("points.npy", "w") as member,
    ):
        member.write(header.getvalue())
        for _ in range(rows * 24 >> 20):
            member.write(bytes(1 << 20))
    return packed.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


BAD = {
    "empty.stl": b"",
    "text.off": b"not a mesh",
    "cut.ply": b"ply\nformat binary_little_endian 1.0\nelement vertex 99\n",
    "pickle.npy": pickled(),
    "few.xyz": b"0 0 0\n1 1 1\n",
    "nan.xyz": b"nan nan nan\n" * 50,
    "outside.gltf": (
        b'{"asset":{"version":"2.0"},"buffers":[{"uri":"../../etc/passwd","byteLength":9}]}'
    ),
    "../../up.stl": b"solid",
    "many.npy": (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 3)}"
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_a_problem(client, name):
    detail = problem(client.post(ADDRESS, files={"file": (name, BAD[name])}), 422)
    assert name.rsplit("/")[-1] in detail
    assert "/tmp" not in detail


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"points": [[1, 2]]}', JSON, 422),
        (b'{"points": "x"}', JSON, 422),
        (b"[" * 50_000, JSON, 422),
        (b"abc", "application/octet-stream", 422),
        (b"abc", "text/plain", 415),
        (b"abc", "multipart/form-data; boundary=x", 400),
        (b"abc", "multipart/form-data", 400),
        (b"", "", 415),
    ],
)
def test_a_bad_body_is_a_problem(client, content, kind, status):
    problem(client.post(ADDRESS, content=content, headers={"content-type": kind}), status)


@pytest.mark.parametrize(
    "value",
    ["true", "false", "null", '"1"', "NaN", "-Infinity", "1e999", "1" + 400 * "0", "[]", "[1]",
     "{}", "[" * 5000 + "]" * 5000],
)  # fmt: skip
def test_what_is_no_number_is_none(client, value):
    rows = ", ".join(["[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 1]"] * 20 + [f"[{value}, 2, 3]"])
    for points in (f"[{rows}]", f"[{value}]", value):
        content = f'{{"points": {points}}}'.encode()
        problem(client.post(ADDRESS, content=content, headers={"content-type": JSON}), 422)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", "{", "[[1, 2, 3]]", '{"points": [], "adapter": "linear"}']
)
def test_a_document_without_points_is_a_problem(client, content):
    problem(client.post(ADDRESS, content=content, headers={"content-type": JSON}), 422)


def test_what_is_asked_for_is_no_part_of_the_points(client):
    points = np.random.default_rng(0).normal(size=(80, 3)).tolist()
    detail = problem(client.post(ADDRESS, json={"points": points, "category": "lamp"}), 422)
    assert "category" in detail


def test_sizes_are_bounded(client):
    file = ("a.xyz", b"0 0 0\n")
    problem(client.post(ADDRESS, content=bytes(LIMITS.max_bytes + 1)), 413)
    parts = iter([bytes(LIMITS.max_bytes)] * 3)  # without a length in its head
    kind = {"content-type": "application/octet-stream"}
    problem(client.post(ADDRESS, content=parts, headers=kind), 413)
    answer = client.post(ADDRESS, files=[("file", file)] * (LIMITS.max_files + 1))
    assert "max_files" in problem(answer, 422)
    array = io.BytesIO()
    np.save(array, np.random.default_rng(0).normal(size=(6000, 3)).astype(np.float16))
    detail = problem(client.post(ADDRESS, files={"file": ("a.npy", array.getvalue())}), 422)
    assert "6,000" in detail


def test_one_bad_file_among_good_ones_has_its_error(client, shapes):
    files = [("file", ("bad.off", b"x")), ("file", ("a.npy", (shapes / "cloud.npy").read_bytes()))]
    bad, good = client.post(ADDRESS, files=files).json()["results"]
    assert bad["error"] is not None
    assert good["error"] is None


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/v1/predict", 422),
        ("/v1/predict?adapter=nothing", 404),
        ("/v1/predict?adapter=parts", 422),
        ("/v1/predict?adapter=parts&category=chair", 422),
        ("/v1/predict?adapter=linear&category=lamp", 422),
        ("/v1/predict?adapter=linear&points=maybe", 422),
        ("/v1/predict?adapter=linear&categroy=lamp", 422),
        ("/v1/predict?adapter=linear&adapter=parts", 422),
        ("/v1/embed?adapter=linear&points=true", 422),
        ("/v1/embed?adapter=parts&category=lamp", 422),
        ("/v2/predict", 404),
        ("/v1/adapters/nothing", 404),
        ("/v1/adapters/..", 404),
        ("/v1/adapters/%2e%2e%2fetc", 404),
    ],
)
def test_what_is_unknown_is_a_problem(client, address, status):
    cloud = {"points": np.random.default_rng(0).normal(size=(30, 3)).tolist()}
    problem(client.post(address, json=cloud), status)


def test_a_browser_cannot_be_sent_by_another_page(client):
    problem(client.get("/v1/adapters", headers={"origin": "https://example.org"}), 403)
    problem(client.get("/v1/adapters", headers={"host": "rebound.example.org"}), 403)


def test_a_token_is_needed_where_there_is_one(runs):
    app = create_app(Service(AdapterSet([runs / "linear"]), LIMITS, readers=1), TOKEN)
    with TestClient(app, base_url="http://service.example.org") as client:
        assert client.get("/healthz").status_code == 200
        problem(client.get("/v1/adapters"), 401)
        problem(client.get("/v1/adapters", headers={"authorization": "Bearer x"}), 401)
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/v1/adapters", headers=right).status_code == 200
        problem(client.post("/v1/adapters/prompts", headers=right), 404)  # no folder was given


def test_a_file_ends_its_reader_and_not_the_service(shapes, new_processes):
    limits = Limits(reading_bytes=200 << 20, reading_seconds=20)
    pool = ReaderPool(1, limits)
    try:
        cloud = Upload("cloud.npy", ".npy", (shapes / "cloud.npy").read_bytes())
        assert pool.read(cloud, TRANSFORM).result().error is None
        large = Upload("large.npz", ".npz", bomb(12 << 20))
        assert "large.npz" in str(pool.read(large, TRANSFORM).result().error)
        for process in new_processes():
            process.kill()
        assert pool.read(cloud, TRANSFORM).result().error is None  # it did not end it
        assert pool.replaced >= 1
    finally:
        pool.close()


def test_a_slow_file_ends_its_reader():
    pool = ReaderPool(1, Limits(reading_seconds=1))
    try:
        slow = Upload(
            "slow.json", ".json", b'{"points": [[' + b"1,2,3],[" * 6_000_000 + b"1,2,3]]}"
        )
        assert "slow.json" in str(pool.read(slow, TRANSFORM).result().error)
        assert pool.replaced == 1
    finally:
        pool.close()


def test_a_name_that_other_machines_reach_needs_a_token(runs, monkeypatch):
    monkeypatch.delenv("POINTPEFT_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="`host`"):
        serve([runs / "linear"], host="0.0.0.0")
    monkeypatch.setenv("POINTPEFT_TOKEN", "short")
    with pytest.raises(ConfigError, match="token"):
        serve([runs / "linear"], host="0.0.0.0")


def test_names_of_adapters_differ(runs, tmp_path):
    assert served_name(runs / "linear") == served_name(runs / "linear" / "adapter") == "linear"
    with pytest.raises(ConfigError, match="linear"):
        AdapterSet([runs / "linear", runs / "linear" / "adapter"])
    with pytest.raises(CheckpointError):
        AdapterSet([tmp_path])
    with pytest.raises(ConfigError, match="seconds"):
        Limits(seconds=0)


@pytest.mark.parametrize(
    ("name", "value"), [("Host", "["), ("Host", "[::1"), ("Origin", "http://[x")]
)
def test_an_address_that_is_none_is_refused(client, name, value):
    problem(client.get("/v1/adapters", headers={name: value}), 400)


def test_a_file_of_another_kind_leaves_the_shapes_beside_it(client, shapes):
    sent = [("file", ("cloud.npy", (shapes / "cloud.npy").read_bytes())),
            ("file", ("notes.md", b"text"))]  # fmt: skip
    good, bad = client.post(ADDRESS, files=sent).json()["results"]
    assert good["class"]
    assert "notes.md" in bad["error"]


def test_a_pool_without_readers_is_refused():
    with pytest.raises(ConfigError, match="readers"):
        ReaderPool(0, LIMITS)
