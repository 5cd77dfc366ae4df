"""Parity of IDPT and STAG on Point-MAE: methods beside the trunk."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_CLASSIFICATION
from pointpeft.models.checkpoint import Layout
from tests.parity.point_mae import compare, encoder_settings
from tests.parity.support import GRADIENT_TOLERANCE, Case, Taps, assert_gradients, assert_loss

_MODEL = (
    ("cls_token", "model.cls_token"), ("cls_pos", "model.cls_pos"),
    *((published, f"model.{ours}") for published, ours in POINT_MAE_CLASSIFICATION.rules),
)  # fmt: skip
_EDGES = [
    rule
    for number in (1, 2, 3)
    for rule in (
        (f"blocks.cls.conv{number}.0.", f"tuner.prompt_module.edges.{number - 1}.linear."),
        (f"blocks.cls.bn{number}.", f"tuner.prompt_module.edges.{number - 1}.norm."),
    )
]
IDPT = Layout(
    "IDPT on Point-MAE",
    ("prompt_pos",),
    (
        ("prompt_pos", "tuner.prompt_pos"),
        *_EDGES,
        ("blocks.cls.conv5.0.", "tuner.prompt_module.fuse."),
        ("blocks.cls.bn5.", "tuner.prompt_module.norm."),
        *_MODEL,
    ),
    convolutions=(
        *POINT_MAE_CLASSIFICATION.convolutions,
        (r"edges\.\d\.linear", 2),
        (r"prompt_module\.fuse", 1),
    ),
)


def stag(first_run: int, runs: int) -> Layout:
    """Names of STAG, whose published side layers are numbered from that of the first block."""
    rules = [(f"blocks.addparam_downproj_dict.{t}.0.", f"tuner.collect.{t}.") for t in range(runs)]
    names = {"graphconv1": "own", "graphconv2": "near", "fc": "out"}
    for ours in range(4):
        theirs = first_run + ours
        rules += [
            (f"blocks.addparam_{name}_dict.{theirs}.0.", f"tuner.graphs.{ours}.{layer}.")
            for name, layer in names.items()
        ]
        rules.append((f"blocks.addparam_upproj_dict.{theirs}.0.", f"tuner.expand.{ours}."))
    return Layout(
        "STAG on Point-MAE",
        ("blocks.addparam_",),
        (*rules, *_MODEL),
        convolutions=(
            *POINT_MAE_CLASSIFICATION.convolutions,
            (r"tuner\.(collect|graphs|expand)\.", 1),
        ),
    )


def check_idpt(case: Case) -> None:
    config = case.data["config"]
    assert (config["prompt_module"], config["cls_type"]) == ("dgcnn", "all")
    settings = pp.IDPTConfig(prompt_block=config["prompt_layer"], reference_compat=True)
    model = _adapted(case, settings)
    aliases = case.data["aliases"].pop_all()
    weights = case.weights()
    for name, used in aliases.items():
        weights[name] = weights.pop(used)
    model.adapter.load_state_dict(IDPT.ours(weights), strict=True)
    places = range(config["depth"])
    taps = Taps(
        model.adapter.eval(),
        patch_tokens="model.backbone.tokenizer.embed",
        norm="model.backbone.norm",
        prompt="tuner.prompt_module",
        **{f"block{i}": f"model.backbone.blocks.{i}" for i in (places[0], places[-1])},
    )
    seen: dict[str, Any] = {}
    _watch(model.tuner.prompt_module, seen, lambda args, _: {"prompt_input": args[0]})
    for number, edges in enumerate(model.tuner.prompt_module.edges):
        key = f"knn{number}"
        _watch(edges, seen, lambda args, _, key=key: {key: args[1].sort().values})
    names = ("patch_tokens", "norm", "prompt", "block0", f"block{places[-1]}")
    case.data.without_effect("knn_smallest_relative_gap")
    _check(case, model, taps, names, IDPT, seen)
    case.data["scalars"].without_effect("grad_norm_all_parameters")  # of frozen ones, as published


def check_stag(case: Case) -> None:
    config = case.data["config"]
    sl = config["stag_size"] == 1
    runs = pp.STAGConfig(run_length=3, first_block=3) if sl else pp.STAGConfig()
    model = _adapted(case, runs)
    layout = stag(3, 4) if sl else stag(6, 1)
    model.adapter.load_state_dict(layout.ours(case.weights()), strict=True)
    shown = [i for i in (0, 6, 11) if i < config["depth"]]
    taps = Taps(
        model.adapter.eval(),
        patch_tokens="model.backbone.tokenizer.embed",
        residual_first="tuner.graphs.0",
        **{f"block{i}": f"model.backbone.blocks.{i}" for i in shown},
    )
    seen: dict[str, Any] = {}
    _watch(
        model.tuner.graphs[0],
        seen,
        lambda args, output: {
            "residual_first": args[0].transpose(1, 2),
            "graph_out_first": output.transpose(1, 2),
            "graph_knn": args[1].sort().values,
        },
    )
    _watch(model.tuner.expand[0], seen, lambda _, output: {"displacement_first": F.relu(output)})
    case.data.without_effect("knn_check", "graph_calls")
    _check(case, model, taps, ("patch_tokens", *(f"block{i}" for i in shown)), layout, seen)


def _watch(module: nn.Module, seen: dict[str, Any], what: Callable[..., dict[str, Any]]) -> None:
    """Keep what a module is given and gives at its first call."""

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        for key, value in what(args, output).items():
            seen.setdefault(key, value)

    module.register_forward_hook(keep)


def _needs_gradient(model: Any, case: Case) -> list[list[bool]]:
    """Whether what enters and what leaves each block itself is part of the backward pass."""
    found: list[list[bool]] = []

    def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        found.append([args[0].requires_grad, output.requires_grad])

    hooks = [block.register_forward_hook(keep) for block in model.model.backbone.blocks]
    model(case.cloud())
    for hook in hooks:
        hook.remove()
    return found


def _adapted(case: Case, settings: Any) -> Any:
    config = case.data["config"]
    model = pp.create_model(
        "point_mae",
        num_classes=config["cls_dim"],
        **encoder_settings(config),
        skip_near_origin=True,
    )
    return pp.get_peft_model(model, settings)


def _check(
    case: Case, model: Any, taps: Taps, names: tuple[str, ...], layout: Layout, seen: dict[str, Any]
) -> None:
    """Outputs, loss, gradients and counts."""
    points, label = case.cloud(), torch.from_numpy(case.arrays["label"]).long()
    _watch(model.model.head, seen, lambda args, _: {"feature": args[0]})
    logits = model(points)
    loss = F.cross_entropy(logits, label)
    loss.backward()
    outputs = {
        "center": model.model.backbone.tokenizer.group(points).centers,
        **{name: taps[name] for name in names},
        **seen,
        "logits": logits,
    }
    with torch.no_grad():
        outputs["logits_alone"] = torch.cat([model(cloud) for cloud in points.split(1)])
    if "final_tokens_mean" in case.arrays:
        outputs["final_tokens_mean"] = seen["feature"]
    compare(case, outputs, known={"label"})
    assert_loss(loss, case.loss)
    assert _needs_gradient(model, case) == case.data["block_needs_gradient"]["blocks"]
    case.data["block_needs_gradient"].without_effect("about")
    case.data.without_effect("alone_max_difference")
    case.check_accuracy(logits, label)
    case.stored("label")
    _check_counts(case, model, layout)
    assert_gradients(model.adapter, case, layout)
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
    assert counts["trainable_receiving_gradient"] == sum(
        p.numel() for p in trained.values() if p.grad is not None
    )
    published = layout.theirs(trained)
    assert set(case.data["trainable"]) == set(published)
    by_name: dict[str, int] = {}
    for name, parameter in published.items():
        short = "cls_head_finetune" if name.startswith("cls_head_finetune") else name
        short = re.sub(r"(_dict|conv\d)\.\d+\.", r"\1.*.", short)
        by_name[short] = by_name.get(short, 0) + parameter.numel()
    assert counts["trainable_by_name"] == by_name
