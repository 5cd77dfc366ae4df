"""What every tuning method promises; a new method is tested by being registered."""

import copy

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.models.registry import build_segmenter
from pointpeft.peft import config_class, list_methods
from tests.models.tiny import settle, tiny
from tests.peft.support import CONFIGS, SMALL, adapted, bank, classifier

every_method = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
BLOCK = "model.backbone.blocks.{}."
TUNED_BIASES = ("norm1.bias", "norm2.bias", "attn.proj.bias", "mlp.fc1.bias", "mlp.fc2.bias")


def trained(model):
    return {name for name, p in model.adapter.named_parameters() if p.requires_grad}


def step(model, points, labels=(0, 1, 2), **options):
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    loss = F.cross_entropy(model(points, **options), torch.tensor(labels))
    loss.backward()
    optimizer.step()
    return loss


def test_every_registered_method_is_tested_here():
    fitted = {name for name in list_methods() if config_class(name).fitted}  # in test_fitted.py
    assert {make().method for make in CONFIGS.values()} == set(list_methods()) - fitted


@every_method
def test_an_adapted_model_gives_logits(config, points):
    logits = adapted(config()).eval()(points)
    assert logits.shape == (3, 4)
    assert logits.isfinite().all()


@every_method
def test_a_cloud_gives_alone_what_it_gives_in_a_batch_unless_the_tuner_says_so(config, points):
    model = adapted(config(), with_bank=True).eval()
    alone = torch.cat([model(cloud.unsqueeze(0)) for cloud in points])
    if not model.tuner.depends_on_batch:
        torch.testing.assert_close(alone, model(points), rtol=1e-4, atol=1e-5)


@every_method
def test_frozen_parameters_stay_and_trained_ones_move(config, points):
    model = adapted(config(), with_bank=True)
    before = {name: p.detach().clone() for name, p in model.adapter.named_parameters()}
    step(model, points)
    # Without gradient, by design of the published code.
    idle = {"gate", "blocks.2.prompt_embeddings", "blocks.2.bank_adapter"}
    for name, parameter in model.adapter.named_parameters():
        moved = not torch.equal(parameter, before[name])
        if not any(part in name for part in idle):
            assert moved == parameter.requires_grad, name


@every_method
def test_frozen_statistics_stay_in_training(config, points):
    model = adapted(config(), with_bank=True)
    before = {name: b.clone() for name, b in model.adapter.named_buffers()}
    step(model, points)
    moved = {name for name, b in model.adapter.named_buffers() if not torch.equal(b, before[name])}
    tokenizer = {name for name in moved if "tokenizer" in name}
    assert any("head" in name for name in moved) == any("head" in name for name in before)
    assert not any("bank" in name or "retriever" in name for name in moved)
    # Full tuning and PPT train layers of the tokenizer; published code leaves it in train mode.
    assert bool(tokenizer) == (
        config().method in ("full", "ppt") or "reference_compat=True" in str(config())
    )


@every_method
def test_frozen_modules_are_in_eval_mode_during_training(config):
    model = adapted(config()).train()
    moves = not model.tuner.freezes_statistics  # as in published code
    for name, module in model.adapter.named_modules():
        parameters = list(module.parameters())
        if parameters and not name.startswith("tuner.retriever"):
            assert module.training == (moves or any(p.requires_grad for p in parameters)), name
    assert not any(module.training for module in model.base.modules())
    assert not any(module.training for module in model.eval().modules())


@every_method
def test_counts_are_the_sums_over_parameters(config, capsys):
    model = adapted(config(), with_bank=True)
    own = {
        n: p for n, p in model.adapter.named_parameters() if not n.startswith("tuner.retriever.")
    }
    head = sum(p.numel() for p in model.model.head.parameters())
    total = sum(p.numel() for p in own.values())
    tuned = sum(p.numel() for p in own.values() if p.requires_grad)
    assert model.count_parameters() == {
        "total": total,
        "trainable": tuned,
        "total_without_head": total - head,
        "trainable_without_head": tuned - head,
    }
    model.print_trainable_parameters()
    assert capsys.readouterr().out == (
        f"trainable parameters: {tuned:,} of {total:,} ({100 * tuned / total:.2f} %); "
        f"without the head: {tuned - head:,}\n"
    )


@every_method
def test_a_copy_is_independent(config, points):
    model = adapted(config(), with_bank=True).eval()
    expected = model(points)
    twin = copy.deepcopy(model)
    step(twin, points)
    assert torch.equal(model.eval()(points), expected)
    assert not torch.equal(twin.eval()(points), expected)


@every_method
def test_bfloat16_autocast_stays_close(config, points):
    model = adapted(config()).eval()
    with torch.no_grad():
        exact = model(points)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(points)
    assert (rough.float() - exact).norm() < 0.03 * exact.norm()


@every_method
def test_training_runs_under_autocast(config, points):
    with torch.autocast("cpu", torch.bfloat16):
        assert step(adapted(config(), with_bank=True), points).isfinite()


def test_full_trains_everything():
    model = pp.get_peft_model(classifier(), pp.FullConfig())
    assert trained(model) == {name for name, _ in model.adapter.named_parameters()}


def test_linear_trains_the_head():
    model = pp.get_peft_model(classifier(), pp.LinearConfig())
    assert trained(model) == {f"model.head.{n}" for n, _ in model.model.head.named_parameters()}


@pytest.mark.parametrize(("head", "count"), [("mlp", 268_303), ("linear", 12_303)])
def test_linear_with_the_class_token_trains_as_much_as_published(head, count):
    model = pp.create_model("pcp_mae", preset="scanobjectnn", num_classes=15)
    model = pp.get_peft_model(model, pp.LinearConfig(head=head, class_token=True))
    assert model.count_parameters()["trainable"] == count
    assert {name for name in trained(model) if "head" not in name} == {
        "model.cls_token", "model.cls_pos",
    }  # fmt: skip


def test_nothing_is_known_beforehand_where_the_class_token_is_trained(points):
    for config, known in ((pp.LinearConfig(head="linear"), ["features"]),
                          (pp.LinearConfig(class_token=True), []),
                          (pp.LinearConfig(reference_compat=True), [])):  # fmt: skip
        model = pp.get_peft_model(classifier(), config)
        assert list(model.tuner.constants(model.model, points)) == known


def test_a_single_layer_is_a_linear_rule_on_the_features(points):
    model = adapted(pp.LinearConfig(head="linear")).eval()
    (layer,) = model.model.head
    expected = model.model.forward_features(points) @ layer.weight.T + layer.bias
    torch.testing.assert_close(model(points), expected)


def test_linear_refuses_what_there_is_not():
    with pytest.raises(ConfigError, match="head"):
        pp.LinearConfig(head="mlp3")
    parts = build_segmenter(tiny("features"), 5, 2)
    with pytest.raises(ConfigError, match="head=linear"):
        pp.get_peft_model(parts, pp.LinearConfig(head="linear"))
    scales = tiny("classification", "point_m2ae")
    with pytest.raises(ConfigError, match="class_token"):
        pp.get_peft_model(scales, pp.LinearConfig(class_token=True))


@pytest.mark.parametrize("with_bank", [False, True])
@pytest.mark.parametrize("compat", [False, True])
def test_point_peft_trains_what_is_documented(with_bank, compat):
    config = pp.PointPeftConfig(**SMALL, reference_compat=compat)
    model = pp.get_peft_model(classifier(), config, bank() if with_bank else None)
    names = {name for name, _ in model.adapter.named_parameters()}
    expected = {
        n for n in names if n.startswith(("model.head.", "model.cls_", "model.backbone.norm."))
    }
    expected |= {
        "tuner.prompt_centers",
        "tuner.scales.0.local_norm.weight",
        "tuner.scales.0.local_norm.bias",
    }
    expected |= {
        f"tuner.scales.0.local_attention.{n}" for n in ("qkv.weight", "proj.weight", "proj.bias")
    }
    for i in range(3):
        outer = f"tuner.blocks.{i}."
        expected |= {BLOCK.format(i) + bias for bias in TUNED_BIASES}
        bottlenecks = ["adapter", "output_adapter"]
        if i < 2 or compat:
            expected.add(outer + "prompt_embeddings")
            bottlenecks += ["bank_adapter"] if with_bank or compat else []
        expected |= {f"{outer}{b}.{ln}.{kind}" for b in bottlenecks
                     for ln in ("ln1", "ln2") for kind in ("weight", "bias")}  # fmt: skip
        expected |= {f"{outer}out_transform.0.{kind}" for kind in ("weight", "bias")}
        expected |= {outer + "gate"} if compat else set()
    assert trained(model) == expected
    assert expected <= names


def test_point_peft_has_the_published_number_of_parameters():
    """Without gates and idle prompts: those of the published code that receive a gradient."""
    features = torch.nn.functional.normalize(torch.randn(384, 16), dim=0)
    model = pp.create_model("point_mae", preset="scanobjectnn", num_classes=15)
    counts = pp.get_peft_model(
        model, pp.PointPeftConfig(), pp.MemoryBank(features)
    ).count_parameters()
    assert counts["trainable"] == 710_749
    assert counts["trainable_without_head"] == 443_214
    assert counts["total"] == 22_560_409 - (773_017 - 710_749)


def test_only_classification_models_can_be_adapted():
    for task in ("features", "pretraining"):
        with pytest.raises(ConfigError, match="num_classes"):
            pp.get_peft_model(tiny(task), pp.LinearConfig())


def test_an_adapted_model_is_not_adapted_again():
    model = adapted(pp.LinearConfig())
    with pytest.raises(ConfigError, match="'linear'"):
        pp.get_peft_model(model, pp.PointPeftConfig())


def test_a_bank_of_another_encoder_is_refused_before_the_model_is_touched():
    model = classifier()
    before = list(model.state_dict())
    with pytest.raises(ConfigError, match="another encoder"):
        pp.get_peft_model(model, pp.PointPeftConfig(**SMALL), bank(seed=2))
    assert list(model.state_dict()) == before


@pytest.mark.parametrize("shape", [(25, 12), (24, 2)], ids=["channels", "too few items"])
def test_a_bank_that_cannot_serve_is_refused_when_attached(shape):
    with pytest.raises(ConfigError, match="bank"):
        pp.get_peft_model(
            classifier(), pp.PointPeftConfig(**SMALL), pp.MemoryBank(torch.randn(shape))
        )


def test_attaching_keeps_the_mode_of_the_model():
    for mode in (True, False):
        model = pp.get_peft_model(classifier().train(mode), pp.PointPeftConfig(**SMALL))
        assert model.training == mode
        assert model.model.head.training == mode


def test_linear_and_full_compute_what_the_plain_model_computes(points):
    for config in (pp.LinearConfig(), pp.FullConfig()):
        model = settle(classifier()).eval()
        expected = model(points)
        assert torch.equal(pp.get_peft_model(model, config)(points), expected)


@pytest.mark.parametrize(("local", "size"), [(32, 8), (5, 4), (3, 2), (1, 1)])
def test_local_graphs_of_pointgst_divide_the_patches(local, size, points):
    model = pp.get_peft_model(classifier(), pp.PointGSTConfig(rank=3, local=local)).eval()
    stream = model.model.backbone.embed(points)
    assert model.tuner.bases(stream.geometry).local.shape == (3, 8 // size, size, size)
    assert model(points).isfinite().all()
