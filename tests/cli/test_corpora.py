"""``predict``, ``embed``, ``search`` and ``svm`` with folders of shards."""

import json

import pytest

from tests.cli.conftest import run

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def features(meshes, weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "features"
    result = run(
        "embed", meshes, "--checkpoint", weights, "--output", path, "--shard-size", 9,
        "--device", "cpu",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert f"32 files in 4 shards: {path}" in result.text
    return path


def test_predictions_in_shards_are_those_of_a_file(trained, meshes, tmp_path):
    files = ["predict", "--adapter", trained, meshes, tmp_path / "gone.off"]
    in_one = run(*files, "--output", tmp_path / "all.parquet")
    in_shards = run(*files, "--output", tmp_path / "shards", "--shard-size", 32)
    assert (in_one.code, in_shards.code) == (1, 1)
    assert "1 file" in in_shards.err
    found, expected = (parquet.read_table(tmp_path / name) for name in ("shards", "all.parquet"))
    assert found.schema.names == expected.schema.names
    assert found.to_pylist() == expected.to_pylist()
    again = run(*files, "--output", tmp_path / "shards", "--resume")
    assert (again.code, "33 of them before" in again.out) == (1, True)
    other = run(*files, "--output", tmp_path / "shards", "--resume", "--up-axis", "z")
    assert (other.code, "--output" in other.err) == (1, True)


def test_a_folder_is_searched(features, meshes, weights):
    query = meshes / "torus/torus_05.off"
    result = run(
        "search", query, "--index", features, "--checkpoint", weights, "--top", 2, "--json"
    )
    (found,) = json.loads(result.out)
    assert found["neighbours"][0] == {
        "id": "torus/torus_05.off", "class": "torus", "similarity": 1.0,
    }  # fmt: skip
    assert run("search", "--index", features, "--duplicates").code == 0


def test_an_svm_makes_features_once_and_reads_them(features, meshes, weights, tmp_path):
    made = tmp_path / "made"
    options = ["svm", "--features", made, "--C", 1]
    result = run(*options, "--data", meshes, "--checkpoint", weights, "--output", tmp_path / "one")
    assert result.code == 0, result.err
    times = [part.stat().st_mtime_ns for part in sorted(made.glob("part-*"))]
    again = run(*options, "--output", tmp_path / "two")
    assert again.code == 0, again.err
    assert [part.stat().st_mtime_ns for part in sorted(made.glob("part-*"))] == times
    metrics = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two")]
    assert metrics[0]["confusion"] == metrics[1]["confusion"]
    assert metrics[0]["test_items"] == 8


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["embed", "--output", "f.npz", "--engine", "ray"], "--engine"),
        (["embed", "--output", "f.npz", "--resume"], "--resume"),
        (["embed", "--output", "f", "--variant", "x"], "--variant"),
        (["embed", "--output", "f", "--engine", "spark"], "--engine"),
        (["predict", "--adapter", "A", "--engine", "ray"], "--output"),
        (["predict", "--adapter", "A", "--engine", "ray", "--output", "f.csv"], "--output"),
        (["predict", "--adapter", "A", "--output", "f", "--json"], "--json"),
        (["predict", "--adapter", "A", "--output", "f.csv", "--shard-size", "9"], "--shard-size"),
        (["predict", "--adapter", "A", "s3://bucket/a.off"], "--output"),
        (["svm", "--engine", "ray"], "--engine"),
        (["svm", "--engine", "ray", "--features", "F"], "--engine"),
        (["svm", "--model", "point_bert", "--features", "F"], "--model"),
        (["svm", "--features", "nowhere"], "nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(
    command, named, trained, meshes, features, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = [{"A": trained, "F": features}.get(word, word) for word in command]
    if command[0] != "svm":
        words.append(meshes)
    result = run(*words)
    assert (result.code, named in result.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_stopping_says_how_to_go_on(features, meshes, weights, monkeypatch):
    def stop(*given, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr("pointpeft.measure.corpus.make_corpus", stop)
    result = run("embed", meshes, "--checkpoint", weights, "--output", features, "--resume")
    assert result.code != 0
    assert "--resume" in result.err
