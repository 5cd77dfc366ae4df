"""Errors are one clear paragraph with a way out, never a traceback."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch

import pointpeft as pp
from pointpeft.errors import DataError
from tests.cli.conftest import run
from tests.training.support import CLASSES, TINY, TINY_BACKBONE, write_meshes


@pytest.fixture
def finetune(archive, settings, tmp_path):
    """Runs ``finetune`` with further arguments; those given win."""

    def command(*arguments):
        given = ["--data", archive, "--output", tmp_path / "run", *settings]
        return run("finetune", *given, *arguments)

    return command


def assert_refused(result, *words):
    assert result.code == 1, result.text
    assert "Traceback" not in result.text
    assert result.err.count("error:") == 1
    paragraph = " ".join(result.err[result.err.index("error:") :].split())
    for word in words:
        assert word in paragraph, paragraph


def test_a_setting_that_wins_over_an_option_is_told(finetune):
    result = finetune("data.source=nowhere")
    assert_refused(result, "nowhere")
    told = " ".join(result.err.split())
    assert "data.source=nowhere wins over the option" in told


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=point_mea", ["'point_mae'", "known models"]),
        ("method=point-pft", ["'point-peft'"]),
        ("preset=modelnet", ["preset", "modelnet"]),
        ("sede=1", ["unknown key sede", "'seed'"]),
        ("optimizer.lrr=1", ["optimizer.lrr", "'optimizer.lr'", "pointpeft finetune --help"]),
        ("backbone.dmi=3", ["'dmi'", "'dim'"]),
        ("peft.num_promts=3", ["num_promts"]),
        ("optimizer.lr=fast", ["optimizer.lr", "'fast'"]),
        ("trainer.epochs=1.5", ["trainer.epochs"]),
        ("seed", ["key=value"]),
        ("data.up_axis=w", ["up_axis", "'w'", "'z'"]),
        ("data.augmentation=flip", ["augmentation", "'flip'", "scale-shift"]),
        ("data.normalize=box", ["normalize", "unit_ball"]),
        ("data.on_error=ignore", ["on_error", "'refuse'"]),
        ("data.val_fraction=2", ["val_fraction"]),
        ("data.num_points=4", ["4 points", "8 groups"]),
        ("backbone.dim=25", ["dim", "num_heads"]),
        ("trainer.precision=half", ["half", "bf16-mixed"]),
        ("dta.source=x", ["'data.source'"]),
        ("backbone.patch_widths=[8,12", ["patch_widths"]),
        ("backbone.patch_widths=[8,12]", ["patch_widths"]),
        ("backbone.dim=wide", ["dim", "wide"]),
        ("trainer=3", ["trainer=3"]),
        ("optimizer.lr=0", ["lr"]),
        ("optimizer.warmup=1", ["warmup"]),
        ("trainer.batch_size=0", ["batch_size"]),
        ("trainer.batch_size=1", ["batch_size"]),
        ("trainer.epochs=0", ["trainer.epochs"]),
        ("trainer.devices=0", ["devices"]),
        ("seeds=0", ["seeds"]),
        ("seed=-1", ["seed"]),
    ],
)  # fmt: skip
def test_settings(finetune, tmp_path, override, words):
    assert_refused(finetune(override), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("peft.num_prompts=2", ["num_prompts", "at least 3"]),
        ("peft.num_prompts=50", ["32 usable shapes", "peft.num_prompts"]),
        ("peft.num_prompts=ten", ["num_prompts", "ten"]),
        ("peft.attention_heads=0", ["attention_heads"]),
    ],
)
def test_settings_of_point_peft(finetune, tmp_path, override, words):
    assert_refused(finetune("method=point-peft", override), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "word"),
    [
        ("cuda", "--device cpu"),
        ("gpu0", "--device"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_device_that_is_not_there(archive, weights, tmp_path, device, word):
    without_accelerator = [item for item in TINY if "accelerator" not in item]
    result = run(
        "finetune", "--data", archive, "--checkpoint", weights, "--output", tmp_path / "run",
        "--epochs", 1, "--device", device, *without_accelerator,
    )  # fmt: skip
    assert_refused(result, word)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_device_that_is_not_there_for_prediction(trained, meshes):
    assert_refused(
        run("predict", "--adapter", trained, meshes, "--device", "cuda"), "--device cuda"
    )


def test_a_device_that_nobody_knows(trained, meshes):
    assert_refused(run("predict", "--adapter", trained, meshes, "--device", "foo"), "--device")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, []),
        ("a: [1\nb", ["YAML"]),
        ("- a\n- b", ["mapping"]),
        ("trainer:\n  epoch: 3", ["trainer.epoch", "'trainer.epochs'"]),
        ("trainer:\n  epochs: many", ["trainer.epochs", "'many'"]),
    ],
)
def test_config_file(finetune, tmp_path, content, words):
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_text(content)
    assert_refused(finetune("--config", path), "settings.yaml", *words)


def test_missing_data(finetune, tmp_path):
    assert_refused(finetune("--data", tmp_path / "nothing"), "nothing", "<class>")


def test_empty_folder(finetune, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(finetune("--data", tmp_path / "empty"), "empty", "<class>")


def test_unreadable_items_are_skipped_and_listed_or_refused(finetune, tmp_path):
    folder = write_meshes(tmp_path / "data", dict.fromkeys(CLASSES, 4))
    (folder / "box/broken.off").write_text("no mesh")
    np.save(folder / "box/nan.npy", np.full((50, 3), np.nan))
    refused = finetune("--data", folder, "--output", tmp_path / "a", "data.on_error=refuse")
    assert_refused(refused, "box/broken.off", "box/nan.npy", "NaN")
    skipped = finetune("--data", folder, "--output", tmp_path / "b")
    assert skipped.code == 0
    assert "2 unusable items" in skipped.err
    assert "skipped box/broken.off: " in (tmp_path / "b/log.txt").read_text()


def test_class_with_one_shape(finetune, tmp_path):
    folder = write_meshes(tmp_path / "data", {"box": 5, "sphere": 1})
    result = finetune("--data", folder)
    assert result.code == 0
    assert "for sphere" in result.out


def test_class_without_usable_shape(finetune, tmp_path):
    folder = write_meshes(tmp_path / "data", {"box": 5, "sphere": 1})
    (folder / "sphere/sphere_00.off").write_text("no mesh")
    assert_refused(finetune("--data", folder), "sphere")


def test_one_class_is_too_few(finetune, tmp_path):
    assert_refused(finetune("--data", write_meshes(tmp_path / "data", {"box": 5})), "classes")


def test_svm_says_that_there_is_no_test_part(tmp_path):
    folder = write_meshes(tmp_path / "data", {"box": 2, "sphere": 2})
    assert_refused(run("svm", "--data", folder, "--C", 1), "test")


def test_svm_with_impossible_regularisation(archive):
    assert_refused(run("svm", "--data", archive, "--C", -1), "C must be", "-1")


@pytest.mark.parametrize(
    "name",
    [
        "[old]",
        "{x}",
        "my shapes #1",
        "a: b",
        "${home}",
    ],
)
def test_data_folder_with_an_unusual_name(finetune, tmp_path, name):
    folder = write_meshes(tmp_path / "x" / name, dict.fromkeys(CLASSES, 4))
    result = finetune("--data", folder)
    assert result.code == 0, result.err


class Code:
    def __reduce__(self):
        return os.mkdir, (os.environ["POINTPEFT_TEST_MARK"],)


def text_file(path, weights):
    path.write_text("not weights\n" * 50)


def pickle_with_code(path, weights):
    torch.save({"base_model": {"a": torch.zeros(1)}, "more": Code()}, path)


def plain_pickle_with_code(path, weights):
    path.write_bytes(pickle.dumps(Code()))


def cut_short(path, weights):
    path.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def of_another_size(path, weights):
    pp.save_model(pp.create_model("point_mae_small", **{**TINY_BACKBONE, "dim": 48}), path)


def of_fewer_blocks(path, weights):
    pp.save_model(pp.create_model("point_mae_small", **{**TINY_BACKBONE, "depth": 1}), path)


def of_more_blocks(path, weights):
    pp.save_model(pp.create_model("point_mae_small", **{**TINY_BACKBONE, "depth": 3}), path)


def of_another_model(path, weights):
    torch.save({"model": {"fc.weight": torch.zeros(3, 3)}}, path)


def missing(path, weights):
    pass


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("gone.pth", missing, ["does not exist"]),
        ("text.pth", text_file, ["damaged"]),
        ("text.safetensors", text_file, ["text.safetensors"]),
        ("cut.safetensors", cut_short, ["damaged"]),
        ("code.pth", pickle_with_code, ["could run code"]),
        ("plain.pkl", plain_pickle_with_code, ["could run code"]),
        ("wide.safetensors", of_another_size, ["(48,", "(24,", "same sizes"]),
        ("short.safetensors", of_fewer_blocks, ["lacks", "blocks.1", "depth"]),
        ("long.safetensors", of_more_blocks, ["depth"]),
        ("other.pth", of_another_model, ["no known layout", "fc.weight"]),
    ],
)
def test_checkpoint(finetune, weights, tmp_path, monkeypatch, name, make, words):
    monkeypatch.setenv("POINTPEFT_TEST_MARK", str(tmp_path / "code_ran"))
    path = tmp_path / name
    make(path, weights)
    result = finetune("--checkpoint", path)
    assert not (tmp_path / "code_ran").exists()
    assert_refused(result, name, *words)


def test_refusal_of_code_gives_no_dangerous_advice(finetune, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("POINTPEFT_TEST_MARK", str(tmp_path / "code_ran"))
    pickle_with_code(tmp_path / "code.pth", weights)
    assert "False" not in finetune("--checkpoint", tmp_path / "code.pth").text


def remove_config(adapter):
    (adapter / "adapter_config.json").unlink()


def break_config(adapter):
    (adapter / "adapter_config.json").write_text("{")


def empty_config(adapter):
    (adapter / "adapter_config.json").write_text('{"format_version": 1}')


def newer_config(adapter):
    path = adapter / "adapter_config.json"
    path.write_text(path.read_text().replace('"format_version": ', '"format_version": 9'))


def remove_weights(adapter):
    (adapter / "adapter_model.safetensors").unlink()


def cut_weights(adapter):
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_config, ["adapter_config.json"]),
        (break_config, ["adapter_config.json", "damaged"]),
        (empty_config, ["adapter_config.json", "damaged"]),
        (newer_config, ["version 9", "upgrade"]),
        (remove_weights, ["adapter_model.safetensors", "missing"]),
        (cut_weights, ["adapter_model.safetensors", "damaged"]),
    ],
)
def test_damaged_adapter(trained, meshes, tmp_path, damage, words):
    copied = shutil.copytree(trained, tmp_path / "run")
    damage(copied / "adapter")
    assert_refused(run("predict", "--adapter", copied, meshes / "box/box_00.off"), *words)


def test_adapter_on_another_encoder(trained, meshes, tmp_path):
    torch.manual_seed(7)
    other = tmp_path / "other.safetensors"
    pp.save_model(pp.create_model("point_mae_small", **TINY_BACKBONE), other)
    result = run("predict", "--adapter", trained, "--checkpoint", other, meshes)
    assert_refused(result, "base model")


def test_folder_without_adapter(meshes, tmp_path):
    assert_refused(run("predict", "--adapter", tmp_path, meshes), str(tmp_path), "adapter")
    gone = run("evaluate", "--adapter", tmp_path / "gone", "--data", meshes, "--output", tmp_path)
    assert_refused(gone, "gone", "adapter")


def test_prediction_of_an_empty_folder(trained, tmp_path):
    assert_refused(run("predict", "--adapter", trained, tmp_path), ".off")


@pytest.mark.parametrize("verb", ["finetune", "pretrain", "evaluate"])
def test_output_is_a_file(verb, trained, archive, settings, tmp_path):
    path = tmp_path / "taken"
    path.write_text("")
    given = {
        "finetune": ["--data", archive, *settings],
        "pretrain": ["--data", archive, "--epochs", 1, *TINY],
        "evaluate": ["--adapter", trained, "--data", archive],
    }[verb]
    assert_refused(run(verb, "--output", path, *given), "taken", "file")
    assert path.read_text() == ""


def test_output_holds_a_run(finetune):
    assert finetune().code == 0
    assert_refused(finetune(), "--resume", "--output")


@pytest.mark.parametrize("verb", ["finetune", "pretrain"])
def test_nothing_to_resume(verb, tmp_path):
    assert_refused(run(verb, "--output", tmp_path / "run", "--resume"), "nothing to resume")
    assert not (tmp_path / "run").exists()


def test_corrected_command_runs(finetune, tmp_path):
    finetune("--data", tmp_path / "typo")
    assert finetune().code == 0


def test_nothing_to_reproduce(tmp_path):
    folders = ["--data", tmp_path, "--checkpoints", tmp_path, "--output", tmp_path / "tables"]
    result = run("reproduce", *folders, "--only", "svm")
    assert_refused(result, "2 rows")
    assert "no weights: i2p-mae.pth" in (tmp_path / "tables/reproduction.md").read_text()


def test_unknown_option_and_model():
    assert run("finetune", "--bogus").code == 2
    assert_refused(run("models", "point_mea"), "point_mae")
    assert_refused(run("svm", "--model", "point_mea"), "point_mae")


def test_debug_shows_where_it_happened(tmp_path):
    for place in (0, 1):
        arguments = ["data", str(tmp_path / "nothing")]
        arguments.insert(place, "--debug")
        with pytest.raises(DataError, match="nothing"):
            run(*arguments)


def test_of_many_unusable_files_the_first_are_named(settings, tmp_path):
    files = [tmp_path / "shapes" / name / f"{n}.xyz" for name in "ab" for n in range(20)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(file, np.random.default_rng(0).normal(size=(60, 3)))
    given = ["--task", "part_segmentation", "--output", tmp_path / "run", *settings]
    result = run("finetune", "--data", tmp_path / "shapes", *given)
    assert_refused(result, "no usable shape", "a/0.xyz")
    assert 2 < result.err.count(".xyz") < len(files)


def test_an_error_of_the_system_names_the_file_first(settings, archive):
    result = run("finetune", "--data", archive, "--output", "/proc/runs/one", *settings)
    assert_refused(result, "error: /proc")
    assert "Errno" not in result.err


def test_a_demonstration_on_other_data_is_refused(tmp_path):
    result = run("demo", "--data", "shapenet", "--output", tmp_path / "demo")
    assert_refused(result, "--data", "mechparts", "'shapenet'")
    assert not (tmp_path / "demo").exists()
