"""Parity of PCP-MAE: pre-training with predicted centers, and classification."""

from collections import ChainMap
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import PCP_MAE_CLASSIFICATION, PCP_MAE_PRETRAINED
from pointpeft.compat.schedule import published_groups
from pointpeft.models.checkpoint import Layout
from pointpeft.models.pcp_mae import position_code
from pointpeft.models.point_mae_pretraining import mask_patches
from tests.parity.point_mae import compare, encoder_settings
from tests.parity.support import (
    GRADIENT_TOLERANCE,
    Case,
    Fields,
    Taps,
    assert_gradients,
    assert_loss,
    load_weights,
)
from tests.parity.tuned import watch

CENTER_LOSSES = {"l2": "l2", "l1": "l1", "sml1": "smooth_l1", "cos": "cosine"}
CHAMFER = {"cdl2": "l2", "cdl1": "l1"}


def check_pcp_pretrain(case: Case) -> None:
    model = _pretraining(case)
    taps = Taps(
        model,
        tokens="backbone.tokenizer.embed",
        decoder_output="decoder",
    )
    seen: dict[str, Any] = {}
    watch(model.decoder, seen, lambda args, _: {"decoder_positions": args[1]})
    watch(model.backbone.blocks[1].norm1, seen, lambda args, _: {"block1_input": args[0]})
    case.stored("mask")
    case.data.without_effect("knn_check")
    points, mask = case.cloud(), torch.from_numpy(case.arrays["mask"]).bool()
    terms = _terms(model, points, mask)
    masked = mask_patches(model.backbone, points, mask, model.pretraining_config)
    encoded = model.encode(points, masked)
    codes = model.predict_codes(encoded)
    unknown = model.mask_pos_token.expand_as(encoded.hidden)
    behind = seen["block1_input"] - torch.cat([encoded.positions, unknown], dim=1)
    visible, hidden = behind.tensor_split((masked.visible.shape[1],), dim=1)
    true = position_code(masked.centers[mask].view(*masked.hidden.shape, 3), codes.shape[-1])
    outputs = {
        "center": masked.centers,
        "patch_tokens": taps["tokens"],
        "block0_visible": visible,
        "block0_masked": hidden,
        "encoder_output": encoded.visible,
        "masked_output": encoded.hidden,
        "predicted_code": codes,
        "target_code": true,
        "decoder_positions": seen["decoder_positions"],
        "decoder_output": taps["decoder_output"],
        "reconstructed": model.rebuild(encoded, codes),
        "target": masked.target(),
    }
    compare(case, outputs, known={"mask"})
    _check_terms(terms, case.data["scalars"])
    terms["loss"].backward()
    assert_gradients(model, case, PCP_MAE_PRETRAINED)
    alone = [_terms(model, points[i : i + 1], mask[i : i + 1])["loss"] for i in range(len(points))]
    _check_alone(case, torch.stack(alone).mean(), terms["loss"])
    for name, count in case.data["parameters"].pop_all().items():
        prefix = "" if name == "total" else name
        assert count == sum(p.numel() for p in _named(model, PCP_MAE_PRETRAINED, prefix)), name
    _check_groups(case, model)
    variants = case.data["variants"]["settings"]
    for setting in variants:
        _check_variant(case, setting, variants[setting])
    case.data["variants"].without_effect("about")


def _pretraining(case: Case, **changed: Any) -> Any:
    config = case.data["config"]
    t = config["transformer_config"]
    model = pp.create_model(
        "pcp_mae",
        task="pretraining",
        **encoder_settings(ChainMap(config, t)),
        mask_ratio=t["mask_ratio"],
        mask_type={"rand": "random"}.get(t["mask_type"], "block"),
        decoder_depth=t["decoder_depth"],
        decoder_num_heads=t["decoder_num_heads"],
        skip_near_origin=True,
        **{
            "loss": CHAMFER[config["loss"]],
            "center_loss": CENTER_LOSSES[config["pred_loss"]],
            "centers": config["ita"],
            "center_depth": config["pred_pos_transformer_layer"],
            "detach_centers": config["add_detach"],
        }
        | changed,
    )
    load_weights(model, case, PCP_MAE_PRETRAINED)
    return model


def _terms(model: Any, points: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The losses by their published names."""
    terms = model.losses(points, mask)
    weighted = model.pretraining_config.centers * terms["centers"]
    return {"loss": model(points, mask), "loss1": terms["reconstruction"], "loss2": weighted}


def _check_terms(terms: dict[str, Tensor], stated: Fields) -> None:
    assert terms.keys() == stated.keys()
    for name in terms:
        assert_loss(terms[name], stated[name])


def _check_variant(case: Case, setting: str, expected: Fields) -> None:
    """The case with one setting changed, ``key=value`` in published words."""
    key, _, value = setting.partition("=")
    changed: dict[str, Any] = {
        "add_detach": {"detach_centers": value == "True"},
        "pred_loss": {"center_loss": CENTER_LOSSES.get(value)},
        "loss": {"loss": CHAMFER.get(value)},
    }[key]
    model = _pretraining(case, **changed)
    terms = _terms(model, case.cloud(), torch.from_numpy(case.arrays["mask"]).bool())
    _check_terms(terms, expected["scalars"])
    terms["loss"].backward()
    stated = expected["grad_norms"].pop_all()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    norms = {n: g.norm().item() for n, g in PCP_MAE_PRETRAINED.theirs(gradients).items()}
    largest = max(stated.values())
    for name, norm in stated.items():
        assert abs(norms[name] - norm) <= GRADIENT_TOLERANCE * norm + 1e-6 * largest, name


def check_pcp_classification(case: Case) -> None:
    config = case.data["config"]
    assert config["type"] == "full", "the whole network is trained"
    model = pp.create_model(
        "pcp_mae", num_classes=config["cls_dim"], **encoder_settings(config), skip_near_origin=True
    )
    load_weights(model, case, PCP_MAE_CLASSIFICATION)
    last = config["depth"] - 1
    taps = Taps(
        model,
        patch_tokens="backbone.tokenizer.embed",
        pos="backbone.pos_embed",
        block0="backbone.blocks.0",
        **{f"block{last}": f"backbone.blocks.{last}"},
        norm="backbone.norm",
    )
    seen: dict[str, Any] = {}
    watch(model.head, seen, lambda args, _: {"feature": args[0]})
    flags: list[list[bool]] = []
    hooks = [
        block.register_forward_hook(
            lambda _, args, output: flags.append([args[0].requires_grad, output.requires_grad])
        )
        for block in model.backbone.blocks
    ]
    case.stored("label")
    case.data.without_effect("knn_check")
    points, label = case.cloud(), torch.from_numpy(case.arrays["label"]).long()
    logits = model(points)
    for hook in hooks:
        hook.remove()
    loss = F.cross_entropy(logits, label)
    centers = model.backbone.tokenizer.group(points).centers
    outputs = {
        "center": centers,
        "pos_code": position_code(centers, model.backbone.num_features),
        **taps.seen,
        **seen,
        "logits": logits,
        "logits_alone": torch.cat([model(cloud) for cloud in points.split(1)]),
    }
    _check_alone(case, outputs["logits_alone"], logits)
    loss.backward()
    outputs |= _batch_statistics(model, points, taps)
    compare(case, outputs, known={"label"})
    assert_loss(loss, case.loss)
    assert_gradients(model, case, PCP_MAE_CLASSIFICATION)
    norms = torch.stack([p.grad.norm() for p in model.parameters()])
    stated = case.data["scalars"]["grad_norm_all_parameters"]
    assert abs(norms.norm().item() / stated - 1) < GRADIENT_TOLERANCE
    case.check_accuracy(logits, label)
    assert flags == case.data["block_needs_gradient"]["blocks"]
    case.data["block_needs_gradient"].without_effect("about")
    _check_counts(case, model)
    _check_groups(case, model)


def _batch_statistics(model: Any, points: Tensor, taps: Taps) -> dict[str, Tensor]:
    """Of a pass in which the BatchNorm of the mini-PointNet alone trains."""
    taps.clear()
    embed = model.backbone.tokenizer.embed.train()
    with torch.no_grad():
        model(points)
    return {
        "norm_bn_train": taps["norm"],
        "bn_running_mean_after": embed.first_conv[1].running_mean,
        "bn_running_var_after": embed.first_conv[1].running_var,
    }


def _check_counts(case: Case, model: nn.Module) -> None:
    trained = PCP_MAE_CLASSIFICATION.theirs(dict(model.named_parameters()))
    assert set(case.data["trainable"]) == set(trained)
    head = sum(p.numel() for p in _named(model, PCP_MAE_CLASSIFICATION, "cls_head_finetune."))
    total = sum(p.numel() for p in model.parameters())
    counts = case.data["parameters"].pop_all()
    found = {"total": total, "total_without_head": total - head, "head": head}
    assert counts == found | {"trainable": total, "trainable_without_head": total - head}


def _named(model: nn.Module, layout: Layout, prefix: str) -> list[Tensor]:
    """Parameters whose published names begin with ``prefix``."""
    published = layout.theirs(dict(model.named_parameters()))
    return [tensor for name, tensor in published.items() if name.startswith(prefix)]


def _check_groups(case: Case, model: nn.Module) -> None:
    """The groups of the optimizer: the head first there, last here."""
    stated = [group.pop_all() if isinstance(group, Fields) else group
              for group in case.data["optimizer_groups"]["groups"]]  # fmt: skip
    case.data["optimizer_groups"].without_effect("about")
    plain, decayed, head = published_groups(model, stated[2]["weight_decay"], head_apart=True)
    lr = stated[1]["lr"]
    assert stated == [
        {
            "lr": pytest.approx(factor * lr),
            "weight_decay": group["weight_decay"],
            "tensors": len(group["params"]),
            "parameters": sum(p.numel() for p in group["params"]),
        }
        for factor, group in ((10, head), (1, plain), (1, decayed))
    ]


def _check_alone(case: Case, alone: Tensor, together: Tensor) -> None:
    """An output does not depend on its batch, beyond rounding."""
    limit = max(case.data["alone_max_difference"], 1e-6) * 10
    assert (alone - together).abs().max().item() <= limit * max(1.0, together.abs().max().item())
