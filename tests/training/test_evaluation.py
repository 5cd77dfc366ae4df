"""Which shapes `evaluate` measures when it is not told, and what it refuses."""

import numpy as np
import pytest

from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.measure import analysis
from pointpeft.measure.evaluate import evaluate_adapter
from tests.training.support import write_archive


def test_training_shapes_are_never_called_a_test(run_finetune, tmp_path):
    source = write_archive(tmp_path / "train.npz", {"train": 8})
    run_finetune(f"data.source={source}", "data.val_fraction=0", "trainer.epochs=1")
    with pytest.raises(DataError, match=r"\b32\D+32\b"):
        evaluate_adapter(tmp_path / "run", str(source), tmp_path / "measured")
    metrics = evaluate_adapter(tmp_path / "run", str(source), tmp_path / "measured", split="all")
    assert metrics["split"] == "all"
    assert metrics["test_accuracy"] is None


def test_data_is_known_however_its_place_is_written(run_finetune, tmp_path, monkeypatch):
    monkeypatch.setattr(analysis, "project", lambda features, seed=0: (features[:, :2], "PCA"))
    monkeypatch.setenv("HOME", str(tmp_path))
    source = write_archive(tmp_path / "data.npz", {"train": 8})
    run_finetune("data.source=~/data.npz", "trainer.epochs=1")
    assert source.is_file()
    monkeypatch.chdir(tmp_path)
    for output, place in (("a", "~/data.npz"), ("b", "data.npz")):
        assert evaluate_adapter(tmp_path / "run", place, tmp_path / output)["test_items"] == 8


def test_shapes_that_moved_from_train_to_test_are_not_a_test(run_finetune, tmp_path):
    source = write_archive(tmp_path / "data.npz", {"train": 8, "test": 4})
    run_finetune(
        f"data.source={source}", "method=point-peft", "peft.num_prompts=3", "trainer.epochs=1"
    )
    with np.load(source) as file:
        content = dict(file)
    content["split"] = np.where(content["split"] == "test", "train", "test")
    np.savez(source, **content)
    with pytest.raises(DataError, match=rf"{source.name}.*\btest\b"):
        evaluate_adapter(tmp_path / "run", str(source), tmp_path / "measured")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"votes": -1}, "votes.*-1"),
        ({"protocol": "own"}, "protocol.*'own'"),
        ({"split": "tset"}, "split.*'tset'"),
        ({"split": "all", "protocol": "published"}, "split=all"),
        ({"split": "train", "protocol": "published"}, "split=train"),
    ],
)
def test_impossible_settings_are_refused(settings, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        evaluate_adapter(tmp_path / "run", "data", tmp_path / "measured", **settings)


def test_results_are_not_written_over(run_finetune, archive, tmp_path, monkeypatch):
    monkeypatch.setattr(analysis, "project", lambda features, seed=0: (features[:, :2], "PCA"))
    run_finetune("trainer.epochs=1")
    evaluate_adapter(tmp_path / "run", str(archive), tmp_path / "measured", seed=1)
    for folder in (tmp_path / "run", tmp_path / "measured"):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(ConfigError, match="`output`"):
            evaluate_adapter(tmp_path / "run", str(archive), folder, seed=2)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_another_statement_of_how_data_was_cut_is_refused(run_finetune, archive, tmp_path):
    run_finetune("trainer.epochs=1")
    config = tmp_path / "run/adapter/adapter_config.json"
    config.write_text(config.read_text().replace('"val_fraction"', '"cache_dir"'))
    with pytest.raises(CheckpointError, match="`split`"):
        evaluate_adapter(tmp_path / "run", str(archive), tmp_path / "measured")
