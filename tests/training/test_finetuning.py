"""Fine-tuning learns, writes everything it promises, and looks at the test split once."""

import json
import logging
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pointpeft as pp
from pointpeft.data import InputTransform, ShapeData, ShapeSplit, load_shapes
from pointpeft.data.cache import geometry_digest, pack_digests
from pointpeft.errors import ConfigError, DataError
from pointpeft.measure import Predictor, load_adapted
from pointpeft.models.safetensors_files import state_hash
from pointpeft.peft import read_adapter_config
from pointpeft.peft.linear_svm import CROSS_VALIDATED
from pointpeft.training import FinetuneConfig, finetune, fitting, load_config
from tests.training.support import (
    CLASSES,
    adapter_bytes,
    clouds,
    mesh,
    rows,
    write_archive,
    write_meshes,
)

METHODS = ["full", "linear", "vpt-deep", "lora", "point-peft", "idpt", "dapt", "stag"]
ENOUGH = ["trainer.batch_size=8", "optimizer.lr=3e-3"]
EPOCHS = {"stag": 50}  # its features go on growing, and the head's BatchNorm follows behind


@pytest.fixture(scope="module", params=METHODS)
def trained(request, finetune_config, tmp_path_factory):
    """A run of each method that is long enough to learn: its method, folder and metrics."""
    folder = tmp_path_factory.mktemp("trained")
    epochs = f"trainer.epochs={EPOCHS.get(request.param, 25)}"
    config = finetune_config(f"method={request.param}", epochs, *ENOUGH)
    return request.param, folder, finetune(config, folder)


def test_learns_easy_classes(trained):
    _, _, metrics = trained
    assert metrics["test_accuracy"] >= 0.625  # chance: 0.25
    assert metrics["val_accuracy"] >= 0.625


@pytest.mark.parametrize("method", ["linear", "lora", "point-peft"])
def test_a_head_on_all_blocks_knows_the_classes_before_it_learns(method, run_finetune):
    begun = [f"method={method}", "optimizer.lr=1e-6", "trainer.epochs=1"]
    metrics = run_finetune(*begun, "peft.head=lda", name="all-blocks")
    assert metrics["val_accuracy"] >= 0.75  # chance: 0.25
    assert metrics["val_accuracy"] > run_finetune(*begun, name="own")["val_accuracy"]


def test_run_folder_is_complete(trained):
    method, folder, _ = trained
    for name in ("config.yaml", "log.txt", "metrics.csv", "metrics.json"):
        assert (folder / name).stat().st_size > 0, name
    assert list(folder.glob("**/events.out.tfevents.*"))
    assert {f.name for f in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert {file.name for file in (folder / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        *([] if method == "point-peft" else ["training_features.safetensors"]),  # else a bank
    } | ({"hugging_face"} if method == "lora" else set())
    assert not list(folder.rglob("*.tmp"))


def test_metrics_file_holds_what_is_returned(trained):
    method, folder, metrics = trained
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    stored = folder / "adapter/adapter_model.safetensors"
    assert metrics["stored_bytes"] == stored.stat().st_size
    assert metrics["method"] == method
    assert 0 < metrics["trainable_parameters"] <= metrics["total_parameters"]
    assert metrics["seconds_per_epoch"] > 0
    assert metrics["peak_memory_bytes"] > 1e6
    assert metrics["selection"] == "validation split"
    assert metrics["class_names"] == list(CLASSES)
    assert np.sum(metrics["confusion"]) == metrics["test_items"] == 8


def test_history_has_a_row_per_epoch(trained):
    method, folder, _ = trained
    history = rows(folder)
    assert [int(row["epoch"]) for row in history] == list(range(1, EPOCHS.get(method, 25) + 1))
    assert all(math.isfinite(float(v)) for row in history for v in row.values())
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])


def test_best_epoch_is_the_best_by_validation(trained):
    method, folder, metrics = trained
    score = [float(row["val_score"]) for row in rows(folder)]
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == int(np.argmax(score))
    assert metrics["best_epoch"] == int(np.argmax(score)) + 1
    assert metrics["epochs"] == EPOCHS.get(method, 25)
    shown = float(rows(folder)[best["epoch"]]["val_accuracy"])
    assert metrics["val_accuracy"] == pytest.approx(shown)


def test_checkpoints_hold_no_frozen_weights(trained):
    """Readable without running code, and no larger than what is trained needs with AdamW."""
    method, folder, metrics = trained
    encoder = set(pp.create_model("point_mae_small").state_dict())
    for name in ("last.ckpt", "best.ckpt"):
        path = folder / "checkpoints" / name
        state = torch.load(path, weights_only=True)["state_dict"]
        stored = load_file(folder / "adapter/adapter_model.safetensors")
        assert {key.removeprefix("model.") for key in state} == set(stored)
        if method == "linear":
            held = {re.sub(r"^model\.model\.backbone\.", "", key) for key in state}
            assert not held & encoder
        if method != "full":
            frozen = [key for key in state if "attn.qkv" in key or ".mlp.fc1.weight" in key]
            assert not [key for key in frozen if ".lora_" not in key]
            assert path.stat().st_size < 3 * metrics["stored_bytes"] + 200_000


def test_config_in_the_folder_repeats_the_run(trained):
    method, folder, _ = trained
    config = load_config(FinetuneConfig, [folder / "config.yaml"])
    assert (config.method, config.trainer.epochs) == (method, EPOCHS.get(method, 25))
    assert config.backbone["dim"] == 24
    assert config.optimizer.weight_decay == 0.05  # a default, written too


def test_log_names_versions_data_and_what_is_trained(trained, archive):
    method, folder, metrics = trained
    text = (folder / "log.txt").read_text()
    assert '"torch"' in text
    assert '"pointpeft"' in text
    counts = rf"{re.escape(str(archive))}: .*\b32 training, 8 validation, 8 test\b.*\b64\n"
    number, epochs = f"{metrics['trainable_parameters']:,}", EPOCHS.get(method, 25)
    for said in (counts, rf"{method} seed 0: .* {number} .*\bcpu\b.*\b1 to {epochs}\b.*{folder}\n"):
        assert re.search(said, text)


def test_adapter_remembers_the_shapes_of_every_split(trained, archive):
    _, folder, _ = trained
    config = json.loads((folder / "adapter/adapter_config.json").read_text())
    shapes, data = config["input"]["split"]["shapes"], load_shapes(archive, InputTransform(64))
    for name in ("train", "val", "test"):
        assert shapes[name] == pack_digests(getattr(data, name).digests)
    assert len(set(shapes.values())) == 3


def test_adapter_of_data_made_by_hand_does_not_name_another_source(finetune_config, tmp_path):
    points = np.concatenate([clouds(name, 4) for name in ("box", "torus")]).astype(np.float32)
    split = ShapeSplit(points, np.repeat([0, 1], 4), tuple(map(str, range(8))))
    data = ShapeData(
        ("box", "torus"), split.subset([0, 1, 4, 5]), split.subset([2, 6]), split.subset([3, 7]),
        split.subset([]), InputTransform(64), None, (), (),
    )  # fmt: skip
    finetune(finetune_config("trainer.epochs=1"), tmp_path / "run", data=data)
    said = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())["input"]
    assert (said["source"], said["variant"]) == (None, None)
    assert said["split"]["shapes"]["test"] == pack_digests(map(geometry_digest, points[[3, 7]]))


def test_adapter_predicts_files(trained, tmp_path):
    _, folder, metrics = trained
    file = tmp_path / "torus.off"
    mesh("torus", 0).export(file)
    prediction = Predictor(folder).predict_file(file)
    assert prediction.label in metrics["class_names"]
    assert [p for _, p in prediction.ranking] == sorted(
        (p for _, p in prediction.ranking), reverse=True
    )


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_gives_same_run(run_finetune, tmp_path, method):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run_finetune(f"method={method}", f"seed={seed}", "trainer.epochs=2", name=name)
    a, b, c = (tmp_path / name for name in "abc")
    assert (a / "metrics.csv").read_text() == (b / "metrics.csv").read_text()
    assert adapter_bytes(a) == adapter_bytes(b)
    assert (a / "metrics.csv").read_text() != (c / "metrics.csv").read_text()
    assert adapter_bytes(a) != adapter_bytes(c)


@pytest.mark.parametrize(
    ("class_weights", "ranked_by"),
    [("none", "val_accuracy"), ("balanced", "val_mean_class_accuracy")],
)
def test_several_seeds_are_summed_up(run_finetune, tmp_path, caplog, class_weights, ranked_by):
    with caplog.at_level(logging.INFO, "pointpeft"):
        metrics = run_finetune(
            "seeds=2", "seed=5", "trainer.epochs=2", f"class_weights={class_weights}"
        )
    assert caplog.text.count("linear seed 6: trains") == 1
    assert metrics["seeds"] == [5, 6]
    single = [
        json.loads((tmp_path / f"run/seed{seed}/metrics.json").read_text()) for seed in (5, 6)
    ]
    assert metrics["ranked_by"] == ranked_by
    for key in ("test_accuracy", "val_accuracy", ranked_by, "seconds_per_epoch"):
        values = [each[key] for each in single]
        assert metrics[f"{key}_per_seed"] == values
        assert metrics[key] == metrics[f"{key}_mean"] == pytest.approx(np.mean(values))
        assert metrics[f"{key}_std"] == pytest.approx(np.std(values, ddof=1))
    chosen = tmp_path / "run" / metrics["adapter_from"]
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(chosen)
    best = max(single, key=lambda each: each[ranked_by])
    assert metrics["adapter_from"] == f"seed{best['seed']}"
    assert metrics["best_epoch"] == best["best_epoch"]
    on_top = f"run/adapter is the adapter of seed {best['seed']}, the best of 2 by {ranked_by}"
    assert on_top in caplog.text


def test_the_log_says_the_same_once_and_where_no_absolute_paths(
    run_finetune, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run_finetune("seeds=2", "trainer.epochs=1")
    lines = (tmp_path / "run/log.txt").read_text().splitlines()
    told = [line.partition(" INFO ")[2] for line in lines if " INFO " in line]
    assert len(told) == len(set(told))
    (used,) = [line for line in told if "entries used" in line]
    assert used.startswith(f"{weights.name}: ")


def test_seed_of_several_equals_that_seed_alone(run_finetune, tmp_path):
    run_finetune("seeds=2", "trainer.epochs=2", name="both")
    run_finetune("seed=1", "trainer.epochs=2", name="alone")
    assert adapter_bytes(tmp_path / "both/seed1") == adapter_bytes(tmp_path / "alone")


@pytest.mark.parametrize("number", [0, -1])
def test_refuses_less_than_one_seed(run_finetune, tmp_path, number):
    with pytest.raises(ConfigError, match="seeds"):
        run_finetune(f"seeds={number}", "trainer.epochs=1")


def test_test_labels_do_not_influence_training(run_finetune, tmp_path):
    run_finetune("method=point-peft", name="a")
    wrong = write_archive(tmp_path / "wrong.npz", wrong_test_labels=True)
    run_finetune("method=point-peft", f"data.source={wrong}", name="b")
    a, b = (adapter_bytes(tmp_path / name)["adapter_model.safetensors"] for name in "ab")
    assert a == b
    assert (tmp_path / "a/metrics.csv").read_text() == (tmp_path / "b/metrics.csv").read_text()
    confusions = [
        json.loads((tmp_path / f"{name}/metrics.json").read_text())["confusion"] for name in "ab"
    ]
    assert confusions[0] != confusions[1]


def test_stops_early_without_progress(run_finetune, tmp_path):
    run_finetune("trainer.patience=2", "trainer.epochs=40", "optimizer.lr=1e-2")
    score = [float(row["val_score"]) for row in rows(tmp_path / "run")]
    assert len(score) < 40
    assert len(score) == int(np.argmax(score)) + 1 + 2


def test_without_validation_split_last_epoch_is_used(run_finetune, tmp_path):
    data = write_archive(tmp_path / "no_val.npz", {"train": 4, "test": 2})
    metrics = run_finetune(f"data.source={data}", "data.val_fraction=0", "trainer.epochs=3")
    assert "last epoch" in metrics["selection"]
    assert metrics["val_accuracy"] is None
    assert metrics["test_accuracy"] is not None
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    stored = load_file(tmp_path / "run/adapter/adapter_model.safetensors")
    for name, tensor in stored.items():
        assert torch.equal(tensor, last["state_dict"][f"model.{name}"]), name
    assert "val_accuracy" not in rows(tmp_path / "run")[0]


def test_without_test_split_accuracy_is_not_made_up(run_finetune, tmp_path):
    data = write_archive(tmp_path / "no_test.npz", {"train": 4})
    metrics = run_finetune(f"data.source={data}", "data.val_fraction=0", "trainer.epochs=1")
    assert metrics["test_accuracy"] is None
    assert metrics["confusion"] is None


def test_trains_in_bfloat16(run_finetune, tmp_path):
    metrics = run_finetune("method=point-peft", "trainer.precision=bf16-mixed", "trainer.epochs=2")
    assert all(math.isfinite(float(row["train_loss"])) for row in rows(tmp_path / "run"))
    assert 0 <= metrics["test_accuracy"] <= 1


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is without oneDNN")
@pytest.mark.parametrize("supported", [False, True])
def test_says_where_bfloat16_is_slow(run_finetune, caplog, monkeypatch, supported):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    run_finetune("method=linear", "trainer.precision=bf16-mixed", "trainer.epochs=1")
    assert ("trainer.precision" in caplog.text) is not supported


def test_random_weights_are_kept_beside_the_adapter(run_finetune, tmp_path, caplog, recwarn):
    """A model without shipped weights starts at random; its adapter must still be usable."""
    overrides = ["model=point_mae", "checkpoint=null", "trainer.epochs=1"]
    metrics = run_finetune(*overrides)
    assert "random weights" in caplog.text
    assert all(record.levelno >= logging.WARNING for record in caplog.records)
    assert not [str(warning.message) for warning in recwarn if "lightning" in warning.filename]
    (tmp_path / "run").rename(tmp_path / "moved")
    predictor = Predictor(tmp_path / "moved")
    assert list(predictor.class_names) == metrics["class_names"]


def test_shipped_weights_do_not_stand_in_the_way_of_other_sizes(
    run_finetune, tmp_path, monkeypatch
):
    """Sizes that the shipped weights do not have start at random."""
    shipped = tmp_path / "shipped.safetensors"
    pp.save_model(pp.create_model("point_mae_small"), shipped)
    monkeypatch.setattr("pointpeft.create._weights_path", lambda entry: shipped)
    run_finetune("checkpoint=null", "trainer.epochs=1")


def test_unusable_items_are_listed(run_finetune, tmp_path):
    folder = write_meshes(tmp_path / "meshes", dict.fromkeys(CLASSES, 4))
    (folder / "box/broken.off").write_text("no mesh")
    metrics = run_finetune(f"data.source={folder}", "trainer.epochs=1", name="skip")
    assert len(metrics["skipped"]) == 1
    assert metrics["skipped"][0].startswith("box/broken.off: ")
    assert "broken.off" in (tmp_path / "skip/log.txt").read_text()
    with pytest.raises(DataError, match=r"broken\.off"):
        run_finetune(f"data.source={folder}", "data.on_error=refuse", name="refuse")


def test_refuses_one_training_shape(run_finetune, tmp_path):
    data = write_archive(tmp_path / "one.npz", {"train": 1})
    arrays = dict(np.load(data))
    arrays["label"][1:] = -1  # shapes without a class
    np.savez(data, **arrays)
    with pytest.raises(DataError, match="two"):
        run_finetune(f"data.source={data}")


def test_refuses_to_write_over_a_run(run_finetune, tmp_path):
    run_finetune("trainer.epochs=1")
    before = adapter_bytes(tmp_path / "run")
    with pytest.raises(ConfigError, match="`resume`"):
        run_finetune("trainer.epochs=1", "seed=1")
    assert adapter_bytes(tmp_path / "run") == before


def test_wrong_method_leaves_no_folder(run_finetune, tmp_path):
    with pytest.raises(ConfigError, match="point-peft"):
        run_finetune("method=point-pft")
    assert not (tmp_path / "run").exists()


def test_failed_start_does_not_take_the_folder(run_finetune, tmp_path):
    with pytest.raises(DataError):
        run_finetune(f"data.source={tmp_path / 'typo'}")
    run_finetune("trainer.epochs=1")


@pytest.mark.parametrize(
    "override",
    [
        "data.num_points=0",
        "trainer.epochs=0",
        "trainer.batch_size=0",
        "optimizer.lr=0",
        "optimizer.warmup=1",
        "trainer.devices=0",
    ],
)
def test_refuses_values_out_of_range(run_finetune, override):
    """The message names the setting."""
    name = override.split("=")[0].split(".")[1]
    with pytest.raises(ConfigError, match=name):
        run_finetune(override)


@pytest.mark.parametrize("method", ["svm", "knn"])
def test_a_method_that_is_fitted_needs_no_epoch(run_finetune, tmp_path, method):
    metrics = run_finetune(f"method={method}", "trainer.epochs=50")
    folder = tmp_path / "run"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["test_accuracy"] >= 0.5  # chance: 0.25
    assert (metrics["epochs"], metrics["seconds_per_epoch"]) == (0, None)
    assert metrics["fit_seconds"] > 0
    assert (folder / "report.html").is_file()
    assert not list(folder.rglob("*.ckpt"))
    loaded = load_adapted(folder)
    assert loaded.config.method == method
    assert (
        run_finetune(f"method={method}", "trainer.epochs=50", name="again")["test_accuracy"]
        == (metrics["test_accuracy"])
    )


@pytest.mark.usefixtures("svm_beside")
def test_an_svm_that_is_better_is_told_of(run_finetune, caplog):
    with caplog.at_level(logging.WARNING, "pointpeft"):
        metrics = run_finetune("method=linear", "trainer.epochs=1", "optimizer.lr=1e-6")
    assert metrics["svm_test_accuracy"] > metrics["test_accuracy"]
    assert "--method svm" in caplog.text
    assert "peft.head=lda" in caplog.text


@pytest.mark.usefixtures("svm_beside")
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_svm_of_classes_that_count_alike(run_finetune, seeds):
    settings = ("method=linear", "trainer.epochs=1", "class_weights=balanced", f"seeds={seeds}")
    metrics = run_finetune(*settings)
    assert metrics["svm_test_mean_class_accuracy"] > metrics["test_mean_class_accuracy"]
    assert "svm_test_accuracy" not in metrics


@pytest.mark.usefixtures("svm_beside")
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_svm_of_random_weights_is_of_those_of_the_run(
    run_finetune, tmp_path, monkeypatch, seeds
):
    encoders, extract = [], fitting.extract_features

    def watched(trunk, *given, **named):
        encoders.append(state_hash(trunk))
        return extract(trunk, *given, **named)

    monkeypatch.setattr(fitting, "extract_features", watched)
    run_finetune("checkpoint=random", "trainer.epochs=1", f"seeds={seeds}")
    config = read_adapter_config(tmp_path / "run/adapter")
    assert set(encoders) == {config["base_model"]["hash"]}


@pytest.mark.usefixtures("svm_beside")
def test_the_strength_of_the_svm_is_chosen_on_a_draw(run_finetune, monkeypatch):
    whole = run_finetune("method=linear", "trainer.epochs=1")
    monkeypatch.setattr(fitting, "_MOST_VALIDATED", 12)
    drawn = run_finetune("method=linear", "trainer.epochs=1", name="drawn")
    assert drawn["svm_C_from"] == whole["svm_C_from"] == CROSS_VALIDATED
    assert drawn["svm_C"] != whole["svm_C"]
