"""The learning rate's course and which parameters are decayed."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pointpeft.compat.schedule import published_groups, published_learning_rate
from pointpeft.create import create_model
from pointpeft.errors import ConfigError
from pointpeft.training.config import OptimizerConfig
from pointpeft.training.optimizer import (
    Schedule,
    configure_adamw,
    learning_rate_factor,
    parameter_groups,
)
from pointpeft.training.resolved import ResolvedRun
from tests.training.support import rows

FLOOR = 0.01


def factors(warmup, count=1001):
    return [learning_rate_factor(i / (count - 1), warmup, FLOOR) for i in range(count)]


def test_starts_at_floor_peaks_after_warmup_and_ends_at_floor():
    values = factors(0.1)
    assert values[0] == pytest.approx(FLOOR)
    assert values[100] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(FLOOR)
    assert max(values) <= 1.0
    assert min(values) >= FLOOR - 1e-12


def test_warmup_is_linear_and_cosine_falls():
    values = torch.tensor(factors(0.1), dtype=torch.float64)
    rise = values[:101].diff()
    assert torch.allclose(rise, rise[0].expand_as(rise))
    assert (values[100:].diff() <= 1e-12).all()
    assert float(values[550]) == pytest.approx((1 + FLOOR) / 2)  # half way through the cosine


def test_without_warmup_starts_at_peak():
    assert learning_rate_factor(0.0, 0.0, FLOOR) == 1.0


def test_stays_at_floor_after_the_end():
    assert learning_rate_factor(1.5, 0.1, FLOOR) == pytest.approx(FLOOR)


def test_all_of_training_may_be_warmup():
    assert learning_rate_factor(1.0, 1.0, FLOOR) == pytest.approx(1.0)


def test_training_follows_the_course(run_finetune, tmp_path):
    """Eight steps, two an epoch; the history shows the rate that the next epoch begins with."""
    run_finetune("optimizer.lr=1e-2", "optimizer.warmup=0.25", "optimizer.min_lr=1e-4")
    shown = [float(row["lr"]) for row in rows(tmp_path / "run")]
    assert shown == pytest.approx([1e-2 * learning_rate_factor(p, 0.25, 1e-2)
                                   for p in (0.25, 0.5, 0.75, 1.0)])  # fmt: skip


def test_only_tokens_not_the_tokenizer_escape_decay():
    model = create_model("point_mae_small", task="pretraining")
    plain, decayed = parameter_groups(model, 0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    assert "mask_token" in {names[id(p)] for p in plain["params"]}
    kept = {names[id(p)] for p in decayed["params"]}
    assert "backbone.tokenizer.embed.first_conv.0.weight" in kept


class Example(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def test_only_matrices_are_decayed():
    model = Example()
    plain, decayed = parameter_groups(model, 0.05)
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0.0, 0.05)
    assert [id(p) for p in decayed["params"]] == [id(model.linear.weight)]
    names = {name for name, p in model.named_parameters() if any(p is q for q in plain["params"])}
    assert names == {"linear.bias", "norm.weight", "norm.bias", "cls_token"}


def test_everything_trainable_is_in_one_group():
    model = Example()
    ids = [id(p) for group in parameter_groups(model, 0.1) for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)


class Headed(nn.Module):
    """A network with a head, as an optimizer is configured for it."""

    trainer = SimpleNamespace(estimated_stepping_batches=10)

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))


def names_by_group(model, optimizer):
    names = {id(p): name for name, p in model.named_parameters()}
    return [{names[id(p)] for p in group["params"]} for group in optimizer.param_groups]


@pytest.mark.parametrize("rule", ["default", "published"])
def test_the_head_has_a_rate_of_its_own(rule):
    """It rises from and falls to the same lowest rate; published, all of it is decayed."""
    model, config = Headed(), OptimizerConfig(lr=1e-3, warmup=0.5, rule=rule, head_lr_factor=10.0)
    found = configure_adamw(model, Schedule.of(config, 20))
    groups = names_by_group(model, found["optimizer"])
    assert groups[:2] == [{"body.bias"}, {"body.weight"}]
    head = {"head.weight", "head.bias", "cls_token"}
    assert groups[2:] == (
        [head] if rule == "published" else [head - {"head.weight"}, {"head.weight"}]
    )
    decays = [group["weight_decay"] for group in found["optimizer"].param_groups]
    assert decays == ([0, 0.05, 0.05] if rule == "published" else [0, 0.05, 0, 0.05])
    rates = found["lr_scheduler"]["scheduler"]
    assert rates.get_last_lr() == pytest.approx([1e-6] * len(groups))
    steps = 5 if rule == "default" else 9  # epochs, where it is published
    for _ in range(steps):
        found["optimizer"].step()
        rates.step()
    body, last = rates.get_last_lr()[1], rates.get_last_lr()[-1]
    assert last - 1e-6 == pytest.approx((1e-2 - 1e-6) / (1e-3 - 1e-6) * (body - 1e-6))
    assert body > 5e-4


@pytest.mark.parametrize("lr", [1e-3, 2e-6])
def test_a_head_that_was_fitted_learns_with_a_hundredth_of_the_rate(lr, finetune_config):
    given = ["optimizer.head_lr_factor=2", f"optimizer.lr={lr}"]
    resolved = ResolvedRun.of(finetune_config(*given, "peft.head=lda"))
    assert resolved.schedule.settings.head_lr_factor == pytest.approx(0.02)
    assert resolved.schedule.settings.min_lr <= 0.02 * lr
    assert ResolvedRun.of(resolved.config).schedule == resolved.schedule  # as a run goes on
    assert ResolvedRun.of(finetune_config(*given)).schedule.settings.head_lr_factor == 2


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"head_lr_factor": 0.0}, "head_lr_factor"),
     ({"lr": 1e-3, "head_lr_factor": 0.1, "min_lr": 5e-4}, "min_lr")],
    ids=str,
)  # fmt: skip
def test_rates_of_the_head_that_cannot_be_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        OptimizerConfig(**settings)


def published(epoch, epochs=300, **settings):
    config = OptimizerConfig(lr=1e-3, rule="published", **settings)
    found = Schedule.of(config, epochs)
    return published_learning_rate(epoch, found.lr, found.cosine_epochs, config)


def test_the_published_rate_lags_an_epoch_behind():
    assert published(0) == published(1) == 1e-6
    assert published(2) == pytest.approx(1e-6 + (1e-3 - 1e-6) / 10)
    assert published(10) == pytest.approx(1e-6 + 9 * (1e-3 - 1e-6) / 10)
    assert published(11) == pytest.approx(1e-6 + 0.5 * (1e-3 - 1e-6) * (1 + math.cos(math.pi / 30)))
    assert published(11) < 1e-3
    assert published(300) > 1e-6
    assert published(301) == published(400) == 1e-6


def test_the_published_cosine_may_be_longer_than_the_training():
    """Point-M2AE and I2P-MAE pre-train for 300 epochs of a cosine of 400."""
    assert published(300, cosine_epochs=400) > 1e-4
    assert published(0, warmup_epochs=0) == 1e-6
    assert published(1, warmup_epochs=0) == 1e-3


def test_published_decay_spares_all_whose_name_has_token_in_it():
    model = create_model("point_m2ae_small", num_classes=3)
    groups = parameter_groups(model, 0.05)
    spared = published_groups(model, 0.05)
    embed = model.backbone.tokenizers[0].embed.first_conv[0].weight
    assert any(p is embed for p in groups[1]["params"])
    assert any(p is embed for p in spared[0]["params"])
    assert not any(p is embed for p in spared[1]["params"])
