"""The tensors of an epoch are taken over as they are, or not at all."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.data import InputTransform, ShapeData, ShapeSplit
from pointpeft.data.transforms import recipe
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.tasks import tuning_module
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


def bank_method():
    trunk = tiny("features").eval()
    config = pp.PointPeftConfig(num_prompts=5, adapter_dim=4, bank_adapter_dim=3, attention_dim=6)
    bank = pp.MemoryBank.build(trunk, [torch.randn(8, 64, 3)])
    return pp.get_peft_model(pp.build_classifier(trunk, 4), config, bank)


STAG = {
    "stag": pp.STAGConfig(width=6, num_neighbors=3),
    "stag, from block 2": pp.STAGConfig(width=6, num_neighbors=3, first_block=2),
    "stag, from block 0": pp.STAGConfig(width=6, num_neighbors=3, first_block=0),
    "stag, in runs": pp.STAGConfig(width=6, num_neighbors=3, run_length=2, first_block=3),
    "stag, at a run": pp.STAGConfig(width=6, num_neighbors=3, run_length=2, first_block=2),
}


@pytest.mark.parametrize("method", ["linear", "point-peft", "stag, in runs"])
@pytest.mark.parametrize("augmentation", ["none", "scale-shift"])
def test_what_cannot_change_is_computed_once_with_equal_results(method, augmentation):
    torch.manual_seed(0)
    model = bank_method() if method == "point-peft" else None
    config = STAG.get(method, pp.LinearConfig())
    model = model or pp.get_peft_model(tiny("classification", depth=4), config)
    schedule = Schedule.of(OptimizerConfig(lr=1e-3), 1)
    module = ClassificationModule(model, schedule, recipe(augmentation, 64)).eval()
    module.log_training = module.log_means = lambda values, of: None
    calls = []
    compute = model.tuner.constants
    model.tuner.constants = lambda *given: calls.append(given) or compute(*given)
    points, labels = torch.randn(6, 64, 3), torch.arange(6) % 4
    loss = []
    for rows in ([0, 1, 2], [3, 4, 5], [5, 1, 3], [0, 2, 4]):
        index = torch.tensor(rows)
        batch = {"points": points[index], "label": labels[index], "index": index}
        with torch.no_grad():
            torch.manual_seed(7)
            loss.append(module.training_step(batch, 0))
            torch.manual_seed(7)
            plain = model(module.augmentation(batch["points"]), exclude=index)
        torch.testing.assert_close(loss[-1], F.cross_entropy(plain, batch["label"]))
    assert len(calls) == (2 if augmentation == "none" else 0)
    for _ in range(2):
        with torch.no_grad():
            module.validation_step(batch, 0)
    assert len(calls) == (3 if augmentation == "none" else 1)


def train_stag(name, config, caches):
    """Losses and logits of steps on clouds that come again, and clouds that went through blocks."""
    torch.manual_seed(0)
    model = pp.get_peft_model(tiny("classification", name, depth=4).double(), config)
    schedule = Schedule.of(OptimizerConfig(lr=1e-3), 1)
    module = ClassificationModule(model, schedule, recipe("none", 64)).train()
    module.log_training = lambda values, of: None
    if not caches:
        module.constants = lambda split, points, index: {"points": points}
    seen = [0] * 4
    for place, block in enumerate(model.model.backbone.blocks):

        def count(block, given, place=place):
            seen[place] += len(given[0])

        block.register_forward_pre_hook(count)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
    points, losses = torch.randn(6, 64, 3, dtype=torch.float64), []
    for rows in ([0, 1, 2], [3, 4, 5], [5, 1, 3], [0, 2, 4]):
        index = torch.tensor(rows)
        batch = {"points": points[index], "label": index % 4, "index": index}
        torch.manual_seed(7)
        losses.append(module.training_step(batch, 0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    with torch.no_grad():
        logits = model.eval()(**module.constants("train", points, torch.arange(6)))
    return torch.stack(losses).detach(), logits, seen


@pytest.mark.parametrize("name", ["point_mae", "point_bert"])
@pytest.mark.parametrize("method", STAG)
def test_frozen_blocks_beside_a_side_network_run_once_for_a_cloud(name, method):
    config = STAG[method]
    losses, logits, seen = train_stag(name, config, caches=True)
    plain_losses, plain_logits, plainly = train_stag(name, config, caches=False)
    torch.testing.assert_close(losses, plain_losses)
    torch.testing.assert_close(logits, plain_logits)
    first = 2 if config.first_block is None else config.first_block
    assert seen == [6] * (first + 1) + [18] * (3 - first)
    assert plainly == [18] * 4
    assert not torch.allclose(losses[0], losses[-1])


def test_nothing_is_kept_of_blocks_that_are_not_at_rest_or_lead_elsewhere():
    points = torch.randn(2, 64, 3)
    moving = pp.STAGConfig(width=6, num_neighbors=3, reference_compat=True)
    for task, config in (
        ("classification", moving),
        ("part_segmentation", pp.STAGConfig()),
    ):
        model = pp.get_peft_model(tiny(task, depth=4), config)
        assert model.tuner.constants(model.model, points) == {}


def test_what_is_kept_is_bounded(monkeypatch):
    model = pp.get_peft_model(tiny("classification", depth=4), STAG["stag"])
    module = ClassificationModule(
        model, Schedule.of(OptimizerConfig(lr=1e-3), 1), recipe("none", 64)
    ).eval()
    points = torch.randn(3, 64, 3)
    monkeypatch.setattr(tuning_module, "MOST_CONSTANT_BYTES", 1)
    for _ in range(2):
        found = model(**module.constants("val", points, torch.arange(3)))
        torch.testing.assert_close(found, model(points))
    assert set(module._constants["val"]) == {0}


def test_a_cloud_that_fills_a_batch_up_is_not_remembered():
    model = pp.get_peft_model(tiny("classification"), pp.LinearConfig())
    module = ClassificationModule(
        model, Schedule.of(OptimizerConfig(lr=1e-3), 1), recipe("none", 64)
    ).eval()
    points = torch.randn(3, 64, 3)
    for index in (torch.tensor([0, 1, -1]), torch.tensor([0, 1, -1])):
        found = module.constants("val", points, index)["features"]
        torch.testing.assert_close(found, model.model.forward_features(points, model.tuner))
    assert set(module._constants["val"]) == {0, 1}
