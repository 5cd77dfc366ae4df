"""The tensors of an epoch are taken over as they are, or not at all."""

import pytest
import torch

import pointpeft as pp
from pointpeft.data.transforms import recipe
from pointpeft.errors import CheckpointError
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.training.config import OptimizerConfig
from pointpeft.training.optimizer import Schedule
from tests.models.tiny import tiny


@pytest.fixture
def task():
    model = pp.get_peft_model(tiny("classification"), pp.LinearConfig())
    return ClassificationModule(model, Schedule.of(OptimizerConfig(lr=1e-3), 1), recipe("none", 64))


@pytest.fixture
def content(task):
    checkpoint = {"epoch": 3}
    task.on_save_checkpoint(checkpoint)
    return checkpoint


def test_the_best_epoch_is_loaded_and_named(task, content, tmp_path):
    name, tensor = next(iter(content["state_dict"].items()))
    content["state_dict"][name] = tensor + 1
    torch.save(content, tmp_path / "best.ckpt")
    assert task.load_best(tmp_path / "best.ckpt") == 3
    own = task.model.adapter.state_dict()[name.removeprefix("model.")]
    assert torch.equal(own, content["state_dict"][name])


def test_a_run_of_another_model_is_not_resumed(task, content):
    """Lightning would leave out what does not fit, such as layers under names of a version ago."""
    task.on_load_checkpoint(content)
    content["state_dict"]["model.renamed"] = content["state_dict"].popitem()[1]
    with pytest.raises(CheckpointError, match="resume"):
        task.on_load_checkpoint(content)


@pytest.mark.parametrize("change", ["missing", "surplus"])
def test_a_checkpoint_of_another_model_is_refused(task, content, tmp_path, change):
    state = content["state_dict"]
    name = next(iter(state))
    tensor = state.pop(name) if change == "missing" else state[name]
    if change == "surplus":
        name = "model.model.another"
        state[name] = tensor
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(
        CheckpointError, match=rf"best\.ckpt.*{change}: {name.removeprefix('model.')}"
    ):
        task.load_best(tmp_path / "best.ckpt")
