"""Parity of Point-BERT: tokenizer, pre-training, classification, part segmentation."""

from collections import ChainMap
from collections.abc import Mapping

import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    POINT_BERT_CLASSIFICATION,
    POINT_BERT_PRETRAINED,
    POINT_BERT_SEGMENTATION,
    POINT_BERT_TOKENIZER,
)
from tests.parity.point_m2ae import smoothed_cross_entropy
from tests.parity.point_mae import compare, encoder_settings
from tests.parity.support import Case, Taps, assert_gradients, assert_loss, load_weights, part_loss


def settings(config: Mapping) -> dict:
    return {
        **encoder_settings(config, embedded=True),
        "embed_dim": config["encoder_dims"],
        "skip_near_origin": True,
    }


def check_bert_classification(case: Case) -> None:
    config, scalars = case.data["config"], case.data["scalars"]
    model = pp.create_model("point_bert", num_classes=config["cls_dim"], **settings(config))
    load_weights(model, case, POINT_BERT_CLASSIFICATION)
    taps = Taps(
        model,
        patch_tokens="backbone.tokenizer.embed",
        reduced="backbone.tokenizer.project",
        norm="backbone.norm",
    )
    points = case.cloud()
    logits = model(points)
    outputs = {
        "center": model.backbone.tokenizer.group(points).centers,
        **{name: taps[name] for name in ("patch_tokens", "reduced", "norm")},
        "logits": logits,
    }
    compare(case, outputs, known={"label"})
    labels = torch.from_numpy(case.arrays["label"])
    loss = F.cross_entropy(logits, labels)
    assert_loss(loss, scalars["loss"])
    smoothed = smoothed_cross_entropy(logits, labels, 0.2)
    assert_loss(smoothed, scalars["loss_smoothed"])
    case.check_accuracy(logits, labels)
    case.check_count(model)
    case.stored("label")
    loss.backward()
    assert_gradients(model, case, POINT_BERT_CLASSIFICATION)


def check_bert_tokenizer(case: Case) -> None:
    config, scalars = case.data["config"], case.data["scalars"]
    model = pp.create_model(
        "point_bert_dvae",
        num_groups=config["num_group"],
        group_size=config["group_size"],
        embed_dim=config["encoder_dims"],
        num_tokens=config["num_tokens"],
        token_dim=config["tokens_dims"],
        decoder_dim=config["decoder_dims"],
        skip_near_origin=True,
    )
    load_weights(model, case, POINT_BERT_TOKENIZER)
    taps = Taps(model, patch_tokens="embed", feature="contextualise")
    patches = model.group(case.cloud())
    soft = model.reconstruct(patches, case.data["temperature"], noise=False)
    feature = taps["feature"]
    whole = (soft.fine + patches.centers.unsqueeze(2)).flatten(1, 2)
    hard = model.reconstruct(patches, 1.0, hard=True, noise=False)
    tokens = torch.from_numpy(case.arrays["tokens"]).long()
    fixed = model.decode(F.one_hot(tokens, config["num_tokens"]).float(), patches.centers)
    outputs = {
        "center": patches.centers,
        "patch_tokens": taps["patch_tokens"],
        "logits": soft.logits,
        "argmax": model.tokens(patches),
        "feature": feature,
        "coarse": soft.coarse,
        "fine": soft.fine,
        "whole_fine": whole,
        "hard_coarse": hard.coarse,
        "hard_fine": hard.fine,
        "onehot_coarse": fixed[0],
        "onehot_fine": fixed[1],
    }
    compare(case, outputs, known={"tokens"})
    config.get("NAME")
    case.stored("tokens")
    case.check_count(model)
    losses = model.losses_of(soft, patches.neighborhoods)
    hard_losses = model.losses_of(hard, patches.neighborhoods)
    assert_loss(losses["reconstruction"], scalars["recon"])
    assert_loss(losses["divergence"], scalars["kl"])
    assert_loss(hard_losses["reconstruction"], scalars["recon_hard"])
    assert_loss(hard_losses["divergence"], scalars["kl_hard"])
    loss = losses["reconstruction"] + case.data["kl_weight"] * losses["divergence"]
    assert_loss(loss, scalars["loss"])
    loss.backward()
    assert_gradients(model, case, POINT_BERT_TOKENIZER)


def check_bert_pretrain(case: Case) -> None:
    config, scalars = case.data["config"], case.data["scalars"]
    t, d = config["transformer_config"], config["dvae_config"]
    model = pp.create_model(
        "point_bert",
        task="pretraining",
        **settings(ChainMap(t, d)),
        mask_ratio=tuple(t["mask_ratio"]),
        replace_probability=t["replace_pob"],
        feature_dim=t["cls_dim"],
        moco_loss=t["moco_loss"],
        token_loss=t["dvae_loss"],
        mix_loss=t["cutmix_loss"],
        all_tokens=t["return_all_tokens"],
        momentum=config["m"],
        temperature=config["T"],
        queue_size=config["K"],
        num_tokens=d["num_tokens"],
        token_dim=d["tokens_dims"],
        decoder_dim=d["decoder_dims"],
    )
    config.without_effect("NAME")
    d.without_effect("ckpt")
    case.stored("masks", "mixup_ratio", "mixup_uniform", "queue", "note")
    load_weights(model, case, POINT_BERT_PRETRAINED)
    queue = torch.from_numpy(case.recipe.tensor("queue", model.queue.shape, case.data["seed"]))
    model.queue.copy_(queue / queue.norm(dim=0))
    model.queue_ptr.zero_()
    heads: list[torch.Tensor] = []
    keys, encoded = [], []
    model.cls_head.register_forward_hook(lambda m, i, out: heads.append(out))
    model.key.cls_head.register_forward_hook(lambda m, i, out: keys.append(out))
    model.backbone.norm.register_forward_hook(lambda m, i, out: encoded.append(out))
    points, a = case.cloud(), case.arrays
    masks = tuple(torch.from_numpy(mask) for mask in a["masks"])
    mix = (torch.from_numpy(a["mixup_ratio"]), torch.from_numpy(a["mixup_uniform"]))
    model.move_key_network()
    losses = model.losses(points, masks, mix)
    model.enqueue(F.normalize(keys[0], dim=1))
    outputs = {
        "dvae_label": model.dvae.tokens(model.backbone.tokenizer.group(points)),
        "q_cls": heads[0],
        "mix_cls": heads[1],
        "k_cls": keys[0],
        "q_logits": model.lm_head(encoded[0][:, 1:]),
        "queue_head": model.queue[:, :4],
        "k_weight": model.key.backbone.blocks[0].attn.qkv.weight,
    }
    compare(case, outputs, known={"masks", "mixup_ratio", "mixup_uniform"})
    terms = {"loss1": ("moco", "token", "mixed_token"), "loss2": ("mix",)}
    assert losses.keys() <= {name for names in terms.values() for name in names}
    for total, names in terms.items():
        found = [losses[name] for name in names if name in losses]
        if found or scalars[total]:
            assert_loss(torch.stack(found).sum(), scalars[total])
    assert int(model.queue_ptr) == scalars["queue_ptr"]
    case.check_count(model)
    sum(losses.values()).backward()
    assert_gradients(model, case, POINT_BERT_PRETRAINED)


def check_bert_part_segmentation(case: Case) -> None:
    config = case.data["config"]
    model = pp.create_model(
        "point_bert", preset="shapenetpart", num_parts=config["cls_dim"], **settings(config)
    )
    load_weights(model, case, POINT_BERT_SEGMENTATION)
    taps = Taps(
        model,
        reduced="backbone.tokenizer.project",
        prop0="propagations.0",
        prop1="propagations.1",
        prop2="propagations.2",
        dgcnn1="graphs.0",
        dgcnn2="graphs.1",
    )
    points = case.cloud()
    category = torch.from_numpy(case.arrays["shape_label"])
    log_probs = model(points, category).log_softmax(dim=-1)
    outputs = {
        "center": model.backbone.tokenizer.group(points).centers,
        "reduced": taps["reduced"],
        **{name: taps[name].transpose(1, 2) for name in taps.seen if name != "reduced"},
        "log_probs": log_probs,
    }
    compare(case, outputs, known={"shape_label", "label"})
    loss = part_loss(log_probs, case)
    assert_loss(loss, case.loss)
    case.check_count(model)
    case.stored("shape_label", "label")
    loss.backward()
    # Small ones, of many terms that cancel: they hang on the kernels of the CPU.
    assert_gradients(
        model, case, POINT_BERT_SEGMENTATION, loose=dict.fromkeys(("cls_token", "cls_pos"), 3e-3)
    )
