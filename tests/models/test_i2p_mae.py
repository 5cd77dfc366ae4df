"""I2P-MAE: what it adds to Point-M2AE, on tiny networks with the random teacher."""

import logging

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import (
    i2p_mae_pretrained_layout,
    point_m2ae_classification_layout,
    point_m2ae_pretrained_layout,
)
from pointpeft.compat.checkpoints.checkpoint_reader import load_into
from pointpeft.compat.checkpoints.layouts import LAYOUTS
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models import get_entry
from pointpeft.models.checkpoint import recognise
from pointpeft.models.i2p_mae import I2PMAEPretraining, I2PMAEPretrainingConfig
from pointpeft.models.masking import salience_mask
from pointpeft.vision import NUM_VIEWS, RandomTeacher, Seen, Teacher, view_clouds
from tests.models.tiny import FOUR, TWO, clouds, settle, tiny

MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0], [0, 1, 0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 1, 1]])
CHANNELS = 5  # of the tiny teacher


def i2p(task="features", **settings):
    return tiny(task, "i2p_mae", **settings)


@pytest.fixture
def mask():
    return MASK.bool()


class Spotlight(Teacher):
    """Looks at the upper half of every image alone, and sees its rows and columns."""

    def __init__(self, strength=1.0):
        super().__init__(torch.nn.Linear(1, 1), 32, 2)
        self.strength = strength

    def look(self, images):
        axis = torch.arange(8.0)
        features = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
        saliency = self.strength * (features[:1] < 4)
        return Seen(*(maps.expand(len(images), -1, 8, 8) for maps in (features, saliency)))


# --- encoder --------------------------------------------------------------------------------------


def test_the_network_is_that_of_point_m2ae_and_retrieves_by_the_maximum(points):
    model, other = settle(i2p()).eval(), tiny("features", "point_m2ae").eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(points).tokens, other(points).tokens)
    tokens = model.norms[-1](model.run_scales(points, local=False)[-1].tokens)
    assert torch.equal(model.retrieval_features(points), tokens.amax(dim=1))


@pytest.mark.parametrize("pooling", ["concat", "concat_all"])
def test_pooling_of_scanobjectnn_skips_no_token(pooling, points):
    model = settle(i2p("classification", pooling=pooling)).eval()
    tokens = model.backbone(points).tokens
    kept = tokens[:, 1:] if pooling == "concat" else tokens
    expected = torch.cat([tokens.mean(dim=1), kept.amax(dim=1)], dim=1)
    torch.testing.assert_close(model.forward_features(points), expected)


def test_presets_are_the_published_ones():
    presets = get_entry("i2p_mae").presets
    assert presets["modelnet40"].overrides["group_sizes"] == (48, 24, 24)
    radii = {name: preset.overrides["local_radius"] for name, preset in presets.items()}
    assert radii["scanobjectnn"] == (0.48, 0.96, 1.92)
    assert radii["scanobjectnn_objects"] == (0.32, 0.64, 1.28)
    for preset in presets:
        model = pp.create_model("i2p_mae", preset=preset, num_classes=3, depths=(1, 1, 1))
        assert model.num_classes == 3


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_hidden", [1, 6, 7])
def test_masks_hide_a_fixed_number(num_hidden):
    hidden = salience_mask(torch.randn(50, 8), num_hidden)
    assert hidden.sum(dim=1).eq(num_hidden).all()


def test_visible_patches_are_drawn_one_after_the_other_without_replacement():
    """Frequencies of pairs against Plackett-Luce."""
    scores = torch.tensor([0.0, 1.0, 2.0, -1.0])
    p, draws = scores.softmax(0), 20000
    visible = ~salience_mask(scores.expand(draws, 4), 2)
    for i in range(4):
        for j in range(i):
            expected = p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
            share = (visible[:, i] & visible[:, j]).float().mean()
            assert abs(share - expected) < 5 * (expected / draws) ** 0.5


def test_masks_follow_the_saliency(points):
    config = I2PMAEPretrainingConfig(mask_ratio=0.5)
    model = I2PMAEPretraining(i2p(), config, Spotlight(1000.0)).eval()
    views = model.look(points)
    centers = model.backbone.group(points)[-1].centers
    saliency = model.saliency(views, centers)
    hidden = model.draw_mask(views, centers)
    for values, gone in zip(saliency, hidden, strict=True):
        assert values[~gone].min() >= values[gone].max() - 30  # noise is of the order of 10
    # The upper half of an image shows low first coordinates, of one axis each.
    below = (centers < centers.new_tensor([0.0])).sum(dim=-1)
    assert saliency[below == 3].min() > saliency[below == 0].max()


def test_saliency_is_the_mean_over_the_sides(points):
    model = i2p("pretraining").eval()
    views = model.look(points)
    pixels = views.raster.pixels(view_clouds(points))
    large = F.interpolate(views.saliency, (32, 32), mode="bicubic")
    by_view = [large[r, 0, p[:, 0], p[:, 1]] for r, p in enumerate(pixels)]
    expected = torch.stack(by_view).view(NUM_VIEWS, 3, -1).mean(dim=0)
    torch.testing.assert_close(model.saliency(views, points), expected, rtol=1e-4, atol=1e-6)


def test_a_cloud_has_the_same_saliency_and_features_whatever_its_batch(points, mask):
    model = settle(i2p("pretraining")).eval()

    def seen(points, mask):
        views = model.look(points)
        masked = model.encode_visible(points, mask)
        saliency = model.saliency(views, masked.levels[-1].centers)
        features = model.rebuild_features(masked, model.decode(masked), views)
        return saliency, *features

    together = seen(points, mask)
    alone = zip(*(seen(points[b : b + 1], mask[b : b + 1]) for b in range(3)), strict=True)
    for expected, parts in zip(together, alone, strict=True):
        torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-4, atol=1e-5)


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_features_of_members_of_visible_groups_against_loops(steps, points, mask):
    model = i2p("pretraining", decoder_depths=(1,) * steps, decoder_residuals=(1, 0)[: steps - 1])
    model = settle(model).eval()
    views, masked = model.look(points), model.encode_visible(points, mask)
    rebuilt, target = model.rebuild_features(masked, model.decode(masked), views)
    level, hidden = masked.levels[-steps], masked.scales[-steps].hidden
    K = level.indices.shape[2]
    assert rebuilt.shape == target.shape == (int((~hidden).sum()), K, NUM_VIEWS * CHANNELS)
    large = F.interpolate(views.features, (32, 32), mode="bicubic")
    parents = points if steps == 3 else masked.levels[-steps - 1].centers
    for row, (b, g) in enumerate((~hidden).nonzero().tolist()):
        for k, index in enumerate(level.indices[b, g].tolist()):
            for v in range(NUM_VIEWS):
                place = view_clouds(parents[b : b + 1, index : index + 1])[v : v + 1]
                image = torch.tensor([v * len(points) + b])
                line, column = views.raster.select(image).pixels(place)[0, 0]
                expected = large[image.item(), :, line, column]
                actual = target[row, k, CHANNELS * v : CHANNELS * (v + 1)]
                torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scales", [TWO, FOUR], ids=["two", "four"])
def test_any_number_of_scales(scales, points):
    assert i2p(**scales).eval().retrieval_features(points).shape == (3, 24)
    assert i2p("classification", **scales).eval()(points).shape == (3, 4)
    model = settle(i2p("pretraining", **scales)).eval()
    model(points).backward()
    assert not {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}


def test_the_loss_is_the_sum_of_its_terms(points, mask):
    model = settle(i2p("pretraining")).eval()
    losses = model.losses(points, mask)
    assert set(losses) == {"reconstruction", "semantics"}
    torch.testing.assert_close(model(points, mask), losses["reconstruction"] + losses["semantics"])
    assert model.copies == 1
    views, masked = model.look(points), model.encode_visible(points, mask)
    rebuilt, target = model.rebuild_features(masked, model.decode(masked), views)
    torch.testing.assert_close(losses["semantics"], (rebuilt - target).square().mean())
    # As many points are rebuilt as a group of the decoded scale has.
    assert model.rebuild(masked)[0].shape[1] == masked.levels[-2].indices.shape[2]


def test_both_losses_fall(points, mask):
    model = i2p("pretraining", drop_path=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        history.append(model.losses(points, mask))
        optimizer.zero_grad()
        sum(history[-1].values()).backward()
        optimizer.step()
    for name, value in history[-1].items():
        assert value < history[0][name], name


def test_the_first_token_of_a_batch_is_seen_as_published_on_request(points):
    ours, published = i2p("pretraining").eval(), i2p("pretraining", reference_compat=True).eval()
    levels = ours.backbone.group(points)
    mask = (levels[-1].indices == 0).any(dim=-1)
    mask[:, -1] = mask[:, 1] | mask[:, -1]
    hidden = [m.encode_visible(points, mask).scales[1].hidden[:, 0] for m in (ours, published)]
    assert [each.tolist() for each in hidden] == [[True] * 3, [False, True, True]]


def test_as_published_a_local_radius_opens_attention_to_padding(points):
    radii = {"local_radius": (0.3, 0.6, 1.2)}
    mask = torch.zeros(3, 8, dtype=torch.bool)
    mask[0, :5], mask[1, 1:4], mask[2, 7] = True, True, True
    models = [i2p("pretraining", **radii, reference_compat=compat) for compat in (False, True)]
    other = settle(tiny("pretraining", "point_m2ae", **radii, reference_compat=True))
    encoded = []
    for model in (*models, other):
        model.backbone.load_state_dict(other.backbone.state_dict())
        encoded.append(model.eval().encode_visible(0.3 * points, mask).scales[0].tokens[0])
    corrected, published, point_m2ae_published = encoded
    assert torch.equal(published, point_m2ae_published)
    assert not torch.allclose(published, corrected, atol=1e-6)


# --- teacher --------------------------------------------------------------------------------------


def test_the_teacher_does_not_move_and_is_not_saved(points, mask):
    model = i2p("pretraining").train()
    before = [p.clone() for p in model.teacher.network.parameters()]
    assert not any("teacher" in name for name, _ in model.named_parameters())
    assert not any("teacher" in name for name in model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    model(points, mask).backward()
    optimizer.step()
    parameters = list(model.teacher.network.parameters())
    assert all(p.grad is None for p in parameters)
    assert all(map(torch.equal, parameters, before))
    assert not model.teacher.network.training


def test_a_teacher_can_be_passed_in(points, mask):
    teacher = RandomTeacher(48, 8, 11)
    model = I2PMAEPretraining(i2p(), None, teacher).eval()
    assert model.teacher is teacher
    assert model.feature_head.out_features == 4 * NUM_VIEWS * 11
    assert model(points, mask).isfinite()


@pytest.mark.parametrize("needed", [{}, {"semantics": 1.0}, {"guided_mask": True}])
def test_a_teacher_is_asked_for_where_something_looks_at_images(needed, points):
    settings = {"semantics": 0.0, "guided_mask": False, "teacher": "nowhere.pt", **needed}
    if needed:
        with pytest.raises(ConfigError, match=r"nowhere\.pt"):
            i2p("pretraining", **settings)
    else:
        assert i2p("pretraining", **settings)(points).isfinite()


def test_without_weights_the_way_out_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.pt.*teacher='random'"):
        pp.create_model("i2p_mae", task="pretraining", teacher="nowhere.pt")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"teacher": ""}, "teacher"),
        ({"teacher": None}, "teacher"),
        ({"teacher_channels": 0}, "teacher_channels"),
        ({"teacher_image_size": 30}, "teacher's image_size=30"),
        ({"mask_ratio": 0.01}, "mask_ratio"),
        ({"decoder_depths": (1, 1, 1, 1), "decoder_residuals": (1, 1, 1)}, "4 steps"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        i2p("pretraining", **settings)


def test_pretraining_in_bfloat16_and_float64(points, mask):
    model = settle(i2p("pretraining")).eval()
    with torch.no_grad():
        exact = model(points, mask)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(points, mask)
        wide = model.double()(points.double(), mask)
    assert (rough.dtype, wide.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(rough, exact, rtol=0.03, atol=0)
    torch.testing.assert_close(wide.float(), exact, rtol=1e-4, atol=0)


# --- published files ------------------------------------------------------------------------------


@pytest.mark.parametrize("with_teacher", [False, True])
def test_published_pretraining_is_recognised_and_read(with_teacher, tmp_path, monkeypatch, caplog):
    layout = i2p_mae_pretrained_layout((1, 1, 2), with_teacher)
    monkeypatch.setattr(
        "pointpeft.compat.checkpoints.checkpoint_reader.LAYOUTS",
        (i2p_mae_pretrained_layout((1, 1, 2), True), layout),
    )
    model = settle(i2p("pretraining"))
    state = layout.theirs(model.state_dict())
    assert {"rec_head_3d.weight", "rec_head_2d.weight", "mask_token"} <= set(state)
    assert state["rec_head_2d.weight"].ndim == 3
    if with_teacher:
        state |= {"clip_model.visual.proj": torch.zeros(2), "clip_model.logit_scale": torch.ones(1)}
    torch.save({"base_model": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "a.pth")
    for task in ("features", "classification", "part_segmentation", "pretraining"):
        other = i2p(task)
        with caplog.at_level(logging.INFO, "pointpeft"):
            report = load_into(other, tmp_path / "a.pth")
        teacher = [name for name in report.left if name.startswith("clip_model.")]
        assert len(teacher) == 2 * with_teacher
        assert ("2 left (clip_model" in str(report)) == with_teacher
        encoder = getattr(other, "backbone", other)
        for name, tensor in encoder.state_dict().items():
            assert torch.equal(tensor, model.backbone.state_dict()[name])
    assert report.left == tuple(teacher)
    assert not report.fresh


def test_a_file_of_point_m2ae_is_taken_with_a_warning(tmp_path, caplog):
    layout = point_m2ae_pretrained_layout((1, 1, 2))
    state = layout.theirs(tiny("pretraining", "point_m2ae").state_dict())
    torch.save({"base_model": state}, tmp_path / "a.pth")
    i2p(checkpoint=tmp_path / "a.pth")
    assert "`model`=point_m2ae" in caplog.text
    caplog.clear()
    tiny("features", "point_m2ae", checkpoint=tmp_path / "a.pth")
    assert "`model`=" not in caplog.text


def test_published_files_are_told_apart():
    i2p_names, m2ae_names = (
        list(layout.theirs(tiny("pretraining", name).state_dict()))
        for name, layout in (
            ("i2p_mae", i2p_mae_pretrained_layout()), ("point_m2ae", point_m2ae_pretrained_layout())
        )
    )  # fmt: skip
    expected = {
        "I2P-MAE, pre-trained": i2p_names,
        "I2P-MAE, pre-trained, with its image teacher": [*i2p_names, "clip_model.logit_scale"],
        "Point-M2AE, pre-trained": m2ae_names,
    }
    assert {recognise(names, LAYOUTS).name: names for names in expected.values()} == expected
    finetuned = point_m2ae_classification_layout().theirs(i2p("classification").state_dict())
    assert "I2P-MAE" in recognise(list(finetuned), LAYOUTS).name


def test_a_file_of_point_m2ae_of_another_size_is_refused(tmp_path):
    pp.save_model(tiny("features", "point_m2ae"), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"'point_m2ae'.*'i2p_mae'"):
        i2p(checkpoint=tmp_path / "a.safetensors")


def test_clouds_of_any_place_and_size_are_seen():
    model = i2p("pretraining").eval()
    for scale, offset in ((1e-3, 0.0), (1.0, 50.0), (100.0, -3.0)):
        assert model(scale * clouds(2) + offset, MASK[:2].bool()).isfinite()
