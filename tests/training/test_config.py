"""Settings come from defaults, files and overrides, and nothing unknown slips through."""

import pytest

from pointpeft.errors import ConfigError
from pointpeft.training import FinetuneConfig, PretrainConfig, load_config
from pointpeft.training.config_files import save_config


@pytest.fixture
def write(tmp_path):
    def write(text, name="settings.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("kind", [FinetuneConfig, PretrainConfig])
def test_defaults_are_those_of_the_class(kind):
    assert load_config(kind) == kind()


def test_later_sources_win(write):
    first = write("seed: 1\noptimizer: {lr: 0.1, warmup: 0.2}\n", "first.yaml")
    second = write("optimizer: {lr: 0.2}\n", "second.yaml")
    config = load_config(FinetuneConfig, [first, second], ["seed=3", "seed=4"])
    assert config.seed == 4
    assert (config.optimizer.lr, config.optimizer.warmup) == (0.2, 0.2)
    assert config.optimizer.weight_decay == FinetuneConfig().optimizer.weight_decay


def test_overrides_are_typed():
    config = load_config(
        FinetuneConfig,
        [],
        [
            "optimizer.lr=1e-3",
            "trainer.patience=5",
            "optimizer.grad_clip=null",
            "backbone.patch_widths=[8,12,16]",
            "peft.use_bank=false",
            "method=linear",
        ],
    )
    assert config.optimizer.lr == 1e-3
    assert config.trainer.patience == 5
    assert config.optimizer.grad_clip is None
    assert config.backbone == {"patch_widths": [8, 12, 16]}
    assert config.peft == {"use_bank": False}


def test_value_may_hold_an_equals_sign():
    assert load_config(FinetuneConfig, [], ["data.source=a=b"]).data.source == "a=b"


@pytest.mark.parametrize("kind", [FinetuneConfig, PretrainConfig])
def test_saved_settings_give_the_same_settings(kind, tmp_path):
    overrides = ["optimizer.lr=1e-3", "backbone.patch_widths=[8,12,16]", "checkpoint=a.pth"]
    config = load_config(kind, [], overrides)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(kind, [tmp_path / "config.yaml"]) == config


@pytest.mark.parametrize(
    "text", ["/data/${a}", "${", "C:\\${x}", "\\\\${x}\\", "${oc.env:HOME}", "a\\b", "$${a}"]
)
def test_text_that_looks_like_a_reference_stays_text(text, tmp_path):
    """Wherever it stands: paths may hold anything."""
    given = {"data.source": text, "checkpoint": text, "peft": {"query": [text, {"deep": text}]}}
    config = load_config(FinetuneConfig, values=given)
    assert config.data.source == config.checkpoint == text
    assert config.peft == given["peft"]
    save_config(config, tmp_path / "config.yaml")
    assert load_config(FinetuneConfig, [tmp_path / "config.yaml"]) == config


def test_a_reference_to_nothing_names_the_setting(write):
    file = write("data: {source: '/data/${nothing}'}")
    for files, overrides in (([file], []), ([], ["data.source=/data/${nothing}"])):
        with pytest.raises(ConfigError, match=r"data\.source"):
            load_config(FinetuneConfig, files, overrides)


@pytest.mark.parametrize(
    ("override", "proposed"),
    [
        ("sede=1", "'seed'"),
        ("metod=linear", "'method'"),
        ("optimizer.lrr=1", "'optimizer.lr'"),
        ("trainer.epoch=1", "'trainer.epochs'"),
        ("data.num_point=1", "'data.num_points'"),
        ("epochs=3", "'trainer.epochs'"),
    ],
)
def test_unknown_key_proposes_the_nearest(write, override, proposed):
    key, value = override.split("=")
    with pytest.raises(ConfigError, match=proposed):
        load_config(FinetuneConfig, [], [override])
    text = f"{key}: {value}"
    for level in reversed(key.split(".")[:-1]):
        text = f"{level}: {{{key.split('.')[-1]}: {value}}}"
    path = write(text)
    with pytest.raises(ConfigError, match=proposed) as error:
        load_config(FinetuneConfig, [path])
    assert str(path) in str(error.value)


def test_unknown_key_says_where_valid_ones_are_listed():
    with pytest.raises(ConfigError, match="`FinetuneConfig`"):
        load_config(FinetuneConfig, [], ["optimizer.xyzzy=1"])


@pytest.mark.parametrize(
    "override", ["optimizer.lr=fast", "trainer.epochs=2.5", "seed=[1]", "backbone=3", "data=x"]
)
def test_wrong_type_names_the_key(override):
    key = override.split("=")[0]
    with pytest.raises(ConfigError) as error:
        load_config(FinetuneConfig, [], [override])
    assert key in str(error.value)


@pytest.mark.parametrize("override", ["seed", "", "optimizer.lr"])
def test_override_without_equals_sign(override):
    with pytest.raises(ConfigError, match="key=value"):
        load_config(FinetuneConfig, [], [override])


def test_override_with_broken_value():
    with pytest.raises(ConfigError, match="patch_widths"):
        load_config(FinetuneConfig, [], ["backbone.patch_widths=[8,12"])


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(FinetuneConfig, [tmp_path / "none.yaml"])


@pytest.mark.parametrize("text", ["a: [1\nb", "a: b: c", "\tseed: 1"])
def test_broken_yaml(write, text):
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load_config(FinetuneConfig, [write(text)])


def test_list_is_no_mapping(write):
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load_config(FinetuneConfig, [write("- a\n- b\n")])


def test_empty_file_changes_nothing(write):
    assert load_config(FinetuneConfig, [write("")]) == FinetuneConfig()


@pytest.mark.parametrize("kind", [FinetuneConfig, PretrainConfig])
def test_scans_in_another_unit_than_what_is_tested_are_refused(kind):
    load_config(kind, [], ["data.augmentation=scan"])
    with pytest.raises(ConfigError, match=r"data\.normalize"):
        load_config(kind, [], ["data.augmentation=scan", "data.normalize=none"])
