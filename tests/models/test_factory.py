"""``create_model``: published sizes, presets, and refusals that say what to pass instead."""

import math

import pytest
import torch
from torch import nn

import pointpeft as pp
from pointpeft import create
from pointpeft.errors import CheckpointError, ConfigError, PointPeftError
from pointpeft.models import PointMAE, build_backbone
from tests.models.tiny import SIZES, tiny


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_pretraining_has_the_published_number_of_parameters():
    assert count(pp.create_model("point_mae", task="pretraining")) == 29_006_432


def test_classifiers_have_the_published_numbers_of_parameters():
    model = pp.create_model("point_mae", preset="modelnet40", num_classes=40)
    assert count(model) == 22_099_752
    model.reset_classifier(15)
    assert count(model) == 22_093_327
    assert count(model) - count(model.head) == 21_825_792


def test_the_task_follows_from_the_number_of_classes():
    assert hasattr(pp.create_model("point_mae", **SIZES), "retrieval_features")
    assert pp.create_model("point_mae", num_classes=7, **SIZES).num_classes == 7


def test_a_preset_sets_sizes_and_overrides_win():
    small = {key: SIZES[key] for key in ("dim", "depth", "patch_widths")}
    model = pp.create_model("point_mae", preset="scanobjectnn", **small)
    assert model.spec.config["num_groups"] == 128
    assert model.spec.num_points == 2048
    model = pp.create_model(
        "point_mae", preset="scanobjectnn", num_groups=32, num_points=512, **small
    )
    assert model.spec.config["num_groups"] == 32
    assert model.spec.num_points == 512


def test_a_spec_rebuilds_its_encoder():
    spec = tiny(num_points=99).spec
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in spec.config.items()}
    again = build_backbone(spec.name, settings | {"num_points": spec.num_points})
    assert again.spec == spec


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "point_mea"}, ["point_mea", "did you mean", "'point_mae'"]),
        ({"name": "zzz"}, ["'zzz': known models", "point_mae", "point_mae_small"]),
        ({"name": "Point-MAE"}, ["did you mean 'point_mae'? "]),
        ({"name": "PointMAE"}, ["did you mean 'point_mae'? "]),
        ({"name": "m2ae"}, ["did you mean 'point_m2ae' or 'point_m2ae_small'? "]),
        ({"name": "bert"}, ["did you mean 'point_bert' or 'point_bert_dvae' or 'point_bert_sma"]),
        ({"name": "point"}, ["'point_bert'", "or 'point_m2ae' or", "or 'point_mae' or"]),
        ({"name": ""}, ["'': known models"]),
        ({"num_group": 8}, ["num_group", "did you mean 'num_groups'"]),
        ({"num_pionts": 8}, ["did you mean 'num_points'"]),
        ({"preset": "modelnet"}, ["preset 'modelnet'", "modelnet40", "scanobjectnn"]),
        ({"name": "point_mae_small", "preset": "modelnet40"}, ["none"]),
        ({"task": "segmentation"}, ["segmentation", "classification", "pretraining"]),
    ],
)
def test_what_is_unknown_is_answered_with_what_is_known(arguments, words):
    with pytest.raises(ConfigError) as caught:
        pp.create_model(**{"name": "point_mae", **arguments})
    for word in words:
        assert word in str(caught.value)


def test_a_misspelt_setting_of_pretraining_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="mask_ratio"):
        tiny("pretraining", mask_ratoi=0.5)


@pytest.mark.parametrize(
    ("task", "num_classes"),
    [("pretraining", 4), ("features", 4), ("classification", None)],
)
def test_a_task_that_contradicts_the_number_of_classes_is_refused(task, num_classes):
    with pytest.raises(ConfigError, match="num_classes"):
        pp.create_model("point_mae", task=task, num_classes=num_classes, **SIZES)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_heads": 5},
        {"depth": 0},
        {"num_groups": 0},
        {"group_size": -1},
        {"drop_path": 1.5},
        {"task": "pretraining", "mask_ratio": 1.5},
        {"task": "pretraining", "mask_ratio": math.nan},
        {"task": "pretraining", "decoder_num_heads": 7},
        {"patch_widths": 8},
        {"task": "pretraining", "loss": "l3"},
        {"num_classes": 0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_when_the_model_is_made(settings):
    with pytest.raises(PointPeftError):
        pp.create_model("point_mae", **{**SIZES, **settings})


def test_weights_that_are_not_shipped_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(create, "_weights_path", lambda entry: tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="point_mae"):
        tiny(pretrained=True)
    assert not create.has_embedded_weights("point_mae")


def test_shipped_weights_have_a_name():
    named = pp.create_model("point_mae_small", checkpoint="embedded")
    flagged = pp.create_model("point_mae_small", pretrained=True)
    assert named.loaded_from == flagged.loaded_from == "embedded"
    for key, tensor in flagged.state_dict().items():
        assert torch.equal(named.state_dict()[key], tensor)


def test_shipped_and_own_weights_exclude_each_other():
    with pytest.raises(ConfigError, match="not both"):
        tiny(pretrained=True, checkpoint="x.pth")


def test_a_tokenizer_is_no_backbone():
    with pytest.raises(ConfigError, match="point_bert_dvae"):
        build_backbone("point_bert_dvae", {})


def test_an_encoder_of_no_entry_cannot_be_named():
    with pytest.raises(ConfigError, match="create_model"):
        _ = PointMAE().spec


def test_a_size_of_the_head_that_is_misspelt_is_proposed():
    with pytest.raises(ConfigError, match="'num_classes'"):
        pp.create_model("point_mae", num_class=5)
