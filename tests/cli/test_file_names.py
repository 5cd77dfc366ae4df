"""Names of files that are no text: their bytes are not UTF-8."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import run
from tests.training.support import write_meshes

parquet = pytest.importorskip("pyarrow.parquet")

ODD, ODD_BAD = (os.fsdecode(name) for name in (b"b\xf6x.off", b"\xffbad.off"))
WRITTEN = "b\\xf6x.off"
"""How the name is written where only text can be."""


@pytest.fixture
def files(meshes, tmp_path):
    """Eight meshes, one under such a name, and one under another such name that is no mesh."""
    folder = tmp_path / "files"
    shutil.copytree(meshes / "box", folder / "box")
    try:
        (folder / "box/box_00.off").rename(folder / "box" / ODD)
    except OSError:
        pytest.skip("a file system that takes text alone")
    (folder / "box" / ODD_BAD).write_text("no mesh")
    return folder


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
def test_predictions_are_written_and_known_again(trained, files, tmp_path, suffix):
    path = tmp_path / f"results.{suffix}"
    command = ["predict", "--adapter", trained, files, "--output", path]
    result = run(*command)
    assert (result.code, "9 files" in result.out) == (1, True), result.err
    if suffix == "parquet":
        named = [row["file"] for row in parquet.read_table(path).to_pylist()]
        assert str(files / "box" / WRITTEN) in [name.replace("\\udcf6", "\\xf6") for name in named]
        return
    with path.open(newline="", errors="surrogateescape") as file:
        read = {"csv": csv.DictReader, "jsonl": lambda file: map(json.loads, file)}
        rows = json.load(file) if suffix == "json" else list(read[suffix](file))
    assert str(files / "box" / ODD) in [row["file"] for row in rows]
    if suffix != "json":
        before = path.read_bytes()
        again = run(*command, "--resume")
        assert (again.code, "9 of them before" in again.out) == (1, True), again.err
        assert path.read_bytes() == before


def test_predictions_are_printed(trained, files):
    rows = json.loads(run("predict", "--adapter", trained, files, "--json").out)
    assert str(files / "box" / ODD) in [row["file"] for row in rows]
    command = [sys.executable, "-m", "pointpeft", "predict", "--adapter", trained, files]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"\\udcf6x.off" in done.stdout
    assert b"bad.off" in done.stderr


def test_a_folder_of_shards_has_a_row_for_each(trained, files, weights, tmp_path):
    for command in (["predict", "--adapter", trained], ["embed", "--checkpoint", weights]):
        path = tmp_path / command[0]
        result = run(*command, files, "--output", path)
        assert (result.code, "9 files" in result.out) == (1, True), result.err
        again = run(*command, files, "--output", path, "--resume")
        assert (again.code, "9 of them before" in again.out) == (1, True), again.err
        errors = [row["error"] for row in parquet.read_table(path).to_pylist() if row["error"]]
        assert len(errors) == 1, errors
        assert "bad.off" in errors[0]


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_features_are_searched_and_shown(files, weights, tmp_path, suffix):
    path, page = tmp_path / f"features.{suffix}", tmp_path / "page.html"
    result = run("embed", files, "--checkpoint", weights, "--output", path)
    assert (result.code, "8 shapes" in result.out) == (1, True), result.err
    result = run(
        "search", files / "box" / ODD, "--index", path, "--checkpoint", weights, "--html", page
    )
    assert result.code == 0, result.err
    assert "x.off" in page.read_text(encoding="utf-8")
    result = run("search", files / "box" / ODD, "--index", path, "--checkpoint", weights, "--json")
    assert "x.off" in json.loads(result.out)[0]["neighbours"][0]["id"]
    page.unlink()
    result = run("search", "--index", path, "--duplicates", "--threshold", 0.9, "--html", page)
    assert (result.code, page.is_file()) == (0, True), result.err


@pytest.fixture(scope="module")
def odd_classes(tmp_path_factory):
    """Two classes of meshes; no name of a class or file is text."""
    made = write_meshes(tmp_path_factory.mktemp("made"), {"box": 8, "sphere": 8})
    folder = made.parent / "data"
    try:
        for number, name in enumerate(("box", "sphere")):
            target = folder / os.fsdecode(b"c\xe9%d" % number)
            target.mkdir(parents=True)
            for file in sorted((made / name).iterdir()):
                file.rename(target / os.fsdecode(b"b\xe9d" + os.fsencode(file.name)))
    except OSError:
        pytest.skip("a file system that takes text alone")
    return folder


@pytest.mark.parametrize("method", ["linear", "knn", "point-peft"])
def test_an_adapter_is_trained_measured_and_used(odd_classes, settings, tmp_path, method):
    adapter, measured = tmp_path / "run", tmp_path / "measured"
    given = [method if one == "linear" else one for one in settings]
    if method == "knn":
        given = given[: given.index("--epochs")] + given[given.index("--epochs") + 2 :]
    for command in (
        ["finetune", "--data", odd_classes, "--output", adapter, *given],
        ["evaluate", "--adapter", adapter, "--data", odd_classes, "--output", measured],
        ["predict", "--adapter", adapter, "--neighbors-from", odd_classes, odd_classes],
    ):
        result = run(*command)
        assert result.code == 0, result.err
    result = run(*command, "--json")
    ours = {str(file.relative_to(odd_classes)) for file in odd_classes.rglob("*.off")}
    assert {one["name"] for row in json.loads(result.out) for one in row["nearest"]} <= ours


@pytest.mark.parametrize("command", ["finetune", "pretrain", "compare"])
@pytest.mark.parametrize("option", ["data", "output"])
def test_a_run_whose_folders_no_config_can_name_is_refused_before_it_begins(
    files, tmp_path, command, option
):
    odd = files.rename(files.with_name(ODD.removesuffix(".off")))
    places = {"data": tmp_path, "output": tmp_path / "run", option: odd}
    result = run(command, *(word for key, place in places.items() for word in (f"--{key}", place)))
    assert result.code == 1
    assert {"data": "data.source", "output": "output"}[option] in result.err
    assert list(tmp_path.iterdir()) == [odd]
