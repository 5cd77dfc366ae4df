"""Published keys mean settings of ours; what means nothing or is mistyped is said."""

import dataclasses
import json
import re

import pytest

from pointpeft.compat.command.flags import Command, parse
from pointpeft.compat.command.keys import PUBLISHED_KEYS, translate
from pointpeft.compat.command.translation import flag_settings
from pointpeft.create import create_model
from pointpeft.errors import ConfigError
from pointpeft.models import get_entry
from pointpeft.peft import config_class
from pointpeft.training import FinetuneConfig, PretrainConfig, load_config
from pointpeft.training.config import SvmConfig
from pointpeft.training.config_files import setting_names
from tests import published_yamls
from tests.cli.published import CONFIGS, run

FREE = ("backbone", "peft", "pretraining")
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
    assert found.ignored == [given]


@pytest.mark.parametrize(
    ("config", "expected"),
    [("point-bert", "svm.every=5"), ("point-bert-dvae", "validate_every=5")],
)
def test_frequency_of_validation(config, expected):
    flags = parse(["--config", "c.yaml", "--val_freq", "5"])
    settings = load_config(PretrainConfig, [CONFIGS / f"pre-training/{config}.yaml"])
    assert expected in flag_settings(Command.PRETRAIN, flags, settings)[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("full", []),
        ("mlp3", ["method=linear", "peft.class_token=true"]),
        ("linear", ["method=linear", "peft.class_token=true", "peft.head=linear"]),
    ],
)
def test_what_is_trained_of_pcp_mae(given, expected):
    assert overrides(f"model.type={given}", model="pcp_mae") == expected
    if given != "full":
        with pytest.raises(ConfigError, match=f"model.type={given}"):
            overrides(f"model.type={given}")


@pytest.mark.parametrize(
    "given", ["step_per_update=1", "optimizer.type=AdamW", "dataset.val.others.subset=test"]
)
def test_keys_with_one_value(given):
    assert overrides(given) == []
    key = given.split("=")[0]
    with pytest.raises(ConfigError, match=given):
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
    with pytest.raises(
        ConfigError, match=re.escape(f"{given.split('=')[0]}; did you mean {proposed}")
    ):
        overrides(given)
    with pytest.raises(ConfigError, match="xyz"):
        overrides("xyz=1")


def test_errors_name_settings_as_they_were_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("fine-tuning/scan_pb.yaml", "--scratch_model", "max_epoch=0", "data.seed=1")
    assert result.code == 1
    assert "trainer.epochs" in result.err
    assert "max_epoch=0" in result.err
    assert "data.seed" not in result.err


def test_no_override_and_no_word_of_a_key():
    with pytest.raises(ConfigError, match="key=value"):
        overrides("max_epoch")
    with pytest.raises(ConfigError, match="cdl1, cdl2"):
        overrides("model.loss=emd", kind=PretrainConfig)
    with pytest.raises(ConfigError, match="'point_mae'"):
        overrides("model.encoder_dims=24", model="point_mea")


def test_the_number_of_classes_is_that_of_the_data(tmp_path):
    config = settings()
    config.data.source, config.data.variant = str(tmp_path), "scanobjectnn_pb_t50_rs"
    assert translate(["model.cls_dim=15"], config).overrides == []
    with pytest.raises(ConfigError, match="15"):
        translate(["model.cls_dim=40"], config)


# Published configs --------------------------------------------------------------------------------

KIND_OF_FOLDER = {"pre-training": PretrainConfig, "linear-svm": SvmConfig}


def as_override(key, value):
    return f"{key}={'' if value is None else json.dumps(value).strip(chr(34))}"


def computed(settings):
    """All that a run computes: its settings, with those of its models in full."""
    values = dataclasses.asdict(settings)
    entry = get_entry(settings.model)
    preset = entry.presets.get(settings.preset)
    sizes = {"num_points": preset.num_points, **preset.overrides} if preset else {}
    encoder = {"num_points": entry.num_points, **dataclasses.asdict(entry.config), **sizes}
    values["backbone"] = {**encoder, **settings.backbone}
    values["data"]["num_points"] = settings.data.num_points or values["backbone"]["num_points"]
    if "pretraining" in values and entry.pretraining_config is not None:
        own = dataclasses.asdict(entry.pretraining_config)
        values["pretraining"] = {**own, **settings.pretraining}
        for name in ("token_dim", "decoder_dim"):  # left to the tokenizer: the published ones
            if name in own:
                values["pretraining"][name] = values["pretraining"][name] or 256
    if "peft" in values and settings.method == "point-peft":
        peft = config_class("point-peft").from_dict(settings.peft)
        backbone = create_model(settings.model, preset=settings.preset, **settings.backbone)
        values["peft"] = peft.resolve(backbone).to_dict()
        width = values["peft"]["adapter_dim"]
        values["peft"]["adapter_dim"] = width[0] if isinstance(width, tuple) else width
    optimizer, epochs = values.get("optimizer", {}), values.get("trainer", {}).get("epochs")
    if optimizer:
        optimizer["cosine_epochs"] = optimizer["cosine_epochs"] or epochs
    if "svm" in values:
        values.pop("svm")  # compared by the keys of its own
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("name", published_yamls.CONFIGS)
def test_every_key_of_a_published_config_is_accepted_and_changes_nothing(name):
    ours, stated = published_yamls.CONFIGS[name]
    kind = KIND_OF_FOLDER.get(ours.partition("/")[0], FinetuneConfig)
    before = load_config(kind, [CONFIGS / f"{ours}.yaml"])
    given = [as_override(key, value) for key, value in stated.items()]
    after = load_config(kind, [CONFIGS / f"{ours}.yaml"], translate(given, before).overrides)
    assert computed(after) == computed(before)
    for override in given:  # and each by itself
        alone = translate([override], before).overrides
        load_config(kind, [CONFIGS / f"{ours}.yaml"], alone)


def test_published_heads_are_those_of_a_hierarchical_decoder_too():
    heads = ["backbone.num_heads=3", "pretraining.decoder_num_heads=3"]
    assert overrides("model.num_heads=3", kind=PretrainConfig, model="point_m2ae") == heads
    assert overrides("model.num_heads=3", kind=PretrainConfig, model="i2p_mae") == heads
    given = ("model.decoder_num_heads=2", "model.num_heads=3")
    assert overrides(*given, kind=PretrainConfig, model="point_m2ae") == [
        "pretraining.decoder_num_heads=2", "backbone.num_heads=3",
    ]  # fmt: skip
    for which in ({"kind": PretrainConfig}, {"model": "point_m2ae"}):
        assert overrides("model.num_heads=3", **which) == ["backbone.num_heads=3"]


M2AE = {"kind": PretrainConfig, "model": "point_m2ae"}
TUNED_M2AE = {"model": "point_m2ae"}
I2P = {"kind": PretrainConfig, "model": "i2p_mae"}


@pytest.mark.parametrize(
    ("given", "which", "expected"),
    [
        (["model.decoder_up_blocks=[2,1]"], M2AE, ["pretraining.decoder_residuals=[2]"]),
        (["model.transformer_config.masking_radius=[0.1,0.2,0.4]"], TUNED_M2AE,
         ["backbone.local_radius=[0.1,0.2,0.4]"]),
        (["model.transformer_config.depths=[1,1,2]"], TUNED_M2AE, ["backbone.depths=[1,1,2]"]),
        (["model.adapter_config.adapter_dim=[8,16,4]"], TUNED_M2AE,
         ["peft.adapter_dim=[8,16,4]"]),
        (["model.if_half=True"], TUNED_M2AE, ["peft.output_adapter_dim=8"]),
        (["model.encoder_dims=[6,12,24]", "model.decoder_dims=[24,12]"], M2AE,
         ["backbone.dims=[6, 12, 24]"]),
        (["model.clip_config.visual_encoder=random", "model.clip_config.feat_dim=7"], I2P,
         ["pretraining.teacher=random", "pretraining.teacher_channels=7"]),
        (["dataset.train._base_=cfgs/dataset/ModelNet40.yaml"], {}, ["data.variant=modelnet40"]),
    ],
    ids=str,
)  # fmt: skip
def test_other_values_are_honoured(given, which, expected):
    assert overrides(*given, **which) == expected


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ("pre-training/point-mae", "NAME=ShapeNet N_POINTS=8192"
         " PC_PATH=data/ShapeNet55-34/shapenet_pc DATA_PATH=data/ShapeNet55-34/ShapeNet-55"),
        ("fine-tuning/scan_pb", "NAME=ScanObjectNN SPLIT=PB N_POINTS=2048"
         " ROOT=data/ScanObjectNN/main_split"),
        ("fine-tuning/modelnet40", "NAME=ModelNet N_POINTS=8192 NUM_CATEGORY=40 USE_NORMALS=FALSE"
         " DATA_PATH=data/ModelNet/modelnet40_normal_resampled"),
    ],
)  # fmt: skip
def test_what_published_files_of_data_sets_state_is_accepted(config, facts):
    kind = KIND_OF_FOLDER.get(config.partition("/")[0], FinetuneConfig)
    found = translate(facts.split(), load_config(kind, [CONFIGS / f"{config}.yaml"]))
    assert found.overrides == []


def test_patches_as_wide_as_tokens():
    given = ("model.trans_dim=24", "model.encoder_dims=12")
    with pytest.raises(ConfigError, match="encoder_dims"):
        overrides(*given)
    assert overrides(*given, model="point_bert") == ["backbone.dim=24", "backbone.embed_dim=12"]


@pytest.mark.parametrize(
    ("given", "which"),
    [
        ("model.decoder_dims=[384,96]", M2AE),
        ("model.transformer_config.trans_dim=[384,96]", TUNED_M2AE),
        ("model.clip_config.feat_dim=768", I2P),
        ("model.adapter_config.adapter_drop_path_rate=0.2", TUNED_M2AE),
        ("model.prompt.NUM_TOKENS=10", TUNED_M2AE),
        ("model.NAME=Point_BERT", {}),
        ("model.if_half=maybe", TUNED_M2AE),
        ("temp.start=2", {"kind": PretrainConfig, "model": "point_bert_dvae"}),
        ("dataset.val._base_=cfgs/dataset/ModelNet40.yaml", {}),
        ("SPLIT=PB", {}),
        ("USE_NORMALS=TRUE", {}),
    ],
    ids=str,
)
def test_values_that_cannot_be_had_are_refused_by_name(given, which):
    with pytest.raises(ConfigError, match=re.escape(given.partition("=")[0])):
        overrides(given, **which)
