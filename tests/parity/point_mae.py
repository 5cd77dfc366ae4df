"""Parity of Point-MAE: pre-training and classification."""

from collections import ChainMap
from collections.abc import Mapping

import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    POINT_MAE_CLASSIFICATION,
    POINT_MAE_PRETRAINED,
    POINT_MAE_SEGMENTATION,
)
from tests.parity.support import (
    Case,
    Taps,
    assert_array,
    assert_gradients,
    assert_loss,
    load_weights,
    part_loss,
)


def encoder_settings(config: Mapping, embedded: bool = False) -> dict:
    """Our names for the published settings of an encoder.

    Unless a projection follows (``embedded``), patches have the channels of a token.
    """
    config.get("NAME")
    assert embedded or config.get("encoder_dims") in (None, config["trans_dim"])
    return {
        "num_groups": config["num_group"],
        "group_size": config["group_size"],
        "dim": config["trans_dim"],
        "depth": config["depth"],
        "num_heads": config["num_heads"],
        "drop_path": config["drop_path_rate"],
    }


def check_pretrain(case: Case) -> None:
    config = case.data["config"]
    t = config["transformer_config"]
    model = pp.create_model(
        "point_mae",
        task="pretraining",
        **encoder_settings(ChainMap(config, t)),
        mask_ratio=t["mask_ratio"],
        mask_type={"rand": "random"}.get(t["mask_type"], "block"),
        decoder_depth=t["decoder_depth"],
        decoder_num_heads=t["decoder_num_heads"],
        loss={"cdl2": "l2", "cdl1": "l1"}[config["loss"]],
        skip_near_origin=True,
    )
    load_weights(model, case, POINT_MAE_PRETRAINED)
    taps = Taps(
        model,
        tokens="backbone.tokenizer.embed",
        encoder_output="backbone.norm",
        decoder_output="decoder",
    )
    case.stored("mask")
    points, mask = case.cloud(), torch.from_numpy(case.arrays["mask"]).bool()
    loss = model(points, mask)
    visible = model.encode_visible(points, mask)
    rebuilt = model.rebuild(visible)
    outputs = {
        "center": model.backbone.tokenizer.group(points).centers,
        "patch_tokens": taps["tokens"],
        "encoder_output": taps["encoder_output"],
        "decoder_output": taps["decoder_output"],
        "reconstructed": rebuilt,
        "target": visible.target,
    }
    compare(case, outputs, known={"mask"})
    assert_loss(loss, case.loss)
    case.check_count(model)
    loss.backward()
    assert_gradients(model, case, POINT_MAE_PRETRAINED)


def check_classification(case: Case) -> None:
    config = case.data["config"]
    model = pp.create_model(
        "point_mae",
        num_classes=config["cls_dim"],
        **encoder_settings(config),
        skip_near_origin=True,
    )
    load_weights(model, case, POINT_MAE_CLASSIFICATION)
    taps = Taps(
        model,
        patch_tokens="backbone.tokenizer.embed",
        block0="backbone.blocks.0",
        norm="backbone.norm",
    )
    case.stored("label")
    points, label = case.cloud(), torch.from_numpy(case.arrays["label"]).long()
    logits = model(points)
    loss = F.cross_entropy(logits, label)
    outputs = {
        "center": model.backbone.tokenizer.group(points).centers,
        "norm": taps["norm"],
        "logits": logits,
    }
    loss.backward()
    if "norm_bn_train" in case.arrays:
        taps.clear()
        embed = model.backbone.tokenizer.embed.train()
        model(points)
        outputs["norm_bn_train"] = taps["norm"]
        outputs["bn_running_mean_after"] = embed.first_conv[1].running_mean
        outputs["bn_running_var_after"] = embed.first_conv[1].running_var
    # In these files the inner taps are those of the last pass, which used batch statistics.
    outputs |= {"patch_tokens": taps["patch_tokens"], "block0": taps["block0"]}
    compare(case, outputs, known={"label"})
    assert_loss(loss, case.loss)
    assert_gradients(model, case, POINT_MAE_CLASSIFICATION)
    case.check_accuracy(logits, label)
    case.check_count(model)


def compare(case: Case, outputs: dict[str, torch.Tensor], known: set[str]) -> None:
    """Compare every stored array; one without a counterpart fails."""
    for name, expected in case.arrays.items():
        if name not in known:
            assert name in outputs, f"no output to compare with the stored array {name!r}"
            assert_array(outputs[name], expected, name)


def check_part_segmentation(case: Case) -> None:
    config = case.data["config"]
    model = pp.create_model(
        "point_mae",
        preset="shapenetpart",
        num_parts=config["cls_dim"],
        num_categories=config["num_shapes"],
        **encoder_settings(config),
    )
    load_weights(model, case, POINT_MAE_SEGMENTATION)
    last = config["depth"] - 1
    fetched = [place - 1 for place in (config["depth"] // 3, 2 * config["depth"] // 3, last + 1)]
    assert config["fetch"] == fetched, "other blocks than ours are read"
    case.stored("shape_label", "label")
    case.check_count(model)
    taps = Taps(
        model,
        patch_tokens="backbone.tokenizer.embed",
        block11=f"backbone.blocks.{last}",
        label_feature="category",
        propagated="propagation",
    )
    points = case.cloud()
    category = torch.from_numpy(case.arrays["shape_label"])
    log_probs = model(points, category).log_softmax(dim=-1)
    outputs = {
        "center": model.backbone.tokenizer.group(points).centers,
        "patch_tokens": taps["patch_tokens"],
        "block11": taps["block11"],
        "label_feature": taps["label_feature"].unsqueeze(-1),
        "propagated": taps["propagated"].transpose(1, 2),
        "log_probs": log_probs,
    }
    compare(case, outputs, known={"shape_label", "label"})
    loss = part_loss(log_probs, case)
    assert_loss(loss, case.loss)
    loss.backward()
    assert_gradients(model, case, POINT_MAE_SEGMENTATION)
