"""The verbs as a user types them, from meshes to predictions."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pointpeft.cli import console
from pointpeft.training import FinetuneConfig, PretrainConfig, SvmConfig
from pointpeft.training.settings import list_settings
from tests.cli.conftest import run
from tests.training.support import CLASSES, TINY, adapter_bytes, mesh, write_meshes

VERBS = [
    "finetune", "evaluate", "predict", "pretrain", "visualize", "svm", "demo", "models", "data",
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_help_describes_every_option(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    result = run(verb, "--help")
    assert result.code == 0
    assert result.err == ""
    assert result.out.lstrip().startswith(f"Usage: pointpeft {verb}")
    rows = re.findall(r"│ (?:\*\s+|\s*)(--[\w-]+)\s+(<[\w|\[\]]+>)?\s*(.*?)\s*│", result.out)
    assert rows
    for option, _, text in rows:
        assert text, option


@pytest.mark.parametrize(
    "verb", [*VERBS, "convert", "reproduce", "data show", "data check", "data convert"]
)
def test_help_says_what_is_done_without_an_option(verb):
    rows = re.split(r"│ (?:\*  |   )?(?=--)", run(*verb.split(), "--help").out)[1:]
    assert rows
    for row in rows:
        assert "<bool>" in row or "[default: " in row or "[required]" in row, row


@pytest.mark.parametrize(
    ("verb", "kind"),
    [("finetune", FinetuneConfig), ("pretrain", PretrainConfig), ("svm", SvmConfig)],
)
def test_help_lists_every_setting_with_its_default_and_meaning(verb, kind):
    shown = " ".join(run(verb, "--help").out.split())
    for setting in list_settings(kind):
        assert f"{setting.key} {setting.default} {setting.meaning}" in shown


def test_help_of_visualize_lists_only_settings_that_change_a_view():
    shown = set(re.findall(r"^  (\S+) ", run("visualize", "--help").out, re.MULTILINE))
    of_training = {"optimizer.lr", "trainer.epochs", "svm.source", "checkpoint_minutes"}
    known = {each.key for each in list_settings(PretrainConfig)}
    assert of_training < known
    assert shown < known | {"key"}
    assert shown > {"pretraining", "procedural", "data.source"}
    assert not shown & of_training


def test_help_shows_the_defaults_of_its_own_verb():
    assert re.search(r"--epochs .*\[default: 50\]", run("finetune", "--help").out)
    assert re.search(r"--epochs .*\[default: 300\]", run("pretrain", "--help").out)


@pytest.mark.parametrize("verb", ["finetune", "pretrain", "svm"])
def test_data_of_the_package_is_not_used_without_a_word(verb, tmp_path, monkeypatch):
    """Seen by what is said before the settings are refused."""
    said = "shapes that come with the package"
    nothing = ["--model", "point_mea", "--output", tmp_path / "run"]
    for given in ([], ["data.seed=1"]):
        assert said in run(verb, *nothing, *given).out
    for given in (["--data", "homeobjects"], ["data.source=homeobjects"]):
        assert said not in run(verb, *nothing, *given).out


def test_help_lists_every_verb():
    result = run("--help")
    assert result.code == 0
    for verb in VERBS:
        assert re.search(rf"│ {verb} +\w+", result.out), verb
    assert "--debug" in result.out


def test_unknown_verb_is_corrected():
    result = run("finetun")
    assert result.code == 2
    assert "finetune" in result.text


def test_module_runs_as_program():
    done = subprocess.run(
        [sys.executable, "-m", "pointpeft", "models", "point_mea"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown model 'point_mea'")
    assert "Traceback" not in done.stderr


def test_finetune_reports_what_it_did(trained, meshes, settings, tmp_path):
    result = run("finetune", "--data", meshes, "--output", tmp_path / "run", *settings)
    assert result.code == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert f"test accuracy: {100 * metrics['test_accuracy']:.1f} %" in result.out
    assert f"{metrics['trainable_parameters']:,}" in result.out
    assert str(tmp_path / "run") in result.out
    assert "no test part given" in result.out  # what was decided about the data


def test_finetune_with_several_seeds_reports_the_spread(meshes, settings, tmp_path):
    result = run(
        "finetune", "--data", meshes, "--output", tmp_path / "run", "--seeds", 2, *settings
    )
    assert result.code == 0
    differing = r"\+- .* % over seeds \(.* %, .* %\)"
    assert re.search(rf"test accuracy: .* % ({differing}|with each of 2 seeds)", result.out)


def test_config_file_and_overrides(archive, weights, tmp_path):
    config = tmp_path / "short.yaml"
    config.write_text(
        f"method: linear\ncheckpoint: {weights}\ndata:\n  source: {archive}\n"
        "trainer: {epochs: 3}\n"
    )
    result = run(
        "finetune", "--config", config, "--output", tmp_path / "run", *TINY, "trainer.epochs=2"
    )
    assert result.code == 0, result.err
    written = (tmp_path / "run/config.yaml").read_text()
    assert "epochs: 2" in written
    assert "method: linear" in written
    again = run("finetune", "--config", tmp_path / "run/config.yaml", "--output", tmp_path / "2nd")
    assert again.code == 0, again.err
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(tmp_path / "2nd")


def test_run_is_prolonged_by_its_folder_alone(meshes, settings, tmp_path):
    folder = tmp_path / "run"
    assert run("finetune", "--data", meshes, "--output", folder, *settings).code == 0
    result = run("finetune", "--output", folder, "--resume", "--epochs", 2)
    assert result.code == 0, result.err
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 2


def test_evaluate_measures_the_same_test_split(trained, meshes, tmp_path):
    result = run(
        "evaluate", "--adapter", trained, "--data", meshes, "--output", tmp_path, "--seed", 3
    )
    assert result.code == 0, result.err
    trained_metrics = json.loads((trained / "metrics.json").read_text())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["protocol"], metrics["seed"]) == ("honest", 3)
    assert metrics["test_accuracy"] == trained_metrics["test_accuracy"]
    assert metrics["confusion"] == trained_metrics["confusion"]
    for name in CLASSES:
        assert name in result.out


def test_evaluate_all_items(trained, meshes, tmp_path):
    result = run(
        "evaluate", "--adapter", trained, "--data", meshes, "--output", tmp_path, "--split", "all"
    )
    assert result.code == 0
    assert "32 shapes" in result.out
    assert json.loads((tmp_path / "metrics.json").read_text())["class_items"] == [8, 8, 8, 8]


def test_evaluate_names_the_part_it_measured(trained, meshes, tmp_path):
    result = run(
        "evaluate", "--adapter", trained, "--data", meshes, "--output", tmp_path,
        "--split", "train",
    )  # fmt: skip
    assert "test accuracy" not in result.out
    assert json.loads((tmp_path / "metrics.json").read_text())["test_accuracy"] is None


def test_evaluate_never_tests_on_training_shapes(meshes, settings, tmp_path):
    """Data without stated parts is cut as it was for training."""
    folder = tmp_path / "run"
    given = ["data.seed=7", "data.val_fraction=0.4"]
    assert run("finetune", "--data", meshes, "--output", folder, *settings, *given).code == 0
    run("evaluate", "--adapter", folder, "--data", meshes, "--output", tmp_path / "evaluated")
    trained_metrics = json.loads((folder / "metrics.json").read_text())
    metrics = json.loads((tmp_path / "evaluated/metrics.json").read_text())
    assert metrics["test_items"] == trained_metrics["test_items"]


def test_evaluate_refuses_unknown_classes(trained, tmp_path):
    folder = write_meshes(tmp_path / "data", {"box": 3})
    (folder / "box").rename(folder / "crate")
    result = run("evaluate", "--adapter", trained, "--data", folder, "--output", tmp_path / "out")
    assert result.code == 1
    assert "crate" in result.err
    assert "torus" in result.err  # what it knows


def test_predict_names_new_shapes(trained, tmp_path):
    files = []
    for name in CLASSES:
        files.append(tmp_path / f"new_{name}.ply")
        mesh(name, 3).export(files[-1])
    result = run("predict", "--adapter", trained, "--json", *files)
    assert result.code == 0
    assert result.err == ""
    found = json.loads(result.out)
    assert [each["file"] for each in found] == [str(file) for file in files]
    for each in found:
        assert each["probability"] == each["ranking"][0]["probability"]
        assert 0 < sum(step["probability"] for step in each["ranking"]) <= 1 + 1e-5
        assert each["error"] is None


def test_predict_of_a_folder_is_mostly_right(trained, meshes):
    found = json.loads(run("predict", "--adapter", trained, "--json", meshes).out)
    right = [each["class"] == Path(each["file"]).parent.name for each in found]
    assert len(right) == 32
    assert np.mean(right) >= 0.5  # chance: 0.25


def test_predict_table_shows_what_json_holds(trained, meshes):
    file = meshes / "torus/torus_00.off"
    (found,) = json.loads(run("predict", "--adapter", trained, "--json", file).out)
    shown = run("predict", "--adapter", trained, file)
    assert shown.code == 0
    assert str(file) in shown.out
    assert found["class"] in shown.out
    assert f"{100 * found['probability']:.1f} %" in shown.out


def test_predict_is_repeatable_and_independent_of_company(trained, meshes):
    """But for the last bits, in which products of matrices of other sizes differ."""
    file = meshes / "box/box_00.off"
    (alone,) = json.loads(run("predict", "--adapter", trained, "--json", file).out)
    several = json.loads(run("predict", "--adapter", trained, "--json", meshes).out)
    assert len(several) == 32
    (same,) = [each for each in several if each["file"] == str(file)]
    for number in ("probability", "unusual"):
        assert same.pop(number) == pytest.approx(alone.pop(number), abs=1e-5)
    for key, number in (("ranking", "probability"), ("nearest", "similarity")):
        for one, other in zip(same[key], alone[key], strict=True):
            assert one.pop(number) == pytest.approx(other.pop(number), abs=1e-5)
    assert same == alone


def test_predict_goes_on_after_unreadable_files(trained, meshes, tmp_path):
    broken, good = tmp_path / "broken.off", meshes / "box/box_00.off"
    broken.write_text("no mesh")
    np.save(tmp_path / "nan.npy", np.full((50, 3), np.nan))
    given = [broken, good, tmp_path / "missing.off", tmp_path / "nan.npy", tmp_path / "notes.docx"]
    result = run("predict", "--adapter", trained, "--json", *given)
    assert result.code == 1
    found = json.loads(result.out)
    assert [each["class"] is None for each in found] == [True, False, True, True, True]
    for each, word in zip(
        found, ("not an OFF file", "", "no such file", "NaN", ".docx"), strict=True
    ):
        assert word in (each["error"] or "")
    table = run("predict", "--adapter", trained, *given)
    assert table.code == 1
    assert str(good) in table.out
    for file in (broken, *given[2:]):
        assert f"not read: {file}" in table.err


def test_predict_turns_other_up_axes(trained, tmp_path):
    """A cloud that stands on another axis gives the same answer once its up-axis is named."""
    upright = mesh("cylinder", 2).sample(64, seed=0)
    x, y, z = upright.T
    np.save(tmp_path / "upright.npy", upright)
    np.save(tmp_path / "turned.npy", np.stack([x, -z, y], axis=1))  # y became z
    (a,) = json.loads(run("predict", "--adapter", trained, "--json", tmp_path / "upright.npy").out)
    result = run(
        "predict", "--adapter", trained, "--json", tmp_path / "turned.npy", "--up-axis", "z"
    )
    (b,) = json.loads(result.out)
    assert b["class"] == a["class"]
    assert b["probability"] == pytest.approx(a["probability"], abs=1e-4)
    assert not any("up_axis" in warning for warning in b["warnings"])
    assert result.err == "note: up-axis z is turned to match y of training\n"


@pytest.mark.parametrize("name", ["chair [0].off", "chair [final].off", "chair [red].off"])
def test_predict_shows_names_that_look_like_markup(trained, meshes, tmp_path, name):
    file = tmp_path / name
    shutil.copy(meshes / "box/box_00.off", file)
    assert name in run("predict", "--adapter", trained, file).out


def test_paths_are_not_folded(trained, meshes, tmp_path, monkeypatch):
    """Output that goes to a file or a pipe can be searched for a path."""
    monkeypatch.setattr(console.out, "width", 80)
    deep = tmp_path / ("a_long_folder_name_" * 4) / ("and_another_one_" * 3)
    deep.mkdir(parents=True)
    shutil.copy(meshes / "box/box_00.off", deep / "box.off")
    assert str(deep / "box.off") in run("predict", "--adapter", trained, deep / "box.off").out
    result = run("evaluate", "--adapter", trained, "--data", meshes, "--output", deep)
    assert str(deep / "metrics.json") in result.out


def test_predict_with_moved_weights(trained, weights, meshes, tmp_path):
    copied = shutil.copytree(trained, tmp_path / "run")
    config = copied / "adapter/adapter_config.json"
    config.write_text(config.read_text().replace(weights.name, "gone.safetensors"))
    file = meshes / "box/box_00.off"
    refused = run("predict", "--adapter", copied, file)
    assert refused.code == 1
    assert "gone.safetensors" in refused.err
    assert "--checkpoint" in refused.err
    assert run("predict", "--adapter", copied, "--checkpoint", weights, file).code == 0


def test_pretrained_weights_serve_finetuning(meshes, archive, tmp_path):
    result = run(
        "pretrain", "--data", archive, "--output", tmp_path / "pre", "--epochs", 1, *TINY,
        "pretraining.decoder_depth=1",
    )  # fmt: skip
    assert result.code == 0, result.err
    path = tmp_path / "pre/backbone.safetensors"
    assert str(path) in result.out
    tuned = run(
        "finetune", "--data", meshes, "--checkpoint", path, "--output", tmp_path / "fine",
        "--epochs", 1, *TINY,
    )  # fmt: skip
    assert tuned.code == 0, tuned.err


def test_models_are_listed_and_shown():
    listed = run("models")
    assert listed.code == 0
    assert "point_mae_small" in listed.out
    shown = run("models", "point_mae")
    assert shown.code == 0
    settings = ("backbone.num_groups", "pretraining.mask_ratio")
    for part in ("arXiv 2203.06604", "scanobjectnn", "85.18 %", *settings):
        assert part in shown.out


def test_data_shows_classes_parts_and_unusable_items(meshes, tmp_path):
    folder = shutil.copytree(meshes, tmp_path / "data")
    (folder / "box/broken.off").write_text("no mesh")
    result = run("data", folder)
    assert result.code == 0
    for name in CLASSES:
        assert re.search(rf"│ {name} +│ 5 +│ 1 +│ 2 +│", result.out), result.out
    assert "box/broken.off" in result.err


def test_data_shows_the_embedded_set():
    result = run("data")
    assert result.code == 0
    assert "without a label" in result.out


def test_evaluate_measures_all_of_a_new_folder(trained, tmp_path):
    folder = write_meshes(tmp_path / "new", dict.fromkeys(CLASSES, 3), suffix="ply", start=50)
    result = run("evaluate", "--adapter", trained, "--data", folder, "--output", tmp_path / "out")
    assert result.code == 0
    assert "test accuracy" in result.out
    assert json.loads((tmp_path / "out/metrics.json").read_text())["test_items"] == 12


def test_resuming_with_another_method_is_refused_and_loses_nothing(meshes, settings, tmp_path):
    folder = tmp_path / "run"
    assert run("finetune", "--data", meshes, "--output", folder, *settings).code == 0
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != "log.txt"}
    again = run(
        "finetune", "--data", meshes, "--output", folder, *settings, "--method", "full", "--resume"
    )
    assert again.code == 1
    assert "method was linear" in again.err
    assert all(f.read_bytes() == content for f, content in before.items())


def test_prolonging_in_a_relative_folder_keeps_the_best_epoch(
    meshes, settings, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run("finetune", "--data", meshes, "--output", "run", *settings).code == 0
    result = run("finetune", "--output", "run", "--resume", "--epochs", 3)
    assert result.code == 0, result.err
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()


def test_adapter_of_several_seeds_from_random_weights_predicts(meshes, tmp_path):
    random_start = [item for item in TINY if "checkpoint" not in item]
    result = run(
        "finetune", "--data", meshes, "--output", tmp_path / "run", "--method", "linear",
        "--epochs", 1, "--seeds", 2, *random_start,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert run("predict", "--adapter", tmp_path / "run", meshes / "box/box_00.off").code == 0
