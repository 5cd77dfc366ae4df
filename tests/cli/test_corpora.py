"""``predict``, ``embed``, ``search`` and ``svm`` with folders of shards."""

import json
import shutil

import pytest

from pointpeft.output_lock import locked
from tests.cli.conftest import run

pyarrow = pytest.importorskip("pyarrow")
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


def test_one_command_at_a_time_writes(trained, meshes, weights, tmp_path):
    for name in ("results.csv", "results.json", "shards"):
        with locked(tmp_path / name):
            result = run("predict", "--adapter", trained, meshes, "--output", tmp_path / name)
        assert (result.code, "--output" in result.err) == (1, True)
    for name in ("features.npz", "shards"):
        with locked(tmp_path / name):
            result = run("embed", meshes, "--checkpoint", weights, "--output", tmp_path / name)
        assert (result.code, "--output" in result.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


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


def without_features(folder):
    table = parquet.read_table(folder / "part-00001.parquet")
    parquet.write_table(table.drop_columns(["feature"]), folder / "part-00001.parquet")


def of_other_length(folder):
    """The features of one shard have half of the channels."""
    table = parquet.read_table(folder / "part-00001.parquet")
    place = table.schema.get_field_index("feature")
    half = [None if row is None else row[:12] for row in table["feature"].to_pylist()]
    column = pyarrow.array(half, table.schema.field(place).type)
    table = table.set_column(place, table.schema.field(place), column)
    parquet.write_table(table, folder / "part-00001.parquet")


def without_shards(folder):
    for part in folder.glob("part-*"):
        part.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_features, ["part-00001.parquet", "feature"]),
        (of_other_length, ["part-00001.parquet", "12"]),
        (without_shards, ["0 of 4 shards", "--resume"]),
        (lambda folder: (folder / "part-00002.parquet").unlink(), ["3 of 4 shards", "--resume"]),
        (lambda folder: (folder / "_files.parquet").unlink(), ["_files.parquet"]),
        (lambda folder: (folder / "_corpus.json").unlink(), ["pointpeft embed"]),
        (lambda folder: (folder / "_corpus.json").write_text("{}"), ["damaged"]),
    ],
)
def test_a_damaged_folder_is_no_index(features, meshes, weights, tmp_path, change, words):
    folder = tmp_path / "features"
    shutil.copytree(features, folder, ignore=shutil.ignore_patterns("_mapped"))
    change(folder)
    query = meshes / "torus/torus_05.off"
    result = run("search", query, "--index", folder, "--checkpoint", weights)
    assert (result.code, str(folder) in result.err) == (1, True), result.err
    assert all(word in result.err for word in words), result.err


@pytest.mark.parametrize("change", [without_features, of_other_length, without_shards])
def test_a_damaged_folder_is_not_measured(features, tmp_path, change):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    change(folder)
    result = run("svm", "--features", folder, "--C", 1, "--output", tmp_path / "svm")
    assert (result.code, str(folder) in result.err) == (1, True), result.err
    assert not (tmp_path / "svm").exists()


def test_features_of_another_model_are_not_gone_on_with(features, meshes, tmp_path):
    options = ["--data", meshes, "--features", features, "--output", tmp_path / "svm"]
    result = run("svm", *options)
    assert (result.code, "--features" in result.err) == (1, True), result.err
    assert "model.weights" in result.err


def test_other_things_are_no_index(features, meshes, weights, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "table.parquet")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/bad.off").write_text("no mesh")
    empty = run("embed", tmp_path / "bad", "--checkpoint", weights, "--output", tmp_path / "empty")
    assert empty.code == 1
    query = meshes / "torus/torus_05.off"
    for index, word in (
        (features / "part-00000.parquet", str(features)),
        (tmp_path / "table.parquet", "'a'"),
        (tmp_path / "bad", "without shards"),
        (tmp_path / "empty", "no usable shape"),
        (tmp_path / "gone", "no such file"),
    ):
        result = run("search", query, "--index", index, "--checkpoint", weights)
        assert (result.code, str(index) in result.err, word in result.err) == (1, True, True)


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
