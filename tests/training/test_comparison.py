"""A grid of runs: equal terms, run folders, going on, and failures."""

import csv
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.measure import Predictor
from pointpeft.training import cells as cells_of
from pointpeft.training import parallel
from pointpeft.training.cells import FAILURE, Cell, read_cell, read_failure
from pointpeft.training.comparison import compare
from pointpeft.training.grid import Comparison, split_method
from pointpeft.training.resolved import ResolvedRun
from tests.training.comparing import run_here
from tests.training.parts import DEPTH, write_part_archive
from tests.training.support import TINY, retrained, write_meshes

SEEDS = 2


@pytest.fixture
def make(weights, archive):
    """A small comparison, with changes."""

    def make(*overrides, **changes):
        settings = pp.load_config(pp.FinetuneConfig, [], [*TINY, "trainer.epochs=2", *overrides])
        given = {
            "methods": ("knn", "linear"), "checkpoints": (str(weights),), "data": (str(archive),),
            "lr_factors": (1.0, 30.0), "seeds": SEEDS,
        }  # fmt: skip
        return Comparison(settings, **(given | changes))

    return make


@pytest.fixture
def ran(monkeypatch):
    """Names of the cells that were run, all of them in this process."""
    names = []

    def run(cells, jobs):
        for cell, died in run_here(cells, jobs):
            names.append(cell.name)
            yield cell, died

    monkeypatch.setattr(parallel, "run_in_processes", run)
    return names


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_grid_runs_and_is_summed_up(make, ran, tmp_path):
    told = []
    results = compare(
        make(shots=(2, None)), tmp_path / "out", progress=lambda *each: told.append(each[1:])
    )
    assert told == [(n, 10) for n in range(1, 11)]  # (1 + 2 rates) x 2 shots, and second seeds
    assert results["failures"] == []
    rows = {(row["method"], row["shots"]): row for row in results["rows"]}
    assert set(rows) == {(m, s) for m in ("knn", "linear") for s in (2, None)}
    for row in rows.values():
        assert row["seeds"] == [0, 1]
        assert row["test_score"] == pytest.approx(np.mean(row["scores"]), abs=1e-5)
        assert row["train_items"] == (32 if row["shots"] is None else 8)
        steps = -(-row["train_items"] // 16)
        expected = None if row["method"] == "knn" else row["seconds_per_epoch"] / steps
        assert row["seconds_per_step"] == expected
        assert row["precision"] == (None if row["method"] == "knn" else "32-true")
    assert len({row["test_shapes"] for row in rows.values()}) == 1
    for name in ("results.json", "results.csv", "compare.html", "config.yaml"):
        assert (tmp_path / "out" / name).is_file()
    with (tmp_path / "out/results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_the_rate_is_chosen_on_the_validation_split_alone(make, ran, tmp_path):
    results = compare(make(methods=("linear",)), tmp_path / "out")
    (row,) = results["rows"]
    (folder,) = (tmp_path / "out").glob("*/*/linear/all")
    reached = {
        float(place.name.removeprefix("lr")): metrics_of(place / "seed0")["val_accuracy"]
        for place in folder.iterdir()
    }
    assert set(reached) == {1.0, 30.0}
    best = max(reached, key=lambda factor: (reached[factor], -factor))
    assert row["lr"] == pytest.approx(best * pp.LinearConfig.learning_rate)
    assert row["lr_search"] == {f"{f * pp.LinearConfig.learning_rate:g}": v
                                for f, v in reached.items()}  # fmt: skip
    assert [path.parent.name for path in folder.glob("*/seed1")] == [f"lr{best:g}"]


def test_where_classes_count_alike_the_rate_is_chosen_so(make, ran, tmp_path):
    results = compare(make("class_weights=balanced", methods=("linear",)), tmp_path / "out")
    (row,) = results["rows"]
    (folder,) = (tmp_path / "out").glob("*/*/linear/all")
    for place in folder.iterdir():
        metrics = metrics_of(place / "seed0")
        lr = float(place.name.removeprefix("lr")) * pp.LinearConfig.learning_rate
        assert metrics["ranked_by"] == "val_mean_class_accuracy"
        assert row["lr_search"][f"{lr:g}"] == metrics["val_mean_class_accuracy"]


@pytest.mark.usefixtures("svm_beside")
def test_a_cell_is_an_ordinary_run(make, ran, tmp_path):
    compare(make(methods=("linear",), lr_factors=(1.0,)), tmp_path / "out")
    (folder,) = (tmp_path / "out").glob("*/*/linear/all/lr1/seed0")
    config = pp.load_config(pp.FinetuneConfig, [folder / "config.yaml"])
    again = pp.finetune(config, tmp_path / "again")
    metrics, known = metrics_of(folder), json.loads((folder / "scores.json").read_text())
    assert again["test_accuracy"] == metrics["test_accuracy"] == np.mean(known["scores"])
    assert "svm_test_accuracy" in again
    assert "svm_test_accuracy" not in metrics
    assert not (folder / "report.html").exists()
    meshes = write_meshes(tmp_path / "meshes", {"box": 1})
    (found,) = pp.Predictor(folder).predict([meshes])
    assert found.error is None


def test_all_methods_are_trained_on_the_same_shapes(make, ran, tmp_path, monkeypatch):
    seen = {}
    finetune = cells_of.finetune

    def noted(config, folder, **others):
        seen.setdefault(config.seed, []).append(others["data"])
        return finetune(config, folder, **others)

    monkeypatch.setattr(cells_of, "finetune", noted)
    compare(make(shots=(2,), lr_factors=(1.0,)), tmp_path / "out")
    for of_seed in seen.values():
        assert len({data.train.ids for data in of_seed}) == 1
    everything = [data for of_seed in seen.values() for data in of_seed]
    assert len({data.train.ids for data in everything}) == SEEDS
    assert len({(data.val.ids, data.test.ids) for data in everything}) == 1


def test_data_is_checked_once_whatever_the_numbers_of_shots(make, tmp_path, monkeypatch):
    read = []
    load = cells_of.load_data
    monkeypatch.setattr(cells_of, "load_data", lambda *a, **k: read.append(a) or load(*a, **k))
    with pytest.raises(DataError, match="shots"):
        compare(make(shots=(1, 2, 1000), lr_factors=(1.0,)), tmp_path / "out")
    assert len(read) == 1


def test_finished_runs_are_not_repeated(make, ran, tmp_path):
    compare(make(), tmp_path / "out")
    done = list(ran)
    first = metrics_of(tmp_path / "out" / next((tmp_path / "out").rglob("seed1")))
    with pytest.raises(ConfigError, match="resume"):
        compare(make(), tmp_path / "out")
    before = (tmp_path / "out/results.json").read_text()
    compare(make(), tmp_path / "out", resume=True)
    assert ran == done
    assert (tmp_path / "out/results.json").read_text() == before
    compare(make(methods=("knn", "linear", "svm")), tmp_path / "out", resume=True)
    assert [name.partition(" ")[0] for name in ran[len(done) :]] == ["svm"] * SEEDS
    assert first == metrics_of(tmp_path / "out" / next((tmp_path / "out").rglob("seed1")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b"\xff\xfe"), ("metrics.json", b"{}"), ("metrics.json", b'[["a", 1]]'),
        ("scores.json", b'{"bad":'), ("scores.json", b"[1]"),
    ],
)  # fmt: skip
def test_a_damaged_run_is_made_again(make, ran, tmp_path, caplog, name, content):
    given = make(methods=("knn",), seeds=1)
    first = compare(given, tmp_path / "out")
    (file,) = (tmp_path / "out").rglob(f"seed0/{name}")
    file.write_bytes(content)
    again = compare(given, tmp_path / "out", resume=True)
    assert str(file) in caplog.text
    assert again["failures"] == []
    assert again["rows"][0]["scores"] == first["rows"][0]["scores"]


def test_runs_of_other_data_are_made_again(make, ran, tmp_path, caplog):
    folder = write_meshes(tmp_path / "meshes", {"box": 6, "sphere": 6})
    asked = {"methods": ("knn",), "seeds": 1}
    compare(make(data=(str(folder),), **asked), tmp_path / "out")
    compare(make(data=(str(folder),), **asked), tmp_path / "out", resume=True)
    assert len(ran) == 1
    write_meshes(folder, {"box": 4, "sphere": 4}, start=6)
    before = metrics_of(next((tmp_path / "out").rglob("seed0")))
    compare(make(data=(str(folder),), **asked), tmp_path / "out", resume=True)
    assert len(ran) == 2
    assert caplog.records
    assert (
        metrics_of(next((tmp_path / "out").rglob("seed0")))["train_items"] > (before["train_items"])
    )


@pytest.mark.parametrize("when", ["resumed", "running"])
def test_seeds_have_the_same_weights(make, ran, weights, tmp_path, monkeypatch, when):
    """The file may be that of a backbone that is trained on."""
    moving = tmp_path / "backbone.safetensors"
    shutil.copy(weights, moving)
    given = {"methods": ("knn",), "checkpoints": (str(moving),)}
    if when == "resumed":
        compare(make(**given, seeds=1), tmp_path / "out")
        retrained(weights, moving)
        found = compare(make(**given, seeds=2), tmp_path / "out", resume=True)
        assert [name[-1] for name in ran] == ["0", "0", "1"]
        assert found["failures"] == []
    else:

        def run(cells, jobs):
            yield from run_here(cells, jobs)
            retrained(weights, moving)

        monkeypatch.setattr(parallel, "run_in_processes", run)
        found = compare(make(**given, seeds=2), tmp_path / "out")
        assert [each["error"] for each in found["failures"]] == ["DataError"]
    scores = [json.loads(f.read_bytes()) for f in (tmp_path / "out").rglob("scores.json")]
    assert len({each["weights"] for each in scores}) == 1
    assert found["rows"][0]["seeds"] == [0, 1][: len(scores)]


def test_shapes_of_the_same_names_are_others_if_their_points_or_labels_are(make, ran, tmp_path):
    def table(name, **changed):
        source = tmp_path / f"{name}.npz"
        np.savez(source, **(arrays | changed))
        rows = compare(make(data=(str(source),), methods=("knn",), seeds=1), tmp_path / name)[
            "rows"
        ]
        return rows[0]["test_shapes"]

    points = np.random.default_rng(0).normal(size=(30, 64, 3))
    split = np.repeat(["train", "val", "test"], 10)
    arrays = {"points": points, "label": np.arange(30) % 2, "names": ["a", "b"], "split": split}
    moved = points + np.linspace(0, 1, 64)[:, None] ** 2 * (np.arange(30) == 29)[:, None, None]
    first = table("first")
    assert table("trained", label=np.where(np.arange(30) < 2, 1, arrays["label"])) == first
    assert (
        len({first, table("moved", points=moved), table("label", label=np.arange(30) % 2 ^ 1)}) == 3
    )


def test_a_file_that_was_never_readable_stops_nothing(make, ran, tmp_path):
    folder = write_meshes(tmp_path / "meshes", {"box": 6, "sphere": 6})
    (folder / "box" / "broken.off").write_bytes(b"")
    asked = {"methods": ("knn",), "seeds": 1, "data": (str(folder),)}
    compare(make(**asked), tmp_path / "out")
    write_meshes(folder, {"box": 4, "sphere": 4}, start=6)
    assert compare(make(**asked), tmp_path / "out", resume=True)["failures"] == []
    assert len(ran) == 2


def test_weights_of_runs_that_say_them_in_their_scores_alone(make, ran, weights, tmp_path):
    moving = tmp_path / "backbone.safetensors"
    shutil.copy(weights, moving)
    given = make(methods=("knn",), seeds=1, checkpoints=(str(moving),))
    compare(given, tmp_path / "out")
    (file,) = (tmp_path / "out").rglob("data.json")
    file.write_text(json.dumps({"digest": json.loads(file.read_text())["digest"]}))
    retrained(weights, moving)
    assert compare(given, tmp_path / "out", resume=True)["failures"] == []
    assert len(ran) == 2


def test_a_file_that_cannot_be_read_now_costs_no_finished_run(make, ran, tmp_path):
    folder = write_meshes(tmp_path / "meshes", {"box": 6, "sphere": 6})
    asked = {"methods": ("knn",), "seeds": 1, "data": (str(folder),)}
    before = compare(make(**asked), tmp_path / "out")
    file = next((folder / "box").iterdir())
    content = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(DataError, match=re.escape(file.name)):
        compare(make(**asked), tmp_path / "out", resume=True)
    file.write_bytes(content)
    assert compare(make(**asked), tmp_path / "out", resume=True) == before
    assert len(ran) == 1


def test_runs_that_do_not_say_of_which_data_they_are_stay(make, ran, tmp_path):
    compare(make(methods=("knn",), seeds=1), tmp_path / "out")
    for file in (tmp_path / "out").rglob("data.json"):
        file.unlink()
    compare(make(methods=("knn",), seeds=1), tmp_path / "out", resume=True)
    assert len(ran) == 1


def test_settings_of_all_runs_do_not_change_on_the_way(make, ran, tmp_path):
    compare(make(methods=("knn",)), tmp_path / "out")
    before = (tmp_path / "out/results.csv").read_text()
    for changed in ("label_smoothing=0.1", "trainer.epochs=1"):
        with pytest.raises(ConfigError, match=changed.partition("=")[0]):
            compare(make(changed), tmp_path / "out", resume=True)
    assert (tmp_path / "out/results.csv").read_text() == before


def test_a_failure_is_noted_and_the_others_go_on(make, ran, tmp_path, monkeypatch):
    finetune = cells_of.finetune

    def broken(config, folder, **others):
        if config.method == "linear" and config.seed == 1:
            raise RuntimeError("out of luck")
        return finetune(config, folder, **others)

    monkeypatch.setattr(cells_of, "finetune", broken)
    results = compare(make(lr_factors=(1.0,)), tmp_path / "out")
    (failure,) = results["failures"]
    assert failure["error"] == "RuntimeError"
    assert "out of luck" in failure["message"]
    note = json.loads((tmp_path / "out" / failure["folder"] / FAILURE).read_text())
    assert "broken" in note["traceback"]
    rows = {row["method"]: row["seeds"] for row in results["rows"]}
    assert rows == {"knn": [0, 1], "linear": [0]}
    monkeypatch.setattr(cells_of, "finetune", finetune)
    done = len(ran)
    healed = compare(make(lr_factors=(1.0,)), tmp_path / "out", resume=True)
    assert healed["failures"] == []
    assert len(ran) == done + 1
    assert not list((tmp_path / "out").rglob(FAILURE))


def test_one_shape_of_each_class_is_enough_and_classes_may_count_alike(make, ran, tmp_path):
    asked = make("class_weights=balanced", methods=("svm", "knn", "lda"), shots=(1,), seeds=1)
    results = compare(asked, tmp_path / "out")
    assert not results["failures"]
    assert {row["method"] for row in results["rows"]} == {"svm", "knn", "lda"}
    (folder,) = (tmp_path / "out").rglob("svm/1shot/seed0")
    assert "default" in metrics_of(folder)["C_from"]
    assert Predictor(folder).model.config.balanced


def test_a_search_without_a_result_trains_no_other_seeds(make, ran, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(cells_of, "finetune", broken)
    results = compare(make(methods=("linear",)), tmp_path / "out")
    assert (len(ran), len(results["failures"]), results["rows"]) == (2, 2, [])


def test_settings_of_a_method_are_its_own():
    assert split_method("lora") == ("lora", {})
    assert split_method("lora,r=4,lora_alpha=2.5") == ("lora", {"r": 4, "lora_alpha": 2.5})
    assert split_method("my.module:Config,sizes=[1,2]") == (
        "my.module:Config", {"sizes": [1, 2]}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"methods": ()}, "method"),
        ({"methods": ("",)}, "method"),
        ({"methods": ("linear", "linear")}, "method"),
        ({"models": ("point_mae_small", "point_bert_small")}, "checkpoint"),
        ({"shots": (0,)}, "shots"),
        ({"shots": (3, 3)}, "shots"),
        ({"lr_factors": (1.0, -1.0)}, "lr_factor"),
        ({"lr_factors": (float("nan"),)}, "lr_factor"),
        ({"seeds": 0}, "seeds"),
        ({"data": ("a/x.npz", "b/x.npz")}, "data"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(make, changes, named):
    with pytest.raises(ConfigError, match=named):
        make(**changes)


def test_part_segmentation_is_compared_by_the_iou_of_shapes(make, ran, tmp_path):
    parts = write_part_archive(tmp_path / "parts.npz", 8)
    given = {"methods": ("full", "linear"), "checkpoints": ("random",), "data": (str(parts),)}
    settings = [DEPTH, "task=part_segmentation", "trainer.batch_size=4"]
    results = compare(make(*settings, **given), tmp_path / "out")
    assert results["failures"] == []
    for row in results["rows"]:
        folder = next((tmp_path / "out").glob(f"*/*/{row['method']}/all/lr*/seed1"))
        each = [metrics_of(folder.parent / f"seed{n}")["test_instance_iou"] for n in range(SEEDS)]
        assert row["test_score_per_seed"] == each
        assert np.mean(row["scores"]) == pytest.approx(row["test_score"], abs=1e-5)
        assert row["metric"] != "accuracy"


def test_a_method_for_another_task_is_refused_before_any_run(make, ran, tmp_path):
    given = {
        "methods": ("linear", "svm"),
        "data": (str(write_part_archive(tmp_path / "p.npz", 4)),),
    }
    with pytest.raises(ConfigError, match="svm"):
        compare(make("task=part_segmentation", **given), tmp_path / "out")
    assert not ran


def test_rows_tell_backbones_of_one_name_apart(make, ran, tmp_path):
    given = {"methods": ("knn",), "seeds": 1}
    first = compare(make(**given), tmp_path / "a")["rows"]
    second = compare(make("seed=7", **given, checkpoints=("random",)), tmp_path / "b")["rows"]
    assert first[0]["weights"] != second[0]["weights"]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("few_shot.way=2", "few_shot.way"),
        ("trainer.devices=2", "trainer.devices"),
    ],
)
def test_settings_that_are_not_compared_are_refused(make, override, named):
    with pytest.raises(ConfigError, match=named):
        make(override)


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"methods": ("linaer",)}, ConfigError, "linear"),
        ({"methods": ("knn,C=1",)}, ConfigError, "C"),
        ({"data": ("none",)}, DataError, "none"),
        ({"checkpoints": ("none.pth",)}, CheckpointError, "none.pth"),
        ({"shots": (99,)}, DataError, "shots"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_run(
    make, ran, tmp_path, changes, error, named
):
    with pytest.raises(error, match=named):
        compare(make(**changes), tmp_path / "out")
    assert (ran, (tmp_path / "out").exists()) == ([], False)


@pytest.mark.parametrize(("option", "value"), [("jobs", 0), ("engine", "slurm")])
def test_options_are_checked(make, tmp_path, option, value):
    with pytest.raises(ConfigError, match=option):
        compare(make(), tmp_path / "out", **{option: value})


def test_without_a_validation_split_no_rate_is_chosen(make, ran, tmp_path):
    given = ("data.val_fraction=0",)
    data = write_meshes(tmp_path / "a/train", dict.fromkeys(("box", "torus"), 3)).parent
    write_meshes(data / "test", dict.fromkeys(("box", "torus"), 2), start=5)
    with pytest.raises(DataError, match="lr_factor"):
        compare(make(*given, data=(str(data),)), tmp_path / "out")
    one = make(*given, data=(str(data),), lr_factors=(1.0,), seeds=1)
    assert len(compare(one, tmp_path / "out")["rows"]) == 2


# Engines -----------------------------------------------------------------------------------------


@pytest.fixture
def two_cells(make, tmp_path, monkeypatch):
    """A cell that can be run, and one that takes its process with it."""
    (tmp_path / "deadly.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    comparison = make()
    config = replace(
        comparison.settings, checkpoint=comparison.checkpoints[0], method="knn",
        data=replace(comparison.settings.data, source=comparison.data[0]),
    )  # fmt: skip
    good = Cell(ResolvedRun.of(config).config, None, tmp_path / "good", "good")
    bad = replace(
        good, config=replace(config, method="deadly:X"), folder=tmp_path / "bad", name="bad"
    )
    return good, bad


def test_a_process_that_dies_takes_no_other_along(two_cells):
    good, bad = two_cells
    died = {cell.name: reason for cell, reason in parallel.run_in_processes([good, bad], 2)}
    assert died["good"] is None
    assert "7" in died["bad"]
    assert read_failure(good) is None
    assert read_cell(good)["test_items"] == 8


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """Whatever ended that one: else a run would go on beside the one that resumes it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, multiprocessing, time\n"
        "from pointpeft.parent_process import end_with_parent\n"
        "def run(ready):\n"
        "    end_with_parent()\n"
        "    ready.send('ready')\n"
        "    time.sleep(100)\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    ours, theirs = context.Pipe()\n"
        "    context.Process(target=run, args=(theirs,)).start()\n"
        "    ours.recv()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    # Both hold the pipe, so this returns when both have ended.
    command = [sys.executable, program]
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=False)
    assert ended.returncode == -9


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_runs_cells_as_processes_do(two_cells, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    good, bad = two_cells
    died = {cell.name: reason for cell, reason in parallel.run_on_ray([good, bad], 1)}
    assert died["good"] is None
    assert died["bad"]
    assert read_cell(good)["test_items"] == 8


def test_ray_is_asked_for_by_name(make, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pointpeft\[ray\]"):
        compare(make(), tmp_path / "out", engine="ray")
