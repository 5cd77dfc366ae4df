"""Configs by name, and a new method: one config, one tuner, one line of registration."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.peft import config_class, list_methods, registry
from pointpeft.peft.method import PeftConfig, Tuner
from pointpeft.peft.registry import register_method
from tests.peft.support import CONFIGS, adapted, classifier, encoder


@dataclass(frozen=True)
class ScaleConfig(PeftConfig):
    method = "scale"

    start: float = 1.0


class ScaleTuner(Tuner):
    def __init__(self, model, config):
        super().__init__(model, config)
        self.factors = nn.Parameter(torch.full((len(model.backbone.blocks),), config.start))

    def block(self, place, block, stream):
        stream = super().block(place, block, stream)
        return stream.with_tokens(self.factors[place] * stream.tokens)

    def trains(self, name):
        return name == "tuner.factors" or name.startswith("model.head.")


@pytest.fixture
def scale(monkeypatch):
    """The method above, known for the duration of one test."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    register_method(ScaleConfig, ScaleTuner)


@pytest.mark.usefixtures("scale")
def test_a_new_method_works_from_registration_to_loading(points, tmp_path):
    assert "scale" in list_methods()
    plain = classifier().eval()
    expected = plain(points)
    model = pp.get_peft_model(plain, ScaleConfig())
    torch.testing.assert_close(model(points), expected)

    head = sum(p.numel() for p in model.model.head.parameters())
    assert model.count_parameters()["trainable"] == head + 3
    with torch.no_grad():
        model.tuner.factors[1] = 0.5
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert loaded.config == ScaleConfig()
    assert torch.equal(loaded(points), model.eval()(points))
    assert not torch.allclose(loaded(points), expected)


@pytest.mark.usefixtures("scale")
def test_a_name_can_be_taken_once():
    @dataclass(frozen=True)
    class Other(PeftConfig):
        method = ScaleConfig.method

    with pytest.raises(ConfigError, match="'scale'"):
        register_method(Other, ScaleTuner)
    with pytest.raises(ConfigError, match="''"):
        register_method(PeftConfig, ScaleTuner)
    register_method(ScaleConfig, ScaleTuner)  # the very same, as when a notebook runs again


def test_a_method_is_forgotten_after_its_test():
    assert "scale" not in list_methods()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_settings_come_back_from_plain_values(config):
    settings = config().to_dict()
    assert config_class(settings["method"]).from_dict(settings) == config()


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"pointpeft.*'point-peft'"):
        config_class("pointpeft")
    with pytest.raises(ConfigError, match=r"methods: adapter, .*point-peft"):
        config_class("zzz")


def test_an_unknown_setting_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"adapter_dmi.*'adapter_dim'"):
        pp.PointPeftConfig.from_dict({"adapter_dmi": 3})
    with pytest.raises(ConfigError, match="settings: head"):
        pp.FullConfig.from_dict({"rank": 3})


def test_configs_cannot_be_changed_after_they_were_checked():
    model = adapted(pp.PointPeftConfig(num_prompts=4))
    with pytest.raises(AttributeError):
        model.config.num_prompts = 2


def test_settings_in_the_name_of_a_method_are_shown_their_place():
    with pytest.raises(ConfigError, match=r"peft\.r=4"):
        config_class("lora,r=4,lora_alpha=8")
