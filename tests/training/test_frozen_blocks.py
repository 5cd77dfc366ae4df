"""What no training of an adapter changes is computed once for clouds that come again."""

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.data import PartTable
from pointpeft.data.transforms import recipe
from pointpeft.peft.hugging_face import LoRAConfig
from pointpeft.tasks import tuning_module
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.tasks.part_segmentation import SegmentationModule
from pointpeft.training.config import OptimizerConfig
from pointpeft.training.optimizer import Schedule
from tests.models.tiny import tiny

PARTS = PartTable(tuple("abcde"), {"x": (0, 1, 2), "y": (3, 4)})
LATE = {"r": 2, "target_modules": r"blocks\.[23]\.attn\.qkv"}


def bank_method():
    trunk = tiny("features").eval()
    config = pp.PointPeftConfig(num_prompts=5, adapter_dim=4, bank_adapter_dim=3, attention_dim=6)
    bank = pp.MemoryBank.build(trunk, [torch.randn(8, 64, 3)])
    return pp.get_peft_model(pp.build_classifier(trunk, 4), config, bank)


def network(task, name):
    sizes = {"depths": (1, 1, 2)} if name == "point_m2ae" else {"depth": 4}
    if task == "part_segmentation":
        sizes |= {"num_parts": len(PARTS.names)}
    return tiny(task, name, **sizes)


def module_of(model, augmentation="none"):
    schedule, steps = Schedule.of(OptimizerConfig(lr=1e-3), 1), recipe(augmentation, 64)
    if model.base.task == "classification":
        module = ClassificationModule(model, schedule, steps)
    else:
        module = SegmentationModule(model, schedule, steps, PARTS)
    module.log_training = module.log_means = lambda values, of: None
    return module


def stag(**settings):
    return pp.STAGConfig(width=6, num_neighbors=3, **settings)


@pytest.mark.parametrize("method", ["linear", "point-peft", "stag"])
@pytest.mark.parametrize("augmentation", ["none", "scale-shift"])
def test_what_cannot_change_is_computed_once_with_equal_results(method, augmentation):
    torch.manual_seed(0)
    config = stag(run_length=2, first_block=3) if method == "stag" else pp.LinearConfig()
    model = (
        bank_method()
        if method == "point-peft"
        else pp.get_peft_model(network("classification", "point_mae"), config)
    )
    module = module_of(model, augmentation).eval()
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


def train(task, name, config, caches):
    """Losses and logits of steps on clouds that come again, and clouds that went through blocks."""
    torch.manual_seed(0)
    model = pp.get_peft_model(network(task, name).double(), config)
    module = module_of(model).train()
    if not caches:
        module.constants = lambda split, points, index: {"points": points}
    seen = [0] * 4
    for place, block in enumerate(model.model.backbone.blocks):

        def count(block, given, place=place):
            seen[place] += len(given[0])

        block.register_forward_pre_hook(count)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
    points, losses = torch.randn(6, 64, 3, dtype=torch.float64), []
    parts = task == "part_segmentation"
    labels, seg = torch.arange(6) % (2 if parts else 4), torch.randint(5, (6, 64))
    for rows in ([0, 1, 2], [3, 4, 5], [5, 1, 3], [0, 2, 4]):
        index = torch.tensor(rows)
        batch = {"points": points[index], "label": labels[index], "seg": seg[index], "index": index}
        torch.manual_seed(7)
        losses.append(module.training_step(batch, 0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    with torch.no_grad():
        known = module.constants("train", points, torch.arange(6))
        logits = model.eval()(**known, **({"category": labels} if parts else {}))
    return torch.stack(losses).detach(), logits, seen


BOTH = ("classification", "part_segmentation")
ONE_SCALE = ("point_mae", "point_bert")
CASES = [
    *((task, name, pp.LinearConfig(), 4) for task in BOTH for name in (*ONE_SCALE, "point_m2ae")),
    *(("classification", name, pp.LinearConfig(head="lda"), 4) for name in ONE_SCALE),
    ("classification", "point_mae", stag(first_block=2, head="lda"), 3),
    *(
        (task, name, stag(**settings), 1 + settings.get("first_block", 2))
        for task in BOTH
        for name in ONE_SCALE
        for settings in (
            {},
            {"first_block": 0},
            {"first_block": 3},
            {"run_length": 2, "first_block": 2},
            {"run_length": 2, "first_block": 3},
        )
    ),
    # A class token is trained, and seen by all blocks, but where there is none.
    ("classification", "point_mae", pp.IDPTConfig(num_layers=1), 0),
    ("classification", "point_m2ae", pp.IDPTConfig(num_layers=1), 3),
    ("classification", "point_m2ae", pp.IDPTConfig(num_layers=1, head="lda"), 3),
    ("part_segmentation", "point_mae", pp.IDPTConfig(num_layers=1), 3),
    ("part_segmentation", "point_bert", pp.IDPTConfig(num_layers=1), 0),
    ("part_segmentation", "point_m2ae", pp.IDPTConfig(num_layers=1), 3),
    ("classification", "point_mae", LoRAConfig(LATE), 0),
    ("classification", "point_m2ae", LoRAConfig(LATE), 2),
    ("part_segmentation", "point_mae", LoRAConfig(LATE), 2),
    ("part_segmentation", "point_mae", pp.BitFitConfig(), 0),
]


@pytest.mark.parametrize(("task", "name", "config", "frozen"), CASES)
def test_frozen_blocks_run_once_for_a_cloud(task, name, config, frozen):
    losses, logits, seen = train(task, name, config, caches=True)
    plain_losses, plain_logits, plainly = train(task, name, config, caches=False)
    torch.testing.assert_close(losses, plain_losses)
    torch.testing.assert_close(logits, plain_logits)
    assert seen == [6] * frozen + [18] * (4 - frozen)
    assert plainly == [18] * 4
    assert not torch.allclose(losses[0], losses[-1])


def test_nothing_is_kept_of_blocks_that_are_not_at_rest():
    points, moving = torch.randn(2, 64, 3), stag(reference_compat=True)
    for task in BOTH:
        model = pp.get_peft_model(network(task, "point_mae"), moving)
        assert model.tuner.constants(model.model, points) == {}


def test_what_is_kept_is_bounded(monkeypatch):
    model = pp.get_peft_model(network("classification", "point_mae"), stag())
    module = module_of(model).eval()
    points = torch.randn(3, 64, 3)
    monkeypatch.setattr(tuning_module, "MOST_CONSTANT_BYTES", 1)
    for _ in range(2):
        found = model(**module.constants("val", points, torch.arange(3)))
        torch.testing.assert_close(found, model(points))
    assert set(module._constants["val"]) == {0}


def test_a_cloud_that_fills_a_batch_up_is_not_remembered():
    model = pp.get_peft_model(tiny("classification"), pp.LinearConfig())
    module = module_of(model).eval()
    points = torch.randn(3, 64, 3)
    for index in (torch.tensor([0, 1, -1]), torch.tensor([0, 1, -1])):
        found = module.constants("val", points, index)["features"]
        torch.testing.assert_close(found, model.model.forward_features(points, model.tuner))
    assert set(module._constants["val"]) == {0, 1}
