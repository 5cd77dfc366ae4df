"""Which shapes `evaluate` measures when it is not told."""

import pytest

from pointpeft.errors import ConfigError, DataError
from pointpeft.evaluation.evaluate import evaluate_adapter
from tests.tasks.support import write_archive


def test_training_shapes_are_never_called_a_test(run_finetune, tmp_path):
    source = write_archive(tmp_path / "train.npz", {"train": 8})
    run_finetune(f"data.source={source}", "data.val_fraction=0", "trainer.epochs=1")
    with pytest.raises(DataError, match="has no test split"):
        evaluate_adapter(tmp_path / "run", str(source), tmp_path / "measured")
    metrics = evaluate_adapter(tmp_path / "run", str(source), tmp_path / "measured", split="all")
    assert metrics["split"] == "all"
    assert metrics["test_accuracy"] is None


def test_impossible_votes_are_refused(run_finetune, archive, tmp_path):
    run_finetune("trainer.epochs=1")
    with pytest.raises(ConfigError, match="votes=-1"):
        evaluate_adapter(tmp_path / "run", str(archive), tmp_path / "measured", votes=-1)
