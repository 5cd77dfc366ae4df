"""Parity of DAPT on Point-MAE."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_CLASSIFICATION
from pointpeft.models.checkpoint import Layout
from pointpeft.models.trunk import Stream
from tests.parity.support import Case, Taps, assert_array, assert_loss, load_weights
from tests.parity.tuned import MODEL, Passage, adapted, check_tuned

#: Modulations by what stands behind "tfts_gamma_" and "tfts_beta_" and in front of them.
_MODULATIONS = {
    ("", 1): "norm1", ("", 2): "norm2", ("", 3): "prompt",
    ("attn.", 1): "qkv", ("attn.", 2): "proj",
    ("mlp.", 1): "fc1", ("mlp.", 2): "fc2",
}  # fmt: skip
_LAYERS = {
    "adapter_layer_norm_before": "norm",
    "scale": "scale",
    "down_proj": "down",
    "up_proj": "up",
}
DAPT = Layout(
    "DAPT on Point-MAE",
    ("tfts_gamma_1",),
    (
        *(
            (f"blocks.blocks.*.{place}tfts_{kind}_{number}", f"tuner.blocks.*.{ours}.{kind}")
            for (place, number), ours in _MODULATIONS.items()
            for kind in ("gamma", "beta")
        ),
        *(
            (f"blocks.blocks.*.Adapter_MLP.{theirs}.", f"tuner.blocks.*.adapter.{ours}.")
            for theirs, ours in _LAYERS.items()
        ),
        *(
            (f"tfts_{kind}_{number}", f"tuner.{ours}.{kind}")
            for number, ours in ((1, "patches.0"), (2, "norm"))
            for kind in ("gamma", "beta")
        ),
        *MODEL,
    ),
    convolutions=POINT_MAE_CLASSIFICATION.convolutions,
)


def check_dapt(case: Case) -> None:
    config = case.data["config"]
    model = adapted(case, _settings(config))
    load_weights(model.adapter, case, DAPT)
    passage = Passage(model)
    prompts = {f"prompt{i}": f"tuner.blocks.{i}.prompt" for i in range(config["depth"])}
    taps = Taps(
        model.adapter,
        patch_tokens="model.backbone.tokenizer.embed",
        norm="model.backbone.norm",
        adapter0="tuner.blocks.0.adapter",
        scale0_before_relu="tuner.blocks.0.adapter.scale",
        **prompts,
    )

    def outputs() -> dict[str, Tensor]:
        return {
            "patch_tokens": taps["patch_tokens"],
            "norm": published_order(passage.after[-1].with_tokens(taps["norm"])),
            "prompts": torch.cat([taps[name] for name in prompts], dim=1),
            "adapter0": taps["adapter0"],
            "scale0_before_relu": taps["scale0_before_relu"],
            **passage.outputs(published_order),
        }

    at_scale = [name for name in case.arrays if name.endswith("_gamma1")]
    check_tuned(case, model, DAPT, outputs, passage, known=at_scale)
    if at_scale:
        passage.clear()
        taps.clear()
        _check_at_scale(case, model, outputs)


def published_order(stream: Stream) -> Tensor:
    """Tokens with the latest prompt in front of the earlier ones."""
    first, prompts, patches = stream.tokens.tensor_split((stream.state, stream.prefix), dim=1)
    return torch.cat([first, prompts.flip(1), patches], dim=1)


def _settings(config: Any) -> pp.DAPTConfig:
    """Our settings for the published ones, where the text "None" switches a part off."""
    config.without_effect("drop_rate")
    parts = {
        key: None if config[key] in ("None", None) else config[key]
        for key in ("class_token", "prompt_token", "patch_token")
    }
    assert parts["class_token"] in ("use", None)
    assert parts["patch_token"] in ("max", None)
    return pp.DAPTConfig(
        adapter_dim=config["rank"],
        dropout=config["drop_adapter_rate"],
        class_token=parts["class_token"] is not None,
        prompt_token=parts["prompt_token"],
        patch_token=parts["patch_token"] is not None,
        reference_compat=True,
    )


def _check_at_scale(case: Case, model: Any, outputs: Any) -> None:
    """The same with scales around one, as they are in training, where the recipe has zero."""
    with torch.no_grad():
        for name, parameter in model.tuner.named_parameters():
            if name.endswith("gamma"):
                parameter += 1
        logits = model(case.cloud())
    found = {**outputs(), "logits": logits}
    for name in case.arrays:
        if name.endswith("_gamma1"):
            assert_array(found[name.removesuffix("_gamma1")], case.arrays[name], name)
    label = torch.from_numpy(case.arrays["label"]).long()
    assert_loss(F.cross_entropy(logits, label), case.data["scalars"]["loss_gamma1"])
