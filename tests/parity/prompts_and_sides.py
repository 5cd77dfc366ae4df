"""Parity of IDPT and STAG on Point-MAE: methods beside the trunk."""

from typing import Any

from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_CLASSIFICATION
from pointpeft.models.checkpoint import Layout
from tests.parity.support import Case, Taps
from tests.parity.tuned import MODEL, adapted, check_tuned, watch

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
        *MODEL,
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
        (*rules, *MODEL),
        convolutions=(
            *POINT_MAE_CLASSIFICATION.convolutions,
            (r"tuner\.(collect|graphs|expand)\.", 1),
        ),
    )


def check_idpt(case: Case) -> None:
    config = case.data["config"]
    assert (config["prompt_module"], config["cls_type"]) == ("dgcnn", "all")
    settings = pp.IDPTConfig(prompt_block=config["prompt_layer"], reference_compat=True)
    model = adapted(case, settings)
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
    watch(model.tuner.prompt_module, seen, lambda args, _: {"prompt_input": args[0]})
    for number, edges in enumerate(model.tuner.prompt_module.edges):
        key = f"knn{number}"
        watch(edges, seen, lambda args, _, key=key: {key: args[1].sort().values})
    names = ("patch_tokens", "norm", "prompt", "block0", f"block{places[-1]}")
    case.data.without_effect("knn_smallest_relative_gap")
    check_tuned(case, model, IDPT, lambda: {**{n: taps[n] for n in names}, **seen})
    case.data["scalars"].without_effect("grad_norm_all_parameters")  # of frozen ones, as published


def check_stag(case: Case) -> None:
    config = case.data["config"]
    sl = config["stag_size"] == 1
    runs = pp.STAGConfig(run_length=3, first_block=3) if sl else pp.STAGConfig()
    model = adapted(case, runs)
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
    watch(
        model.tuner.graphs[0],
        seen,
        lambda args, output: {
            "residual_first": args[0].transpose(1, 2),
            "graph_out_first": output.transpose(1, 2),
            "graph_knn": args[1].sort().values,
        },
    )
    watch(model.model.head, seen, lambda args, _: {"feature": args[0]})
    watch(model.tuner.expand[0], seen, lambda _, output: {"displacement_first": F.relu(output)})
    case.data.without_effect("knn_check", "graph_calls")

    def outputs() -> dict[str, Any]:
        found = {name: taps[name] for name in ("patch_tokens", *(f"block{i}" for i in shown))}
        return {**found, **seen, "final_tokens_mean": seen["feature"]}

    check_tuned(case, model, layout, outputs)
