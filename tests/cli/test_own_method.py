"""A tuning method of the user's own, in a module of theirs, from the command line."""

import json
import sys

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.peft import find_method
from tests.cli.conftest import run
from tests.models.tiny import clouds
from tests.peft.support import classifier, encoder
from tests.training.support import TINY

MODULE = '''
from dataclasses import dataclass

import torch
from torch import nn

import pointpeft as pp


@dataclass(frozen=True)
class ScaleConfig(pp.PeftConfig):
    """Learn a factor for every channel behind every block."""

    method = "channel-scale"
    learning_rate = 5e-3
    start: float = 1.0


class ScaleTuner(pp.Tuner):
    def __init__(self, model, config):
        super().__init__(model, config)
        dims = [scale.dim for scale in model.backbone.scales for _ in scale.blocks]
        self.factors = nn.ParameterList(torch.full((dim,), config.start) for dim in dims)

    def block(self, place, block, stream):
        stream = super().block(place, block, stream)
        return stream.with_tokens(stream.tokens * self.factors[place])

    def trains(self, name):
        return name.startswith(("tuner.factors.", "model.head."))


pp.register_method(ScaleConfig, ScaleTuner)


@dataclass(frozen=True)
class Unregistered(pp.PeftConfig):
    method = "nobody-knows"
'''
METHOD = "my_methods.scaling:ScaleConfig"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with a package in it, unknown before and after."""
    (tmp_path / "my_methods").mkdir()
    (tmp_path / "my_methods/__init__.py").write_text("")
    (tmp_path / "my_methods/scaling.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    methods = dict(pp.peft.registry._METHODS)
    yield tmp_path
    forget()
    pp.peft.registry._METHODS.update(methods)


def forget():
    """As in a new process."""
    for name in [name for name in sys.modules if name.startswith("my_methods")]:
        del sys.modules[name]
    pp.peft.registry._METHODS.pop("channel-scale", None)


def test_a_method_of_ones_own_is_trained_resumed_measured_and_applied(
    project, archive, weights, meshes
):
    given = ["--data", archive, "--checkpoint", weights, "--method", METHOD, *TINY]
    result = run("finetune", *given, "--epochs", 1, "--output", "run", "peft.start=0.5")
    assert result.code == 0, result.err
    forget()
    result = run("finetune", "--output", "run", "--resume", "--epochs", 2)
    assert result.code == 0, result.err
    metrics = json.loads((project / "run/metrics.json").read_text())
    assert metrics["method"] == "channel-scale"
    assert metrics["trainable_parameters_without_head"] == 2 * 24  # two blocks of 24 channels
    file = meshes / "box/box_00.off"
    forget()
    refused = run("predict", "--adapter", "run", file)
    assert refused.code == 1
    assert METHOD in refused.err
    assert "--method" in refused.err
    assert "my_methods" not in sys.modules  # a file never has code imported
    assert run("predict", "--adapter", "run", "--method", METHOD, file).code == 0
    forget()
    measured = run(
        "evaluate", "--adapter", "run", "--method", METHOD, "--data", archive, "--output", "out"
    )
    assert measured.code == 0, measured.err
    assert f"test accuracy: {100 * metrics['test_accuracy']:.1f} %" in measured.out


def test_settings_of_ones_own_method_are_checked(project, archive, weights):
    given = ["--data", archive, "--checkpoint", weights, "--method", METHOD, *TINY]
    result = run("finetune", *given, "peft.strat=0.5")
    assert result.code == 1
    assert "'start'" in result.err


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("my_methods.nothing:ScaleConfig", "my_methods.nothing"),
        ("my_methods.scaling:Nothing", "Nothing"),
        ("my_methods.scaling:ScaleTuner", "PeftConfig"),
        ("my_methods.scaling:Unregistered", "register_method"),
        (":ScaleConfig", ":ScaleConfig"),
    ],
)
def test_what_is_no_method_is_refused(project, archive, name, word):
    result = run("finetune", "--data", archive, "--method", name, *TINY)
    assert result.code == 1
    assert "--method" in result.err
    assert word in result.err
    assert "note:" not in result.err  # it is a foreseen error


def test_it_works_in_python_and_its_adapter_is_loaded(project, tmp_path):
    points = clouds(3)
    sys.path.insert(0, str(project))
    kind = find_method(METHOD)
    model = pp.get_peft_model(classifier(), kind(start=0.5)).eval()
    model.save_pretrained(tmp_path / "adapter")
    loaded = pp.load_adapter(encoder(), tmp_path / "adapter")
    assert torch.equal(loaded(points), model(points))
    forget()
    with pytest.raises(CheckpointError, match=METHOD):
        pp.load_adapter(encoder(), tmp_path / "adapter")


def test_names_are_kept_apart(project):
    sys.path.insert(0, str(project))
    kind = find_method(METHOD)
    tuner = pp.peft.registry.tuner_class(kind())
    pp.register_method(kind, tuner)  # as when a cell of a notebook runs again
    for name in ("linear", "", "a:b"):
        other = type("Other", (pp.PeftConfig,), {"method": name})
        with pytest.raises(ConfigError):
            pp.register_method(other, tuner)
    assert pp.peft.config_class("linear") is pp.LinearConfig
