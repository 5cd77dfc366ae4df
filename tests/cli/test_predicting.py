"""The verb predict with many files: results as files, going on, and what is refused."""

import csv
import json
import os
import shutil
import time

import pytest

from tests.cli.conftest import run


@pytest.fixture
def predict(trained, meshes, tmp_path):
    """The verb on a folder of 32 meshes and a file that is not there."""

    def with_options(*options):
        files = [meshes, tmp_path / "gone.off"]
        return run("predict", "--adapter", trained, *files, *options)

    return with_options


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_are_those_that_are_printed(predict, tmp_path):
    printed = json.loads(predict("--json").out)
    result = predict("--output", tmp_path / "out/results.jsonl", "--batch-size", 5)
    assert result.code == 1  # a file is not there
    assert "33" in result.out
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").open()]
    assert [row["file"] for row in rows] == [one["file"] for one in printed]
    for row, one in zip(rows, printed, strict=True):
        assert set(row) == {*one, "adapter"}
        assert (row["class"], row["error"]) == (one["class"], one["error"])
        assert one["unusual"] is None or 0 <= one["unusual"] <= 1
        assert len(one["nearest"]) == (3 if one["error"] is None else 0)


def test_a_file_that_is_named_twice_is_predicted_once(trained, meshes):
    file = meshes / "box/box_01.off"
    found = json.loads(run("predict", "--adapter", trained, "--json", file, meshes, file).out)
    files = [one["file"] for one in found]
    assert files[0] == str(file)
    assert len(files) == len(set(files)) == 32


def test_going_on(predict, meshes, tmp_path):
    path = tmp_path / "results.csv"
    assert predict("--output", path).code == 1
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    kept = len(rows_of(path)) - 1  # the last one was cut
    refused = predict("--output", path)
    assert (refused.code, "--output" in refused.err, "--resume" in refused.err) == (1, True, True)
    again = predict("--output", path, "--resume")
    assert again.code == 1
    assert f"{kept} of them before" in again.out
    assert [row["file"] for row in rows_of(path)] == [
        row["file"] for row in csv.DictReader(whole.splitlines())
    ]
    before = path.read_text()
    assert predict("--output", path, "--resume").code == 1  # one was not read before
    assert path.read_text() == before
    for option, value in (("--up-axis", "z"), ("--neighbors-from", meshes)):
        other = predict("--output", path, "--resume", option, value)
        assert (other.code, option in other.err) == (1, True)


def test_a_file_that_has_changed_is_no_row_that_stays(trained, meshes, tmp_path):
    files, path = tmp_path / "files", tmp_path / "results.csv"
    shutil.copytree(meshes / "box", files)
    command = ["predict", "--adapter", trained, files, "--output", path]
    assert run(*command).code == 0
    assert run(*command, "--resume").code == 0
    later = time.time() + 10
    os.utime(files / "box_03.off", (later, later))
    result = run(*command, "--resume")
    assert (result.code, "box_03.off" in result.err, "--resume" in result.err) == (1, True, True)


@pytest.mark.parametrize("name", ["results.csv", "results.jsonl", "results.json"])
def test_results_among_the_files_are_not_read(trained, meshes, tmp_path, name):
    files = tmp_path / "files"
    shutil.copytree(meshes / "box", files)
    command = ["predict", "--adapter", trained, files, "--output", files / name]
    for options in ([], ["--resume"]):
        result = run(*command, *options)
        assert (result.code, "8 files" in result.out) == (0, True), result.err
    refused = run("predict", "--adapter", trained, files / name, "--output", files / name)
    assert (refused.code, "--output" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--resume"], "--resume"),
        (["--workers", "-1"], "workers"),
        (["--batch-size", "0"], "batch_size"),
        (["--neighbors-from", "nowhere"], "nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused(predict, options, named):
    result = predict(*options)
    assert result.code == 1
    assert named in result.err
    assert "Traceback" not in result.text


def test_neighbours_get_names(predict, meshes):
    shown = predict("--neighbors-from", meshes).out
    assert ".off 1.00" in shown  # a training shape is its own nearest one
    hashed = predict("--json").out
    assert '"name": null' in hashed
    assert "sha256:" in hashed


def test_a_folder_of_many_files_is_shown_in_pages(predict, monkeypatch):
    whole = predict()
    monkeypatch.setattr("pointpeft.cli.predicting._PAGE", 10)
    paged = predict()
    assert paged.code == 1
    names = [line.split()[0] for line in paged.out.splitlines() if ".off" in line]
    assert len(names) == len([line for line in whole.out.splitlines() if ".off" in line])
