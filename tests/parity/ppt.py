"""Parity of PPT on Point-MAE."""

from collections import ChainMap
from typing import Any

import torch
from torch import Tensor

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_CLASSIFICATION
from pointpeft.models.checkpoint import Layout
from tests.parity.support import Case, Taps, assert_array, load_weights
from tests.parity.tuned import MODEL, Passage, adapted, check_tuned, watch

PPT = Layout(
    "PPT on Point-MAE",
    ("blocks.prompt_mlp.",),
    (
        ("blocks.prompt_mlp.", "tuner.scales.0.of_patches."),
        ("blocks.prompt_pos_mlp.", "tuner.scales.0.of_prompts."),
        ("blocks.prompt_all_mlp.", "tuner.scales.0.of_all."),
        *MODEL,
    ),
    convolutions=POINT_MAE_CLASSIFICATION.convolutions,
)


def check_ppt(case: Case) -> None:
    model = _loaded(case)
    count = case.data["config"]["prompt_num_group"]
    trunk = model.model.backbone
    passage = Passage(model)
    seen: dict[str, Any] = {}
    watch(trunk.blocks[0].norm1, seen, lambda args, _: {"block0_input": args[0]})
    taps = Taps(
        model.adapter,
        patch_tokens="model.backbone.tokenizer.embed",
        adapter0="tuner.scales.0.of_all",
        norm="model.backbone.norm",
    )

    def outputs() -> dict[str, Tensor]:
        rows = {"norm": taps["norm"], "adapter0": taps["adapter0"], **seen}
        return {
            "patch_tokens": taps["patch_tokens"],
            "prompt_tokens": model.tuner.prompts(passage.before[0], count),
            "prompt_center": passage.before[0].geometry.centers[:, :count],
            **{name: published_order(tokens, count) for name, tokens in rows.items()},
            **passage.outputs(lambda stream: published_order(stream.tokens, count)),
        }

    in_training = [name for name in case.arrays if "bn_train" in name or name.endswith("_after")]
    case.data.without_effect("knn_check")
    check_tuned(case, model, PPT, outputs, passage, known=in_training)
    if in_training:
        _check_in_training(case, in_training)


def published_order(tokens: Tensor, count: int) -> Tensor:
    """Rows ``(B, T, C)`` with the prompts behind the patches."""
    first, prompts, patches = tokens.tensor_split((1, 1 + count), dim=1)
    return torch.cat([first, patches, prompts], dim=1)


def _loaded(case: Case) -> Any:
    """The network of the case with its weights, in eval mode."""
    config = case.data["config"]
    assert config["type"] == "pos", "all is trained"
    assert config["prompt_group_size"] == config["group_size"], "prompts are copies of no patches"
    settings = pp.PPTConfig(num_prompts=config["prompt_num_group"], reference_compat=True)
    model = adapted(case, settings, ChainMap({"trans_dim": config["embed_dim"]}, config))
    load_weights(model.adapter, case, PPT)
    return model


def _check_in_training(case: Case, names: list[str]) -> None:
    """A pass in which BatchNorm alone trains, and the statistics that it leaves."""
    model = _loaded(case)
    embed = model.model.backbone.tokenizer.embed.train()
    model.tuner.train()
    taps = Taps(model.adapter, norm="model.backbone.norm")
    with torch.no_grad():
        model(case.cloud())
    first, second = embed.first_conv[1], embed.second_conv[1]
    found = {
        "norm_bn_train": published_order(taps["norm"], case.data["config"]["prompt_num_group"]),
        "bn_running_mean_after": first.running_mean,
        "bn_running_var_after": first.running_var,
        "bn2_running_mean_after": second.running_mean,
        "bn2_running_var_after": second.running_var,
    }
    for name in names:
        assert_array(found[name], case.arrays[name], name)
