"""Files for the published repositories: written, and read back as what they were."""

import logging

import pytest
import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.bank_files import read_bank
from pointpeft.compat.checkpoints.checkpoint_writer import BANK, QUERY_ENCODER, save_pth
from pointpeft.errors import ConfigError
from tests.models.tiny import clouds, run, settle, tiny
from tests.peft.test_published import SIZES, columns, tuned

DEPTHS = {"depths": (5, 5, 5)}
MODELS = [
    ("point_mae", "pretraining", {}),
    ("point_mae", "classification", {}),
    ("point_mae", "part_segmentation", {"num_categories": 3}),
    ("point_bert", "pretraining", {}),
    ("point_bert", "classification", {}),
    ("point_bert", "part_segmentation", {"num_categories": 3}),
    ("point_m2ae", "pretraining", DEPTHS),
    ("point_m2ae", "classification", DEPTHS),
    ("point_m2ae", "part_segmentation", {**DEPTHS, "num_categories": 3}),
    ("i2p_mae", "pretraining", DEPTHS),
    ("i2p_mae", "classification", DEPTHS),
]


@pytest.mark.parametrize(("name", "task", "settings"), MODELS)
def test_a_model_comes_back_from_its_published_form(name, task, settings, tmp_path):
    model = settle(tiny(task, name, **settings))
    measured = {"test_accuracy": 0.91, "test_class_iou": 0.7, "test_instance_iou": 0.8}
    save_pth(model, tmp_path / "ckpt-best.pth", epoch=3, metrics=measured)
    content = torch.load(tmp_path / "ckpt-best.pth", weights_only=True)
    if task == "part_segmentation":
        scores = {"test_acc": 0.91, "class_avg_iou": 0.7, "inctance_avg_iou": 0.8}
        assert content.items() >= scores.items()
        assert not any(key.startswith("module.") for key in content["model_state_dict"])
    else:
        assert content["metrics"] == {"acc": 91.0}
        assert all(key.startswith("module.") for key in content["base_model"])
    loaded = tiny(task, name, **settings, checkpoint=tmp_path / "ckpt-best.pth")
    state, expected = loaded.state_dict(), model.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("method", [pp.FullConfig, pp.LinearConfig])
def test_a_tuned_model_is_written_as_a_plain_one(method, tmp_path):
    model = pp.get_peft_model(settle(tiny("classification")), method()).eval()
    save_pth(model, tmp_path / "ckpt-best.pth")
    loaded = tiny("classification", checkpoint=tmp_path / "ckpt-best.pth").eval()
    assert torch.equal(run(loaded, clouds()), model(clouds()))


@pytest.mark.parametrize("name", list(SIZES))
def test_point_peft_as_published_comes_back(name, tmp_path, caplog):
    model, encoder = tuned(name)
    model.set_bank(columns(encoder), encoder)
    path = tmp_path / "ckpt-best.pth"
    with caplog.at_level(logging.INFO, "pointpeft"):
        save_pth(model, path)
    assert f"{path}: written as published, Point-PEFT on" in caplog.text
    loaded = tiny("classification", name, **SIZES[name], checkpoint=path).eval()
    bank = torch.load(tmp_path / BANK, weights_only=True)
    assert bank.dtype == torch.float32
    assert torch.equal(bank, model.bank.features.float())
    queries = pp.create_model(name, checkpoint=tmp_path / QUERY_ENCODER)
    loaded.set_bank(read_bank(tmp_path / BANK), queries)
    assert torch.equal(loaded(clouds()), model(clouds()))


def test_the_bank_of_another_file_is_not_replaced(tmp_path):
    """That of the same run is, and files that need the same may share it."""
    model, encoder = tuned("point_mae")
    model.set_bank(columns(encoder), encoder)
    for name in ("ckpt-best.pth", "other.pth"):
        save_pth(model, tmp_path / name)
    (tmp_path / "other.pth").unlink()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    model.set_bank(columns(encoder), settle(tiny()))
    with pytest.raises(ConfigError, match=rf"other\.pth .*{QUERY_ENCODER}"):
        save_pth(model, tmp_path / "other.pth")
    bank = pp.MemoryBank.build(encoder, [clouds(12, seed=6)])
    model.set_bank(bank, encoder)
    with pytest.raises(ConfigError, match=rf"other\.pth .*{BANK}"):
        save_pth(model, tmp_path / "other.pth")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    for name in ("ckpt-best.pth", "ckpt-best_vote.pth"):
        save_pth(model, tmp_path / name)
    assert torch.equal(torch.load(tmp_path / BANK, weights_only=True), bank.features.float())


def test_what_no_repository_loads_is_refused(tmp_path):
    ours = pp.get_peft_model(tiny("classification"), pp.PointPeftConfig())
    with pytest.raises(ConfigError, match="reference_compat=True"):
        save_pth(ours, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="for features"):
        save_pth(tiny(), tmp_path / "a.pth")
