"""Parity of I2P-MAE: projection, the CLIP tower, pre-training, features, classification."""

import torch
from torch import nn

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import TEACHER, i2p_mae_pretrained_layout
from pointpeft.compat.pretraining import with_faults
from pointpeft.vision import (
    NUM_VIEWS,
    ClipTeacher,
    RandomTeacher,
    Teacher,
    back_project,
    draw,
    fit_raster,
    to_images,
    view_clouds,
)
from pointpeft.vision.openai_clip import clip_from_openai
from tests.parity.point_m2ae import (
    check_classification_of,
    check_features_of,
    clouds,
    encoder_settings,
    group_outputs,
    scale_outputs,
)
from tests.parity.point_mae import compare
from tests.parity.support import (
    LOSS_TOLERANCE,
    Case,
    Fields,
    Taps,
    assert_array,
    assert_gradients,
)


def pretraining_model(case: Case, teacher: Teacher) -> nn.Module:
    """With the weights of the case, and a teacher that is loaded apart."""
    config = case.data["config"]
    steps = len(config["decoder_depths"])
    settings = encoder_settings(config)
    assert config["decoder_dims"] == list(settings["dims"][::-1][:steps])
    config["clip_config"].without_effect("visual_encoder")
    assert config["clip_config"]["feat_dim"] == teacher.channels
    backbone = pp.create_model("i2p_mae", **settings)
    entry = pp.models.get_entry("i2p_mae")
    own = type(entry.pretraining_config)(
        mask_ratio=config["mask_ratio"],
        decoder_depths=tuple(config["decoder_depths"]),
        decoder_residuals=tuple(config["decoder_up_blocks"][: steps - 1]),
        decoder_num_heads=config["num_heads"],
        reference_compat=True,
    )
    model = with_faults(entry.pretraining, own)(backbone, own, teacher)
    weights = {n: t for n, t in case.weights().items() if not n.startswith(TEACHER)}
    layout = i2p_mae_pretrained_layout(settings["depths"])
    model.load_state_dict(layout.ours(weights), strict=True)
    back = layout.theirs(model.state_dict())
    assert {name: tensor.shape for name, tensor in back.items()} == {
        name: tensor.shape for name, tensor in weights.items()
    }
    return model.eval()


def check_i2p_pretrain(case: Case) -> None:
    model = pretraining_model(case, clip_from_openai(case.weights()))
    check_pretraining_counts(case, model)
    check_tower(case.data["teacher"], model.teacher)
    case.stored("top_mask")
    points, mask = clouds(case), torch.from_numpy(case.arrays["top_mask"]).bool()
    taps = Taps(model, dec_norm="decoder.norm")
    losses = model.losses(points, mask)
    with torch.no_grad():
        views = model.look(points)
        masked = model.encode_visible(points, mask)
        decoded = model.decode(masked)
        saliency = model.saliency(views, masked.levels[-1].centers)
        rec_2d, target_2d = model.rebuild_features(masked, decoded, views)
        rec_3d, _ = model.rebuild(masked, decoded)
    outputs = {
        "loss_3d": losses["reconstruction"].view(1),
        "loss_2d": losses["semantics"].view(1),
        "saliency": saliency,
        "mask_probabilities": saliency.softmax(dim=1),
        "rec_3d": rec_3d,
        "rec_2d": rec_2d,
        "target_2d": target_2d,
        "dec_norm": taps["dec_norm"],
        **scale_outputs(masked),
        **group_outputs(masked, points),
    }
    compare(case, outputs, known={"top_mask"})
    for name, key in (("reconstruction", "loss_3d"), ("semantics", "loss_2d")):
        assert abs(losses[name].item() / case.data[key] - 1) <= LOSS_TOLERANCE
    layout = i2p_mae_pretrained_layout(model.backbone.config.depths)
    model.double()
    losses = model.losses(points.double(), mask)
    losses["reconstruction"].backward(retain_graph=True)
    assert_gradients(model, case, layout, norms_of=without_teacher(case.data["grad_norms_3d"]))
    losses["semantics"].backward()
    assert_gradients(model, case, layout, norms_of=without_teacher(case.data["grad_norms"]))


def check_tower(stated: Fields, teacher: ClipTeacher) -> None:
    """Compare the sizes of the image encoder."""
    config = teacher.network.config
    found = {
        "input_resolution": config.image_size, "patch_size": config.patch_size,
        "width": config.hidden_size, "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads, "output_dim": config.projection_dim,
    }  # fmt: skip
    assert stated.pop_all() == found


def without_teacher(norms: Fields) -> Fields:
    """Gradients by name; those of the teacher must be none."""
    norms = norms.pop_all()
    assert not any(norms[name] for name in norms if name.startswith(TEACHER))
    return Fields({name: norm for name, norm in norms.items() if not name.startswith(TEACHER)})


def check_pretraining_counts(case: Case, model: nn.Module) -> None:
    counts = case.data["params"]
    assert sum(p.numel() for p in model.parameters()) == counts["without_teacher"]
    tower = sum(p.numel() for p in model.teacher.network.parameters())
    assert tower == counts["teacher_visual"]


def check_i2p_svm_features(case: Case) -> None:
    channels = case.data["config"]["clip_config"]["feat_dim"]
    model = pretraining_model(case, RandomTeacher(channels=channels))
    check_features_of(case, model)


def check_i2p_classification(case: Case) -> None:
    width = case.data["manifest"]["cls_head_finetune.0.weight"][1]
    summed = width == case.data["config"]["encoder_dims"][-1]
    check_classification_of(case, "i2p_mae", "mean+max" if summed else "concat_all")


def check_i2p_projection(case: Case) -> None:
    case.stored("back_projected_points")
    points = torch.from_numpy(case.made("points"))
    maps = torch.from_numpy(case.made("feature_map"))
    views = view_clouds(points)
    raster = fit_raster(views, 224)
    back = back_project(maps.repeat(NUM_VIEWS, 1, 1, 1), raster, views[:, :400])

    def by_view(values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(0, (NUM_VIEWS, -1))

    outputs = {
        "images": by_view(to_images(draw(views, raster))),
        "back": by_view(back),
        "grid_size": by_view(raster.cell.flatten()),
        "pc_min": by_view(raster.lowest.squeeze(1)),
        "offsets": by_view(raster.shift.squeeze(1)).float(),
        "pixel": by_view(raster.pixels(views)),
    }
    compare(case, outputs, known=set())


def check_clip_visual(case: Case) -> None:
    weights = case.weights()
    teacher = clip_from_openai(weights)
    assert isinstance(teacher, ClipTeacher)
    assert sum(p.numel() for p in teacher.network.parameters()) == case.data["params"]["total"]
    case.data["params"].without_effect("trainable")  # of the published module; it never learns
    check_tower(case.data["config"], teacher)
    images = torch.from_numpy(case.made("images"))
    seen = teacher(images)
    with torch.no_grad():
        tokens, attention = teacher.encode(images)
        patches = teacher.network.vision_model.embeddings.patch_embedding(images)
    outputs = {
        "features": seen.features,
        "saliency": seen.saliency.flatten(1),
        "cls_embed": tokens[:, 0],
        "patch_embed": patches,
    }
    compare(case, outputs, known={"attention_rows"})
    # The row of the class token; no other is computed.
    assert_array(attention, case.arrays["attention_rows"][:, 0], "attention_rows")
