"""The verbs on shapes with part labels, from a folder of text files to labelled clouds."""

import json
import re

import numpy as np
import pytest
import trimesh

from pointpeft.data import read_shape
from tests.cli.conftest import run
from tests.training.parts import CATEGORIES, DEPTH, PART_NAMES, lamp, mug, write_part_folder
from tests.training.support import TINY

SETTINGS = [*TINY, DEPTH, "trainer.batch_size=4", "optimizer.warmup=0"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder of sixteen lamps and sixteen mugs with part labels."""
    return write_part_folder(tmp_path_factory.mktemp("labelled"), 16)


@pytest.fixture(scope="module")
def parts_run(labelled, tmp_path_factory):
    """The folder of a run on them, and what the command printed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    result = run(
        "finetune", "--task", "part_segmentation", "--data", labelled, "--output", folder,
        "--method", "linear", "--epochs", 2, *SETTINGS,
    )  # fmt: skip
    assert result.code == 0, result.err
    return folder, result


@pytest.fixture
def scans(tmp_path):
    """New lamps and mugs without labels, in folders by category."""
    for name, make in (("lamp", lamp), ("mug", mug)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(2):
            points, _ = make(np.random.default_rng((9, number)), 200)
            np.savetxt(tmp_path / "scans" / name / f"{number}.xyz", points)
    return tmp_path / "scans"


def test_finetune_reports_the_iou_of_every_category(parts_run):
    folder, result = parts_run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"test IoU over shapes: {100 * metrics['test_instance_iou']:.1f} %" in result.out
    assert "6 shapes, 2 categories, 5 parts" in result.out
    for name, value in metrics["test_category_iou"].items():
        assert re.search(rf"│ {name} +│ 3 +│ {100 * value:.1f} %", result.out), result.out
    assert "no test part" in result.out
    assert f"report: {folder / 'report.html'}" in result.out
    assert (folder / "report.html").is_file()


def test_a_run_resumes_by_its_folder_alone(labelled, tmp_path):
    given = ["task=part_segmentation", "--method", "linear", "--epochs", 1, *SETTINGS]
    first = run("finetune", "--data", labelled, "--output", tmp_path / "run", *given)
    assert first.code == 0, first.err
    result = run("finetune", "--output", tmp_path / "run", "--resume", "--epochs", 2)
    assert result.code == 0, result.err
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 1 + 2


def test_evaluate_measures_the_same_test_split(parts_run, labelled, tmp_path):
    folder, _ = parts_run
    result = run("evaluate", "--adapter", folder, "--data", labelled, "--output", tmp_path)
    assert result.code == 0, result.err
    trained = json.loads((folder / "metrics.json").read_text())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("test_instance_iou", "test_class_iou", "test_accuracy", "test_category_iou",
                "val_instance_iou", "class_items", "part_names"):  # fmt: skip
        assert metrics[key] == trained[key], key
    assert "test IoU over shapes" in result.out
    for name in CATEGORIES:
        assert name in result.out


def test_evaluate_names_the_part_it_measured(parts_run, labelled, tmp_path):
    folder, _ = parts_run
    given = ["--adapter", folder, "--data", labelled, "--output", tmp_path, "--split", "all"]
    result = run("evaluate", *given)
    assert result.code == 0, result.err
    assert "all IoU over shapes" in result.out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test_instance_iou"] is None
    assert metrics["all_items"] == 32


def test_evaluate_on_other_data_goes_by_the_names_of_parts(parts_run, labelled, tmp_path):
    """Labels of other data stand for other parts, as its own parts.txt says."""
    folder, _ = parts_run
    names = list(PART_NAMES[::-1])
    for file in sorted(labelled.rglob("*/*.txt"))[::4]:
        rows = np.loadtxt(file)
        rows[:, 3] = len(names) - 1 - rows[:, 3]
        rows[:, 1] *= 1.01  # no shape that was trained on
        target = tmp_path / "data" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(target, rows, fmt=["%.5f"] * 3 + ["%d"])
    (tmp_path / "data/parts.txt").write_text("\n".join(names))
    result = run(
        "evaluate", "--adapter", folder, "--data", tmp_path / "data", "--output", tmp_path / "out"
    )
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["test_items"] == 8
    assert metrics["test_accuracy"] > 0.5


def test_evaluate_refuses_unknown_parts(parts_run, labelled, tmp_path):
    folder, _ = parts_run
    data = write_part_folder(tmp_path / "data", 3)
    (data / "parts.txt").write_text("\n".join([*PART_NAMES[:-1], "mug/lid"]))
    result = run("evaluate", "--adapter", folder, "--data", data, "--output", tmp_path / "out")
    assert result.code == 0
    assert "3 unusable items" in result.err
    assert "mug/lid" in result.err
    bare = run(
        "evaluate", "--adapter", folder, "--data", "homeobjects", "--output", tmp_path / "bare"
    )
    assert bare.code == 1


def test_predict_writes_labelled_clouds(parts_run, scans, tmp_path):
    folder, _ = parts_run
    result = run(
        "predict", scans / "lamp", "--adapter", folder, "--category", "lamp",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert result.code == 0, result.err
    for number in range(2):
        file = tmp_path / f"out/lamp/{number}.ply"
        assert str(file) in result.out
        shape = read_shape(file, segmented=True)
        assert np.allclose(shape.points, np.loadtxt(scans / f"lamp/{number}.xyz"))
        assert set(shape.seg.tolist()) <= {0, 1, 2}
        assert trimesh.load(file).colors.shape == (200, 4)
    for name in CATEGORIES["lamp"]:
        assert name in result.out
    assert "mug/body" not in result.out
    assert (tmp_path / "out/parts.txt").read_text().split() == list(PART_NAMES)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--engine", "ray"], "--engine"),
        (["--shard-size", 9], "--shard-size"),
        (["--resume"], "--resume"),
        (["--neighbors-from", "homeobjects"], "--neighbors-from"),
        (["--output", "results.csv"], "--output"),
        (["--output", "scans"], "--output"),
    ],
)
def test_what_makes_no_rows_is_refused(parts_run, scans, tmp_path, monkeypatch, options, named):
    monkeypatch.chdir(tmp_path)
    command = ["predict", "scans", "--adapter", parts_run[0], "--category", "mug"]
    result = run(*command, "--output", "out", *options)
    assert (result.code, named in result.err) == (1, True), result.err
    assert list(tmp_path.iterdir()) == [scans]


@pytest.mark.parametrize("output", ["features", "features.npz"])
def test_parts_have_no_feature_of_a_shape(parts_run, scans, tmp_path, output):
    result = run("embed", scans, "--adapter", parts_run[0], "--output", tmp_path / output)
    assert (result.code, "--adapter" in result.err) == (1, True), result.err
    assert list(tmp_path.iterdir()) == [scans]


def test_clouds_among_the_files_are_not_read(parts_run, scans):
    command = ["predict", scans, "--adapter", parts_run[0], "--output", scans / "out", "--json"]
    for category in ("lamp", "mug"):
        found = json.loads(run(*command, "--category", category).out)
        assert len(found) == 4


def test_predict_as_json(parts_run, scans, tmp_path):
    folder, _ = parts_run
    given = ["--adapter", folder, "--category", "mug", "--output", tmp_path / "out", "--json"]
    result = run("predict", scans / "mug/0.xyz", tmp_path / "gone.xyz", *given)
    assert result.code == 1  # one of them cannot be read
    found, gone = json.loads(result.out)
    assert [part["part"] for part in found["parts"]] == list(CATEGORIES["mug"])
    assert sum(part["share"] for part in found["parts"]) == pytest.approx(1)
    assert found["points"] == 200
    assert found["output"] == str(tmp_path / "out/mug/0.ply")
    assert (gone["output"], gone["parts"]) == (None, [])
    assert "no such file" in gone["error"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], ["--category", "lamp, mug"]),
        (["--category", "lamb"], ["'lamb'", "'lamp'"]),
    ],
)
def test_predict_needs_a_known_category(parts_run, scans, tmp_path, given, words):
    folder, _ = parts_run
    result = run("predict", scans, "--adapter", folder, "--output", tmp_path / "out", *given)
    assert result.code == 1
    assert all(word in result.err for word in words)
    assert not (tmp_path / "out").exists()


def test_classes_are_predicted_without_a_category(trained, meshes, tmp_path):
    file, output = meshes / "box/box_00.off", tmp_path / "out"
    given = ["--category", "box", "--output", output]
    result = run("predict", file, "--adapter", trained, *given)
    assert result.code == 1
    assert "--category" in result.err
    assert not output.exists()


def test_data_without_part_labels_is_refused(meshes, tmp_path):
    result = run(
        "finetune", "--task", "part_segmentation", "--data", meshes, "--output", tmp_path / "run",
        *SETTINGS,
    )  # fmt: skip
    assert result.code == 1
    assert "part labels are read from" in result.err
    assert "Traceback" not in result.text
    assert not (tmp_path / "run/config.yaml").exists()


def test_predicted_folder_can_be_trained_on(parts_run, scans, tmp_path):
    folder, _ = parts_run
    for name in CATEGORIES:
        result = run(
            "predict", scans / name, "--adapter", folder, "--category", name,
            "--output", tmp_path / "out",
        )  # fmt: skip
        assert result.code == 0, result.err
    again = run(
        "finetune", "task=part_segmentation", "--data", tmp_path / "out", "--method", "linear",
        "--epochs", 1, "--output", tmp_path / "run", *SETTINGS, "data.val_fraction=0",
        "trainer.batch_size=2",
    )  # fmt: skip
    assert again.code == 0, again.err
