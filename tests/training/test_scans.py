"""Where scans are to be learnt, all that is learnt and chosen by is scans."""

import logging

import pytest
import torch

from pointpeft.data import load_shapes
from pointpeft.data.transforms import RandomScan
from pointpeft.errors import ConfigError
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.training import SvmConfig
from pointpeft.training.config import DataConfig
from tests.training.support import NUM_POINTS, adapter_bytes

SCAN = "data.augmentation=scan"


@pytest.fixture
def validated(monkeypatch):
    """Clouds of the first validation of each run."""
    seen, step = [], ClassificationModule.validation_step

    def spied(self, batch, batch_index):
        if not batch_index:
            seen.append(batch["points"].clone())
        step(self, batch, batch_index)

    monkeypatch.setattr(ClassificationModule, "validation_step", spied)
    return seen


def test_the_epoch_is_chosen_by_the_same_scans_in_every_run(run_finetune, archive, validated):
    for seed in (0, 1):
        run_finetune("method=linear", "trainer.epochs=1", SCAN, f"seed={seed}", name=f"{seed}")
    one, other = validated
    assert torch.equal(one, other)
    whole = torch.from_numpy(load_shapes(archive).val.points)[:, :NUM_POINTS]
    assert one.shape == whole.shape
    assert torch.cdist(one, whole).amin(dim=2).max() > 0.05  # other points: turned and noisy
    run_finetune("method=linear", "trainer.epochs=1", name="whole")
    assert torch.equal(validated[-1], whole)


@pytest.mark.parametrize("method", ["lda", "svm"])
def test_a_rule_is_fitted_to_scans(run_finetune, tmp_path, caplog, method):
    made = {}
    for name in ("none", "scan", "rotate"):
        with caplog.at_level(logging.WARNING, "pointpeft"):
            run_finetune(f"method={method}", f"data.augmentation={name}", name=name)
        made[name] = adapter_bytes(tmp_path / name)["adapter_model.safetensors"]
        assert ("data.augmentation" in caplog.text) == (name == "rotate")
    assert made["none"] == made["rotate"] != made["scan"]


def test_the_svm_on_frozen_features_knows_no_augmentation():
    with pytest.raises(ConfigError, match=r"data\.augmentation"):
        SvmConfig(data=DataConfig(augmentation="scan"))


@pytest.mark.parametrize("procedural", [False, True])
def test_pretraining_scans_all_points_that_are_stored(run_pretrain, monkeypatch, procedural):
    seen, scan = set(), RandomScan.__call__
    monkeypatch.setattr(
        RandomScan, "__call__", lambda self, points, *more: seen.add(points.shape[1])
        or scan(self, points, *more),
    )  # fmt: skip
    more = ["data.source=procedural", "procedural=32"] if procedural else []
    run_pretrain("trainer.epochs=1", SCAN, *more)
    assert seen == {2 * NUM_POINTS}
