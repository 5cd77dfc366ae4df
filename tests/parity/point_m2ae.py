"""Parity of Point-M2AE: pre-training, features for SVMs, classification, part segmentation."""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    point_m2ae_classification_layout,
    point_m2ae_pretrained_layout,
    point_m2ae_segmentation_layout,
)
from pointpeft.compat.pretraining import published_features
from tests.parity.point_mae import compare
from tests.parity.support import (
    LOSS_TOLERANCE,
    Case,
    Taps,
    assert_gradients,
    load_weights,
)


def encoder_settings(config: Mapping) -> dict:
    """Our names for the published settings of an encoder."""
    config.get("NAME")
    return {
        "num_groups": tuple(config["num_groups"]),
        "group_sizes": tuple(config["group_sizes"]),
        "dims": tuple(config["encoder_dims"]),
        "depths": tuple(config["encoder_depths"]),
        "local_radius": tuple(config["local_radius"]),
        "num_heads": config["num_heads"],
        "drop_path": config.get("drop_path_rate", 0.1),
        "skip_near_origin": True,
    }


def pretraining_model(case: Case) -> nn.Module:
    config = case.data["config"]
    steps = len(config["decoder_depths"])
    settings = encoder_settings(config)
    assert config["decoder_dims"] == list(settings["dims"][::-1][:steps])
    model = pp.create_model(
        "point_m2ae",
        task="pretraining",
        **settings,
        mask_ratio=config["mask_ratio"],
        decoder_depths=tuple(config["decoder_depths"]),
        # The published list has one entry too many, the last.
        decoder_residuals=tuple(config["decoder_up_blocks"][: steps - 1]),
        decoder_num_heads=config["num_heads"],
        reference_compat=True,
    )
    load_weights(model, case, point_m2ae_pretrained_layout(settings["depths"]))
    case.check_count(model, idle=("backbone.norms.",))
    return model.eval()


def clouds(case: Case) -> torch.Tensor:
    return torch.from_numpy(case.made("points"))


def check_m2ae_pretrain(case: Case) -> None:
    model, points = pretraining_model(case), clouds(case)
    mask = torch.from_numpy(case.arrays["top_mask"]).bool()
    taps = Taps(
        model,
        dec0=f"decoder.stages.0.{case.data['config']['decoder_depths'][0] - 1}",
        token_prop="decoder.propagations.0",
        dec_norm="decoder.norm",
    )
    case.stored("top_mask")
    loss = model(points, mask)
    masked = model.encode_visible(points, mask)
    rebuilt, _ = model.rebuild(masked)
    # Published: the visible tokens of a cloud, then the hidden ones.
    order = mask.to(torch.uint8).argsort(dim=1, stable=True).unsqueeze(-1)
    dec0 = taps["dec0"]
    outputs = {
        "loss": loss.view(1),
        "rec": rebuilt,
        "dec0": dec0.gather(1, order.expand_as(dec0)),
        "dec_norm": taps["dec_norm"],
        "token_prop": taps["token_prop"],
        **scale_outputs(masked),
        **group_outputs(masked, points),
    }
    compare(case, outputs, known={"top_mask"})
    assert abs(loss.item() / case.loss - 1) <= LOSS_TOLERANCE
    # In float32 a near tie of a maximum may go the other way and move gradients by 1e-3.
    model.double()(points.double(), mask).backward()
    assert_gradients(model, case, point_m2ae_pretrained_layout(model.backbone.config.depths))


def scale_outputs(masked) -> dict[str, torch.Tensor]:
    """Masks, and the tokens that are left visible, of every scale."""
    outputs = {}
    for s, scale in enumerate(masked.scales):
        outputs[f"enc{s}"] = scale.tokens[~scale.hidden]
        outputs[f"mask{s}"] = scale.hidden.to(torch.uint8)
    return outputs


def group_outputs(masked, points: torch.Tensor) -> dict[str, torch.Tensor]:
    """Centers, and places of members, which are published as places in the whole batch."""
    outputs, parents = {}, points.shape[1]
    for s, level in enumerate(masked.levels):
        offsets = parents * torch.arange(len(points)).view(-1, 1, 1)
        outputs[f"centers{s}"], outputs[f"idx{s}"] = level.centers, level.indices + offsets
        parents = level.centers.shape[1]
    return outputs


def check_m2ae_svm_features(case: Case) -> None:
    check_features_of(case, pretraining_model(case))


def check_features_of(case: Case, model: nn.Module) -> None:
    points = clouds(case)
    last = len(case.data["config"]["num_groups"]) - 1
    nothing = torch.zeros_like(torch.from_numpy(case.arrays[f"mask{last}"])).bool()
    with torch.no_grad():
        features = published_features(model.backbone, points)
        outputs = scale_outputs(model.encode_visible(points, nothing))
        corrected = model.backbone.retrieval_features(points)
    outputs["features"] = features
    outputs[f"enc{last}"] = outputs[f"enc{last}"].view(len(points), -1, features.shape[1])
    compare(case, outputs, known=set())
    # Ours keeps the few tokens that the published one drops, which changes little.
    assert (corrected - features).norm() < 0.05 * features.norm()


def check_m2ae_classification(case: Case) -> None:
    # ScanObjectNN's model pools differently, as its head shows.
    head = case.data["manifest"]["cls_head_finetune.0.weight"][1]
    summed = head == case.data["config"]["encoder_dims"][-1]
    check_classification_of(case, "point_m2ae", "mean+max" if summed else "concat")


def check_classification_of(case: Case, name: str, pooling: str) -> None:
    config, points = case.data["config"], clouds(case)
    model = pp.create_model(
        name,
        num_classes=case.data["manifest"]["cls_head_finetune.8.weight"][0],
        **encoder_settings(config),
        pooling=pooling,
    )
    layout = point_m2ae_classification_layout(config["encoder_depths"])
    load_weights(model, case, layout)
    case.check_count(model)
    model.eval()
    first, last = config["encoder_depths"][0], len(config["encoder_depths"]) - 1
    taps = Taps(
        model,
        norm=f"backbone.norms.{last}",
        block0=f"backbone.blocks.{first - 1}",
        **{f"token_embed{s}": f"backbone.tokenizers.{s}" for s in range(last + 1)},
    )
    logits = model(points)
    label = torch.tensor(case.data["labels"])
    loss = smoothed_cross_entropy(logits, label, config.get("smooth", 0.0))
    names = ("norm", "block0", *(f"token_embed{s}" for s in range(last + 1)))
    outputs = {"logits": logits, "loss": loss.view(1), **{name: taps[name] for name in names}}
    compare(case, outputs, known=set())
    assert abs(loss.item() / case.loss - 1) <= LOSS_TOLERANCE
    loss.backward()
    assert_gradients(model, case, layout)


def smoothed_cross_entropy(
    logits: torch.Tensor, label: torch.Tensor, smooth: float
) -> torch.Tensor:
    """Published smoothing: 1 - s on the label, s / (n - 1) on each of the others."""
    others = smooth / (logits.shape[1] - 1)
    target = torch.full_like(logits, others).scatter(1, label.view(-1, 1), 1 - smooth)
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()


def check_m2ae_part_segmentation(case: Case) -> None:
    config, points = case.data["config"], clouds(case)
    model = pp.create_model(
        "point_m2ae", preset="shapenetpart", num_parts=config["cls_dim"], **encoder_settings(config)
    )
    layout = point_m2ae_segmentation_layout(config["encoder_depths"])
    load_weights(model, case, layout)
    case.check_count(model)
    model.eval()
    scales = range(len(config["encoder_depths"]))
    taps = Taps(
        model,
        label_feature="category",
        **{f"enc{s}": f"backbone.norms.{s}" for s in scales},
        **{f"propagation{s}": f"propagations.{s}" for s in scales},
    )
    case.stored("cls_label")
    log_probs = model(points, torch.tensor(case.data["category_index"])).log_softmax(dim=-1)
    loss = F.nll_loss(log_probs.flatten(0, 1), part_labels(case).flatten())
    outputs = {
        "log_probs": log_probs,
        "loss": loss.view(1),
        "label_feature": taps["label_feature"].unsqueeze(-1),
        **{f"enc{s}": taps[f"enc{s}"].transpose(1, 2) for s in scales},
        **{f"propagation{s}": taps[f"propagation{s}"].transpose(1, 2) for s in scales},
    }
    compare(case, outputs, known=set())
    assert abs(loss.item() / case.loss - 1) <= LOSS_TOLERANCE
    loss.backward()
    assert_gradients(model, case, layout)


def part_labels(case: Case) -> torch.Tensor:
    """Labels described as ``numpy RandomState(seed).randint(0, parts, (B, N))`` in the JSON."""
    match = re.search(
        r"RandomState\((\d+)\)\.randint\((\d+), (\d+), \((\d+), (\d+)\)\)",
        case.data["inputs"]["target"],
    )
    seed, low, high, *shape = map(int, match.groups())
    return torch.from_numpy(np.random.RandomState(seed).randint(low, high, shape))
