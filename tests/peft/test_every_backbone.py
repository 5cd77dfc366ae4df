"""Every method on every backbone and task: what trains, what is stored, what a cloud hangs on."""

from dataclasses import replace
from functools import cache

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models.registry import build_segmenter
from tests.models.tiny import clouds, settle, tiny
from tests.peft.support import BACKBONES, CONFIGS

SEVERAL_SCALES = ("point_m2ae", "i2p_mae")
ONE_SCALE_ONLY = ("stag",)
PARTS = {"names": ["a", "b", "c"], "categories": {"x": [0, 1], "y": [1, 2]}}
METHODS = [name for name in CONFIGS if "published" not in name]
PAIRS = [
    (backbone, method)
    for backbone in BACKBONES
    for method in METHODS
    if backbone not in SEVERAL_SCALES or not method.startswith(ONE_SCALE_ONLY)
]
every_pair = pytest.mark.parametrize(("backbone", "method"), PAIRS)
every_task = pytest.mark.parametrize("task", ["classification", "part_segmentation"])


@cache
def encoder(name):
    """Adapters leave it as it is, so that it may be that of every test."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return settle(tiny("features", name), 1)


@cache
def stranger(name):
    """Of the same sizes, with other weights."""
    with torch.random.fork_rng():
        return settle(tiny("features", name), 2)


@cache
def network(name, task):
    """A model around it."""
    if task == "classification":
        return pp.build_classifier(encoder(name), 4)
    return build_segmenter(encoder(name), 3, 2)


def adapted(backbone, method, task, **changed):
    """A model under a method, one step of training away from its start."""
    torch.manual_seed(0)
    trunk, config = encoder(backbone), replace(CONFIGS[method](), **changed)
    bank = pp.MemoryBank.build(trunk, [clouds(12, seed=5)]) if config.uses_bank else None
    model = pp.get_peft_model(network(backbone, task), config, bank)
    if task == "part_segmentation":
        model.class_names, model.parts = ("x", "y"), PARTS
    before = {name: p.detach().clone() for name, p in model.adapter.named_parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    for _ in range(2):  # behind layers that begin at zero, gradients begin with the second step
        optimizer.zero_grad()
        logits(model.train(), clouds(4)).square().mean().backward()
        optimizer.step()
    return model, before


def logits(model, points):
    if model.task == "part_segmentation":
        return model(points, category=torch.arange(len(points)) % 2)
    return model(points)


@every_task
@every_pair
def test_a_method_on_a_backbone(backbone, method, task, tmp_path):
    model, before = adapted(backbone, method, task)
    for name, parameter in model.adapter.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(parameter, before[name]), name
    moved = [n for n, p in model.adapter.named_parameters() if not torch.equal(p, before[n])]
    assert any("head" not in name for name in moved) or method == "linear"

    check_logits(model, backbone, task, tmp_path)


def check_logits(model, backbone, task, tmp_path):
    """They hang on the cloud alone, in mixed batches too, and come back from a file.

    The file goes with the encoder alone that it was trained on.
    """
    points = clouds(2, seed=3)
    with torch.no_grad():
        found = logits(model.eval(), points)
        assert found.isfinite().all()
        category, given = None, [{}, {}]
        if task == "part_segmentation":
            category = torch.arange(len(points)) % 2
            given = [{"category": number} for number in category.split(1)]
        each = zip(points.split(1), given, strict=True)
        alone = torch.cat([model(cloud, **known) for cloud, known in each])
        model.add_adapter("other", pp.LinearConfig(head=model.config.head))
        mixed, _ = model.forward_mixed(points, ["default", "other"], category)
        torch.testing.assert_close(mixed, found[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone, found, rtol=1e-4, atol=1e-5)

        model.save_pretrained(tmp_path)
        loaded = pp.load_adapter(encoder(backbone), tmp_path)
        assert torch.equal(logits(loaded, points), found)
        with pytest.raises(CheckpointError, match="base model"):
            pp.load_adapter(stranger(backbone), tmp_path)


@pytest.mark.parametrize(
    ("backbone", "method"), [pair for pair in PAIRS if pair[0] in ("point_mae", "point_m2ae")]
)
def test_a_method_under_a_head_on_all_blocks(backbone, method, tmp_path):
    model, before = adapted(backbone, method, "classification", head="lda")
    moved = [n for n, p in model.adapter.named_parameters() if not torch.equal(p, before[n])]
    assert "model.head.scores.weight" in moved
    assert any(".head." not in name for name in moved) or method == "linear"
    check_logits(model, backbone, "classification", tmp_path)


@pytest.mark.parametrize("method", ONE_SCALE_ONLY)
@pytest.mark.parametrize("backbone", SEVERAL_SCALES)
def test_methods_for_one_scale_are_refused_elsewhere(backbone, method):
    with pytest.raises(ConfigError, match=backbone):
        pp.get_peft_model(pp.build_classifier(encoder(backbone), 4), CONFIGS[method]())


@pytest.mark.parametrize("method", ["dapt, published", "pointgst, published", "ppt, published"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_methods_with_their_faults_train_on_every_backbone(backbone, method):
    model, _ = adapted(backbone, method, "classification")
    assert logits(model.eval(), clouds(4)).isfinite().all()
