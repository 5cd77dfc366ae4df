"""What the checks of tuning methods on Point-MAE have in common."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_CLASSIFICATION
from pointpeft.models.checkpoint import Layout
from pointpeft.models.trunk import Stream
from tests.parity.point_mae import compare, encoder_settings
from tests.parity.support import GRADIENT_TOLERANCE, Case, assert_gradients, assert_loss

#: Names of the network under a method, with a class token.
MODEL = (
    ("cls_token", "model.cls_token"), ("cls_pos", "model.cls_pos"),
    *((published, f"model.{ours}") for published, ours in POINT_MAE_CLASSIFICATION.rules),
)  # fmt: skip
Flags = list[list[bool]]


def adapted(case: Case, settings: Any, config: Mapping[str, Any] | None = None) -> Any:
    """The network of the case under a method; ``config`` stands in for that of the case."""
    config = case.data["config"] if config is None else config
    model = pp.create_model(
        "point_mae",
        num_classes=config["cls_dim"],
        **encoder_settings(config),
        skip_near_origin=True,
    )
    return pp.get_peft_model(model, settings)


def watch(module: nn.Module, seen: dict[str, Any], what: Callable[..., dict[str, Any]]) -> None:
    """Keep what a module is given and gives at its first call."""

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        for key, value in what(args, output).items():
            seen.setdefault(key, value)

    module.register_forward_hook(keep)


class Passage:
    """The streams in front of and behind every block, the method included, of one forward pass."""

    def __init__(self, model: Any) -> None:
        self.before: list[Stream] = []
        self.after: list[Stream] = []
        self._depth = len(model.model.backbone.blocks)
        self._block = model.tuner.block
        model.tuner.block = self._keep

    def _keep(self, place: int, block: Any, stream: Stream) -> Stream:
        after = self._block(place, block, stream)
        if len(self.after) < self._depth:
            self.before.append(stream)
            self.after.append(after)
        return after

    def clear(self) -> None:
        """Keep those of the next pass."""
        self.before.clear()
        self.after.clear()

    def need_gradient(self) -> Flags:
        """Whether what enters and what leaves each block is part of the backward pass."""
        pairs = zip(self.before, self.after, strict=True)
        return [[old.tokens.requires_grad, new.tokens.requires_grad] for old, new in pairs]

    def outputs(self, order: Callable[[Stream], Tensor]) -> dict[str, Tensor]:
        """Tokens behind each block in the published ``order`` of rows, by name."""
        return {f"block{place}": order(stream) for place, stream in enumerate(self.after)}


def modules_need_gradient(model: Any, case: Case) -> Flags:
    """The same of the blocks themselves, for methods that call them as they are."""
    found: Flags = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append([args[0].requires_grad, output.requires_grad])

    hooks = [block.register_forward_hook(keep) for block in model.model.backbone.blocks]
    model(case.cloud())
    for hook in hooks:
        hook.remove()
    return found


def check_tuned(
    case: Case,
    model: Any,
    layout: Layout,
    outputs: Callable[[], dict[str, Tensor]],
    passage: Passage | None = None,
    known: Collection[str] = (),
) -> None:
    """Outputs, loss, gradients and counts.

    Args:
        case: the case.
        model: with its weights, in eval mode.
        layout: names of its entries.
        outputs: what a forward pass has left behind, by the names of the arrays.
        passage: of methods that do not call blocks as they are.
        known: arrays that are inputs, or compared elsewhere.
    """
    points, label = case.cloud(), torch.from_numpy(case.arrays["label"]).long()
    seen: dict[str, Any] = {}
    watch(model.model.head, seen, lambda args, _: {"feature": args[0]})
    logits = model(points)
    loss = F.cross_entropy(logits, label)
    loss.backward()
    found = {
        "center": model.model.backbone.tokenizer.group(points).centers,
        **seen,
        **outputs(),
        "logits": logits,
    }
    if "logits_alone" not in known:
        with torch.no_grad():
            found["logits_alone"] = torch.cat([model(cloud) for cloud in points.split(1)])
    compare(case, found, known={"label", *known})
    assert_loss(loss, case.loss)
    need = modules_need_gradient(model, case) if passage is None else passage.need_gradient()
    assert need == case.data["block_needs_gradient"]["blocks"]
    case.data["block_needs_gradient"].without_effect("about")
    case.data.without_effect("alone_max_difference")
    case.check_accuracy(logits, label)
    case.stored("label")
    _check_counts(case, model, layout)
    assert_gradients(model.adapter, case, layout, floor=1e-9)
    norms = [p.grad.norm() for p in model.parameters() if p.requires_grad]
    stated = case.data["scalars"]["grad_norm_trained"]
    assert abs(torch.stack(norms).norm().item() / stated - 1) < GRADIENT_TOLERANCE


def _check_counts(case: Case, model: Any, layout: Layout) -> None:
    counts = case.data["parameters"].pop_all()
    found = model.count_parameters()
    for key, count in found.items():
        assert counts[key] == count, key
    assert counts["head"] == found["total"] - found["total_without_head"]
    trained = {n: p for n, p in model.adapter.named_parameters() if p.requires_grad}
    reached = {n: p.numel() for n, p in trained.items() if p.grad is not None}
    assert counts["trainable_receiving_gradient"] == sum(reached.values())
    assert counts["trainable_receiving_gradient_without_head"] == sum(
        count for name, count in reached.items() if not name.startswith("model.head.")
    )
    published = layout.theirs(trained)
    assert set(case.data["trainable"]) == set(published)
    by_name: dict[str, int] = {}
    for name, parameter in published.items():
        short = "cls_head_finetune" if name.startswith("cls_head_finetune") else name
        short = re.sub(r"(_dict|conv\d|blocks\.blocks)\.\d+\.", r"\1.*.", short)
        by_name[short] = by_name.get(short, 0) + parameter.numel()
    assert counts["trainable_by_name"] == by_name
