"""Published keys mean settings of ours; what means nothing or is mistyped is said."""

import re

import pytest

from pointpeft.cli.published_flags import Command, parse
from pointpeft.cli.published_keys import PUBLISHED_KEYS, named_as_typed, translate
from pointpeft.cli.published_settings import flag_settings
from pointpeft.errors import ConfigError, DataError
from pointpeft.tasks import FinetuneConfig, PretrainConfig, load_config
from pointpeft.tasks.config import SvmConfig
from pointpeft.tasks.config_files import setting_names
from tests.cli.published import CONFIGS

FREE = ("backbone", "pretraining")
ALL_NAMES = {name for kind in (FinetuneConfig, PretrainConfig) for name in setting_names(kind)}


def settings(kind=FinetuneConfig, model="point_mae"):
    return load_config(kind, values={"model": model})


def overrides(*given, **which):
    return translate(given, settings(**which)).overrides


@pytest.mark.parametrize("key", PUBLISHED_KEYS)
def test_every_key_leads_to_a_setting(key):
    targets = PUBLISHED_KEYS[key]
    for target in (targets,) if isinstance(targets, str) else targets:
        assert target in ALL_NAMES or target.split(".")[0] in FREE


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("max_epoch=1", "trainer.epochs=1"),
        ("total_bs=8", "trainer.batch_size=8"),
        ("npoints=64", "data.num_points=64"),
        ("dataset.train.others.npoints=64", "data.num_points=64"),
        ("dataset.train.others.subset=whole", "data.train_split=whole"),
        ("optimizer.kwargs.lr=1e-3", "optimizer.lr=1e-3"),
        ("scheduler.kwargs.epochs=400", "optimizer.cosine_epochs=400"),
        ("scheduler.kwargs.initial_epochs=3", "optimizer.warmup_epochs=3"),
        ("grad_norm_clip=5", "optimizer.grad_clip=5"),
        ("model.smooth=0.3", "label_smoothing=0.3"),
        ("model.num_group=16", "backbone.num_groups=16"),
        ("model.transformer_config.depth=2", "backbone.depth=2"),
        ("model.trans_dim=24", "backbone.dim=24"),
        ("optimizer.lr=2e-3", "optimizer.lr=2e-3"),
        ("backbone.patch_widths=[8,12,16]", "backbone.patch_widths=[8,12,16]"),
    ],
)
def test_keys_of_either_vocabulary(given, expected):
    assert overrides(given) == [expected]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("model.clip_config.visual_encoder=random", "pretraining.teacher=random"),
        ("model.transformer_config.mask_ratio=0.6", "pretraining.mask_ratio=0.6"),
        ("model.loss=cdl2", "pretraining.loss=l2"),
        ("model.transformer_config.mask_type=rand", "pretraining.mask_type=random"),
        ("model.transformer_config.cls_dim=512", "pretraining.feature_dim=512"),
        ("model.dvae_config.ckpt=dVAE.pth", "pretraining.tokenizer=dVAE.pth"),
        ("model.dvae_config.num_group=32", "backbone.num_groups=32"),
    ],
)
def test_keys_of_pretraining(given, expected):
    assert overrides(given, kind=PretrainConfig, model="point_bert") == [expected]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("point_mae", "backbone.dim"),
        ("point_bert", "backbone.embed_dim"),
        ("point_m2ae", "backbone.dims"),
        ("i2p_mae", "backbone.dims"),
    ],
)
def test_what_encoder_dims_are_depends_on_the_model(model, expected):
    assert overrides("model.encoder_dims=24", model=model) == [f"{expected}=24"]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("max_epoch=1", SvmConfig),
        ("total_bs=8", SvmConfig),
        ("model.mask_ratio=0.8", FinetuneConfig),
    ],
)
def test_keys_without_effect_are_named(given, kind):
    found = translate([given], settings(kind))
    assert not found.overrides
    assert given in found.notes[0]


@pytest.mark.parametrize(
    ("config", "expected"),
    [("point-bert", "svm.every=5"), ("point-bert-dvae", "validate_every=5")],
)
def test_frequency_of_validation(config, expected):
    flags = parse(["--config", "c.yaml", "--val_freq", "5"])
    stated = load_config(PretrainConfig, [CONFIGS / f"pre-training/{config}.yaml"])
    assert expected in flag_settings(Command.PRETRAIN, flags, stated)


@pytest.mark.parametrize(
    "given", ["step_per_update=1", "optimizer.type=AdamW", "dataset.val.others.subset=test"]
)
def test_keys_with_one_value(given):
    assert overrides(given) == []
    key = given.split("=")[0]
    with pytest.raises(ConfigError, match=f"there is only {given}"):
        overrides(f"{key}=2")


@pytest.mark.parametrize(
    ("given", "proposed"),
    [
        ("max_epok=1", "'max_epoch' (published)?"),
        ("trainer.epoch=1", "'trainer.epochs' (ours)?"),
        ("model.dpeth=3", "'model.depth' (published) or 'model' (ours)?"),
        ("optimizer.kwargs.lrr=1", "'optimizer.kwargs.lr' (published) or 'optimizer.lr' (ours)?"),
    ],
)
def test_unknown_keys_propose_the_nearest_of_both(given, proposed):
    with pytest.raises(ConfigError) as error:
        overrides(given)
    key = given.split("=")[0]
    assert str(error.value) == (
        f"unknown key {key}; did you mean {proposed}\nall keys: see python main.py --help"
    )
    with pytest.raises(ConfigError, match=r"unknown key xyz; did you mean '.*\nall keys"):
        overrides("xyz=1")


def test_errors_name_settings_as_they_were_typed():
    translation = translate(["max_epoch=0", "optimizer.lr=1"], settings())
    for error, shown in (
        (DataError("trainer.epochs is optimizer.lr"), "max_epoch (trainer.epochs) is optimizer.lr"),
        (ConfigError("trainer.epochs=0: no"), "max_epoch=0 (trainer.epochs=0): no"),
    ):
        with pytest.raises(type(error), match=f"^{re.escape(shown)}$"), named_as_typed(translation):
            raise error


def test_no_override_and_no_word_of_a_key():
    with pytest.raises(ConfigError, match="key=value"):
        overrides("max_epoch")
    with pytest.raises(ConfigError, match="cdl1, cdl2"):
        overrides("model.loss=emd", kind=PretrainConfig)
    with pytest.raises(ConfigError, match="did you mean 'point_mae'"):
        overrides("model.encoder_dims=24", model="point_mea")


def test_the_number_of_classes_is_that_of_the_data(tmp_path):
    config = settings()
    config.data.source, config.data.variant = str(tmp_path), "scanobjectnn_pb_t50_rs"
    assert translate(["model.cls_dim=15"], config).overrides == []
    with pytest.raises(ConfigError, match="PB-T50-RS has 15 classes"):
        translate(["model.cls_dim=40"], config)
