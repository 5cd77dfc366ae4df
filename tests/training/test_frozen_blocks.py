"""What no training of an adapter changes is computed once for clouds that come again."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.data import PartTable
from pointpeft.data.benchmarks.benchmark import RaggedSplit
from pointpeft.data.transforms import recipe
from pointpeft.peft import registry
from pointpeft.peft.hugging_face import LoRAConfig
from pointpeft.peft.method import Tuner
from pointpeft.tasks import tuning_module
from pointpeft.tasks.classification import ClassificationModule
from pointpeft.tasks.part_segmentation import SegmentationModule
from pointpeft.training.config import OptimizerConfig
from pointpeft.training.loaders import ShapeDataModule
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
        module.constants = lambda split, points, batch: {"points": points}
    seen = [0] * 4
    for place, block in enumerate(model.model.backbone.blocks):

        def count(block, given, place=place):
            seen[place] += len(given[0])

        block.register_forward_pre_hook(count)
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.SGD(trained, lr=0.02)
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
    assert any(not torch.equal(p, old) for p, old in zip(trained, before, strict=True))
    with torch.no_grad():
        known = module.constants("train", points, {"index": torch.arange(6)})
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


class Watching(Tuner):
    """Of one's own: leaves two blocks as they are, and has a side network that looks at them."""

    def __init__(self, model, config):
        super().__init__(model, config)
        self.side = torch.nn.Linear(model.backbone.num_features, model.backbone.num_features)

    def trains(self, name):
        return name.startswith(("tuner.", "model.head."))

    def frozen_blocks(self, model):
        return 2

    def context(self, found, query, exclude):
        return {"mean": found.points.mean(dim=1)}

    def block(self, place, block, stream):
        stream = super().block(place, block, stream)
        side = self.side(stream.patches).mean(dim=1, keepdim=True)
        side = side + stream.geometry.context["mean"].sum(dim=1)[:, None, None]
        side = side if stream.state is None else side + stream.state
        stream = stream.with_state(side)
        return stream if place < 2 else stream.with_tokens(stream.tokens + side)


class Calling(Watching):
    """The same, but it calls blocks by itself, so nothing is spared."""

    def block(self, place, block, stream):
        tokens = block(stream.tokens + stream.positions, stream.geometry)
        return stream.with_tokens(tokens if place < 2 else tokens + self.side(tokens))


@dataclass(frozen=True)
class WatchingConfig(pp.PeftConfig):
    method = "watching"


@dataclass(frozen=True)
class CallingConfig(pp.PeftConfig):
    method = "calling"


@pytest.mark.parametrize(
    ("config", "tuner", "frozen"), [(WatchingConfig, Watching, 2), (CallingConfig, Calling, 0)]
)
@pytest.mark.parametrize("task", BOTH)
def test_a_method_of_ones_own_has_equal_results(task, config, tuner, frozen, monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    registry.register_method(config, tuner)
    losses, logits, seen = train(task, "point_mae", config(), caches=True)
    plain_losses, plain_logits, _ = train(task, "point_mae", config(), caches=False)
    torch.testing.assert_close(losses, plain_losses)
    torch.testing.assert_close(logits, plain_logits)
    assert seen[2:] == [18, 18]
    assert min(seen) == (6 if frozen else 18)


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
        found = model(**module.constants("val", points, {"index": torch.arange(3)}))
        torch.testing.assert_close(found, model(points))
    assert set(module._constants["val"]) == {0}


def test_what_is_beyond_the_bound_is_computed_and_the_rest_is_not(monkeypatch):
    model = pp.get_peft_model(network("classification", "point_mae"), stag())
    module, points = module_of(model).eval(), torch.randn(4, 64, 3)
    of_cloud = model.tuner.constants(model.model, points[:1])["points"].nbytes
    monkeypatch.setattr(tuning_module, "MOST_CONSTANT_BYTES", 2 * of_cloud / 0.75)
    compute, calls = model.tuner.constants, []
    model.tuner.constants = lambda of, given: calls.append(len(given)) or compute(of, given)
    for rows in ([0, 1, 2, 3], [3, 1, 2, 0]):
        index = torch.tensor(rows)
        found = model(**module.constants("train", points[index], {"index": index}))
        torch.testing.assert_close(found, model(points[index]))
    assert calls == [4, 2]
    model(**module.constants("val", points, {"index": torch.arange(4)}))
    assert module._constants["val"].keys() == {0}


def test_what_is_known_has_the_precision_of_the_network():
    model = pp.get_peft_model(network("classification", "point_mae"), pp.LinearConfig())
    model, points = model.bfloat16().eval(), torch.randn(2, 64, 3).bfloat16()
    known = model.tuner.constants(model.model, points)
    assert known["features"].dtype == torch.bfloat16
    assert torch.equal(model(points, **known), model(points))


def test_a_cloud_that_fills_a_batch_up_is_not_remembered():
    model = pp.get_peft_model(tiny("classification"), pp.LinearConfig())
    module = module_of(model).eval()
    points = torch.randn(3, 64, 3)
    for index in (torch.tensor([0, 1, -1]), torch.tensor([0, 1, -1])):
        found = module.constants("val", points, {"index": index})["features"]
        torch.testing.assert_close(found, model.model.forward_features(points, model.tuner))
    assert set(module._constants["val"]) == {0, 1}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("config", [pp.LinearConfig(), stag()])
def test_clouds_that_are_drawn_anew_are_seen_anew(config, split):
    """As those of different sizes are in every epoch under the published protocol."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    clouds = tuple(rng.normal(size=(90 + i, 3)).astype(np.float32) for i in range(3))
    parts = tuple(rng.integers(5, size=len(cloud)) for cloud in clouds)
    labels, empty = np.array([0, 1, 0]), np.empty((3, 64, 3), np.float32)
    held = RaggedSplit(empty, labels, tuple("abc"), clouds=clouds, parts=parts).redrawn(0)
    model = pp.get_peft_model(network("part_segmentation", "point_mae"), config)
    module = module_of(model).eval()
    data = ShapeDataModule(held, held, 64, batch_size=3)
    for epoch in range(3):
        loader = data.train_dataloader() if split == "train" else data.val_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            assert (batch["index"] >= 0).all()  # they count
            points, category = batch["points"], batch["label"]
            with torch.no_grad():
                known = module.constants(split, points, batch)
                found = module.model(**known, category=category)
                torch.testing.assert_close(found, module.model(points, category=category))
