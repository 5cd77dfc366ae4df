"""Parity of Point-PEFT on Point-MAE and Point-M2AE: the published computation, quirks included."""

from collections import ChainMap

import numpy as np
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import point_m2ae_pretrained_layout
from pointpeft.compat.checkpoints.layouts import POINT_PEFT_MAE, point_peft_m2ae
from pointpeft.compat.pretraining import published_features
from pointpeft.models.checkpoint import Layout
from tests.parity.point_m2ae import encoder_settings as scale_settings
from tests.parity.point_m2ae import smoothed_cross_entropy
from tests.parity.point_mae import compare, encoder_settings
from tests.parity.support import (
    GRADIENT_TOLERANCE,
    LOSS_TOLERANCE,
    Case,
    Taps,
    assert_gradients,
)


def check_point_peft_mae(case: Case) -> None:
    config, points = case.data["config"], case.cloud()
    model = _model(case)
    query = torch.from_numpy(case.made("cp_feat"))
    label = torch.from_numpy(case.arrays["label"]).long()
    last = config["depth"] - 1
    watched = {f"block{i}": f"tuner.blocks.{i}" for i in (0, 5, 6, last) if i <= last}
    taps = Taps(
        model.adapter,
        patch_tokens="model.backbone.tokenizer.embed",
        local_attn0="tuner.scales.0.local_attention",
        pooled="tuner.blocks.0.out_transform",
        norm="model.backbone.norm",
        **watched,
    )
    logits = model(points, query=query)
    loss = F.cross_entropy(logits, label)
    loss.backward()
    similarity, indices = model.bank.retrieve(query, model.config.num_prompts - 2)
    B = len(points)
    outputs = {
        **_groups(model, points),
        "topk": indices,
        "topk_similarity": similarity,
        "cache_prompt": model.bank.prompt(query, model.config.num_prompts),
        "patch_tokens": taps["patch_tokens"],
        "local_attn0": taps["local_attn0"],
        "pooled0": taps["pooled"].view(B, -1, config["trans_dim"]).transpose(1, 2),
        "norm": taps["norm"],
        "logits": logits,
        **{name: taps[name] for name in watched},
    }
    with torch.no_grad():
        alone = [model(points[b : b + 1], query=query[b : b + 1]) for b in range(B)]
        outputs["logits_alone"] = torch.cat(alone)
        outputs["logits_without_bank"] = _model(case, with_bank=False)(points)
        outputs |= _small_prompts(case, model, points, query)
    compare(case, outputs, known={"label"})
    assert abs(loss.item() / case.loss - 1) <= LOSS_TOLERANCE
    # The gradient of the prompt coordinates passes through near-singular weights.
    assert_gradients(model.adapter, case, POINT_PEFT_MAE, {"prompt_cor": 10 * GRADIENT_TOLERANCE})
    counts = case.data["parameters"]
    _check_counts(case, model, POINT_PEFT_MAE, counts)
    counts.without_effect("by_rule_first_match")  # the trainable ones, name by name
    reached = [
        p for n, p in model.adapter.named_parameters() if p.requires_grad and p.grad is not None
    ]
    stated = counts["trainable_receiving_gradient"]
    assert sum(p.numel() for p in reached if p.grad.any()) <= stated
    assert counts["trainable_receiving_gradient_without_head"] == stated - counts["head"]
    case.check_accuracy(logits, label)
    case.stored("label")


def _model(case: Case, with_bank: bool = True) -> pp.peft.PeftModel:
    config = case.data["config"]
    model = pp.create_model(
        "point_mae",
        num_classes=config["cls_dim"],
        **encoder_settings(config),
        skip_near_origin=True,
    )
    # Published code on one scale reads neither of these.
    case.data["arguments"].without_effect("if_maxmean", "propagate_cof", "center_cof", "ad_cof")
    config.without_effect("if_half")
    settings = pp.PointPeftConfig(
        adapter_dim=config["adapter_config"]["adapter_dim"],
        dropout=config["adapter_config"]["adapter_drop_path_rate"],
        reference_compat=True,
    )
    adapted = pp.get_peft_model(model, settings, _bank(case) if with_bank else None)
    return _filled(adapted, case, POINT_PEFT_MAE)


def _bank(case: Case) -> pp.MemoryBank:
    columns = case.made("memory_bank")
    norms = np.linalg.norm(columns.astype(np.float64), axis=0).astype(np.float32)
    return pp.MemoryBank(torch.from_numpy(columns / norms))


def _filled(adapted: pp.peft.PeftModel, case: Case, layout: Layout) -> pp.peft.PeftModel:
    weights = layout.ours(case.weights())
    report = adapted.adapter.load_state_dict(weights, strict=False)
    assert not report.unexpected_keys
    assert all(name.startswith(("tuner.retriever.", "tuner.bank.")) for name in report.missing_keys)
    return adapted.eval()


def _groups(model: pp.peft.PeftModel, points: torch.Tensor) -> dict[str, torch.Tensor]:
    from pointpeft.models import Geometry
    from pointpeft.ops import farthest_point_sample, gather_points

    backbone, tuner = model.model.backbone, model.tuner
    geometry = Geometry(points, backbone.tokenizer.group(points).centers)
    plain, prompted = (tuner.scales[0].groups(geometry, kind) for kind in (False, True))
    with_prompts = torch.cat([tuner.prompt_centers.expand(len(points), -1, -1), points], dim=1)
    chosen = farthest_point_sample(with_prompts.detach(), geometry.centers.shape[1], True)
    return {
        "center": geometry.centers,
        "center_prompt": gather_points(with_prompts, chosen),
        "idx": plain.neighbors.flatten(),
        "center_idx": plain.centers,
        "idx_prompt": prompted.neighbors.flatten(),
        "center_idx_prompt": prompted.centers,
    }


def _small_prompts(
    case: Case, model: pp.peft.PeftModel, points: torch.Tensor, query: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The run with prompt coordinates at the scale of a fresh model."""
    if "logits_small_prompt" not in case.arrays:
        return {}
    centers = model.tuner.prompt_centers
    kept = centers.data.clone()
    centers.data.mul_(0.02 * 3**0.5)
    logits = model(points, query=query)
    chosen = _groups(model, points)["center_prompt"]
    centers.data.copy_(kept)
    stored = case.arrays["center_prompt_small"].shape[1]  # the first centers only
    return {"logits_small_prompt": logits, "center_prompt_small": chosen[:, :stored]}


def _check_counts(
    case: Case, model: pp.peft.PeftModel, layout: Layout, expected: dict[str, int]
) -> None:
    state = layout.theirs(dict(model.adapter.named_parameters()))
    trainable = {name for name, p in state.items() if p.requires_grad}
    assert trainable == set(case.data["trainable"])
    counts = model.count_parameters()
    for key in ("total", "trainable", "total_without_head", "trainable_without_head"):
        assert counts[key] == expected[key], key
    assert counts["total"] - counts["total_without_head"] == expected["head"]


def check_point_peft_m2ae(case: Case) -> None:
    config, points = case.data["config"], torch.from_numpy(case.made("points"))
    inner, label = config["transformer_config"], torch.tensor(case.data["labels"])
    model = pp.create_model(
        "point_m2ae",
        num_classes=config["cls_dim"],
        pooling="concat_all",
        **scale_settings(
            ChainMap(
                config, inner,
                {"encoder_depths": inner["depths"], "local_radius": inner["masking_radius"]},
            )
        ),
    )  # fmt: skip
    arguments, adapters = case.data["args"], config["adapter_config"]
    config.without_effect("loss", "prompt", "hd_s1")
    inner.without_effect("mask_ratio", "mask_type", "trans_dim", "decoder_depths",
                         "decoder_num_heads")  # fmt: skip
    settings = pp.PointPeftConfig(
        adapter_dim=tuple(adapters["adapter_dim"]),
        output_adapter_dim=8 if config["if_half"] else None,
        dropout=adapters["adapter_drop_path_rate"],
        group_pooling="mean+max" if arguments["if_maxmean"] else "max",
        propagation_coefficient=arguments["propagate_cof"],
        center_coefficient=arguments["center_cof"],
        reference_compat=True,
    )
    layout = point_peft_m2ae(inner["depths"])
    adapted = _filled(pp.get_peft_model(model, settings, _bank(case)), case, layout)
    _check_counts(case, adapted, layout, case.data["params"])
    case.data.without_effect("trainable_by_group")  # the trainable ones, name by name
    assert case.data["batch"] == len(points)
    case.stored("cp_feat")
    ends = {f"scale{s}": scale.blocks[-1] for s, scale in enumerate(model.backbone.scales)}
    starts = {f"first{s}": scale.blocks[0] for s, scale in enumerate(model.backbone.scales)}
    last = model.backbone.scales[-1].blocks[0]
    taps = Taps(
        adapted.adapter,
        encoders0="model.backbone.tokenizers.0",
        attn_first="model.backbone.blocks.0.attn",
        cp_adapter0=f"tuner.blocks.{last}.bank_adapter",
        norm=f"model.backbone.norms.{len(ends) - 1}",
        **{name: f"tuner.blocks.{place}" for name, place in (starts | ends).items()},
    )
    query = _prior(case, points)
    logits = adapted(points, query=query)
    loss = smoothed_cross_entropy(logits, label, config["smooth"])
    with torch.no_grad():
        alone = adapted(points[1:], query=query[1:])
    outputs = {
        **taps.seen,
        "cp_feat2": query,
        "cache_prompt": adapted.bank.prompt(query, adapted.config.num_prompts),
        "logits": logits,
        "logits_sample1_alone": alone,
        "loss": loss.view(1),
    }
    # Features of the finer scales have no use, and are taken over padding too.
    compare(case, outputs, known={"cp_feat0", "cp_feat1"})
    assert abs(loss.item() / case.loss - 1) <= LOSS_TOLERANCE
    # In float32 a near tie of a maximum may go the other way and move gradients by 1e-2.
    logits = adapted.double()(points.double(), query=query.double())
    smoothed_cross_entropy(logits, label, config["smooth"]).backward()
    # That of a gate is a sum of large terms that nearly cancel.
    gates = [name for name in case.data["trainable"] if name.endswith("ad_gate")]
    loose = dict.fromkeys([*gates, "prompt_cor"], 10 * GRADIENT_TOLERANCE)
    assert_gradients(adapted.adapter, case, layout, loose)


def _prior(case: Case, points: torch.Tensor) -> torch.Tensor:
    """Features of the frozen encoder that published retrieval uses, which has its own sizes."""
    config = case.data["cp_config"]
    config.without_effect("mask_ratio", "decoder_depths", "decoder_dims", "decoder_up_blocks")
    encoder = pp.create_model("point_m2ae", **scale_settings(config)).eval()
    manifest = case.data["cp_manifest"].pop_all()
    published = case.recipe.state_dict(manifest, case.data["cp_seed"])
    learned = [n for n in manifest if not n.endswith(("running_mean", "running_var", "_tracked"))]
    count = sum(int(np.prod(manifest[name])) for name in learned)
    assert count == case.data["params"]["cp_model_total"]
    state = point_m2ae_pretrained_layout(config["encoder_depths"]).ours(
        {name: torch.from_numpy(np.asarray(value)) for name, value in published.items()}
    )
    finer = tuple(f"backbone.{prefix}" for prefix in encoder.optional_state)
    encoder.load_state_dict(
        {
            name.removeprefix("backbone."): tensor
            for name, tensor in state.items()
            if name.startswith("backbone.") and not name.startswith(finer)
        }
    )
    with torch.no_grad():
        return published_features(encoder, points)
