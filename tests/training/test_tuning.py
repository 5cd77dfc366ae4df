"""The tensors of an epoch are taken over as they are, or not at all."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.data import InputTransform, ShapeData, ShapeSplit
from pointpeft.data.transforms import recipe
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.tasks.classification import UNEQUAL, ClassificationModule, balanced_weights
from pointpeft.training.config import OptimizerConfig
from pointpeft.training.optimizer import Schedule
from pointpeft.training.resolved import ResolvedRun
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


def test_balanced_weights_make_the_mean_over_items_that_over_classes():
    labels, correct = np.array([0, 0, 0, 0, 2, 2]), torch.tensor([1.0, 1, 1, 0, 0, 1])
    weights = balanced_weights(labels, 4)
    assert weights[1] == weights[3] == 0
    assert (weights[labels] * correct).mean() == pytest.approx((0.75 + 0.5) / 2)


def test_weights_enter_loss_and_score():
    model = pp.get_peft_model(tiny("classification"), pp.LinearConfig())
    weights = (torch.tensor([1.0, 2, 3, 4]), torch.tensor([4.0, 3, 2, 1]))
    plain, weighted = (
        ClassificationModule(
            model, Schedule.of(OptimizerConfig(lr=1e-3), 1), recipe("none", 64), 0.0, "val", given
        ).eval()
        for given in ((None, None), weights)
    )
    seen = {}
    for module in (plain, weighted):
        module.log_training = lambda values, items: None
        module.log_means = lambda values, index, module=module: seen.update({module: values})
    batch = {
        "points": torch.randn(4, 64, 3), "label": torch.tensor([0, 1, 2, 3]),
        "index": torch.arange(4),
    }  # fmt: skip
    with torch.no_grad():
        logits = model.eval()(batch["points"])
        expected = F.cross_entropy(logits, batch["label"], weights[0])
        assert weighted.training_step(batch, 0).item() == pytest.approx(expected.item())
        assert plain.training_step(batch, 0).item() != pytest.approx(expected.item())
        for module in (plain, weighted):
            module.validation_step(batch, 0)
    torch.testing.assert_close(seen[weighted]["score"], weights[1] * seen[plain]["score"])


@pytest.mark.parametrize(
    "settings",
    [
        {"class_weights": "all"},
        {"class_weights": "balanced", "task": "part_segmentation"},
        {"class_weights": "balanced", "protocol": "published"},
    ],
)
def test_class_weights_have_their_place(settings):
    with pytest.raises(ConfigError, match="class_weights"):
        pp.FinetuneConfig(**settings)


@pytest.mark.parametrize("method", ["svm", "knn", "lda"])
def test_class_weights_are_a_setting_of_methods_that_are_fitted(method):
    balanced = ResolvedRun.of(pp.FinetuneConfig(method=method, class_weights="balanced")).method
    assert balanced.balanced
    assert not ResolvedRun.of(pp.FinetuneConfig(method=method)).method.balanced
    assert type(balanced).from_dict(balanced.to_dict()) == balanced


@pytest.mark.parametrize(
    ("most", "protocol", "alike"),
    [(UNEQUAL, "honest", False), (UNEQUAL + 1, "honest", True), (99, "published", False)],
)
def test_of_very_unequal_classes_the_epoch_is_chosen_by_balanced_accuracy(most, protocol, alike):
    def split(counts):
        labels = np.repeat(np.arange(4), counts)
        return ShapeSplit(np.zeros((len(labels), 4, 3), np.float32), labels, (None,) * len(labels))

    train, val, none = split([most, 1, 1, 1]), split([3, 1, 1, 1]), split([0] * 4)
    transform = InputTransform(num_points=4)
    data = ShapeData(tuple("abcd"), train, val, none, none, transform, None, (), ())
    run = ResolvedRun.of(pp.FinetuneConfig(method="linear", protocol=protocol))
    model = pp.get_peft_model(tiny("classification"), pp.LinearConfig())
    module = run.task.module(model, run.config, run.schedule, recipe("none", 4), data)
    assert module.class_weights is None
    expected = balanced_weights(val.labels, 4) if alike else None
    assert (module.validation_weights is None) == (expected is None)
    if alike:
        assert torch.equal(module.validation_weights, expected)
