"""Terms on whole clouds that stand beside the objective of a paper."""

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.models.objective import CloudTeacher, Distillation, ObjectiveConfig, ObjectiveTerms
from pointpeft.models.semantics import PatchSemantics, look_at
from pointpeft.vision import RandomTeacher, make_views
from tests.models.tiny import clouds, tiny

BACKBONES = ["point_mae", "point_bert", "point_m2ae", "i2p_mae", "pcp_mae"]
TERMS = ObjectiveConfig.terms
TEACHER = {"teacher": "random", "teacher_image_size": 32, "views": "shaded", "num_views": 2}
every_backbone = pytest.mark.parametrize("name", BACKBONES)


@every_backbone
def test_every_backbone_learns_from_a_teacher_and_by_contrast(name):
    torch.manual_seed(0)
    model = tiny("pretraining", name, distillation=0.5, contrast=0.25, **TEACHER)
    plain = tiny("pretraining", name)
    assert (model.copies, plain.copies) == (2, 1)
    points = torch.cat([clouds(3), clouds(3, seed=1)])
    losses = model.losses(points)
    assert set(losses) - set(plain.losses(points)) == {"distillation", "contrast"}
    c, added = model.pretraining_config, ("distillation", "contrast")
    own = sum(getattr(c, key, 1.0) * term for key, term in losses.items() if key not in added)
    expected = own + 0.5 * losses["distillation"] + 0.25 * losses["contrast"]
    torch.testing.assert_close(model.total(losses), expected)
    losses["distillation"].backward()
    assert all(block.mlp.fc1.weight.grad is not None for block in model.backbone.blocks)
    assert not any("network" in key or "encoder" in key for key in model.terms.state_dict())


@pytest.mark.parametrize("left", [*TERMS, "all"])
@every_backbone
def test_every_term_can_be_had_alone_and_with_all_others(name, left):
    weights = {term: 0.5 if left in (term, "all") else 0.0 for term in TERMS}
    others = {"centers": 0.0} if name == "pcp_mae" else {}
    model = tiny("pretraining", name, **weights, **TEACHER, **others)
    points = torch.cat([clouds(2), clouds(2, seed=1)])
    losses = model.losses(points)
    assert set(losses) - set(TERMS) <= {"token", "mixed_token", "moco", "mix"}
    for term in TERMS[1:]:
        assert (term in losses) == bool(weights[term])
    torch.testing.assert_close(model.total(losses), 0.5 * sum(losses.values()))
    model.total(losses).backward()
    assert all(block.mlp.fc1.weight.grad is not None for block in model.backbone.blocks)


def test_what_a_patch_is_to_show_is_what_the_teacher_sees_at_its_center():
    torch.manual_seed(0)
    teacher, views, points = RandomTeacher(32, 8, 5), make_views("shaded", 2), clouds(3)
    term = PatchSemantics(4, teacher, views)
    hidden = torch.rand(3, 6) < 0.5
    hidden[:, 2] = False
    tokens, centers = torch.randn(3, 6, 4), points[:, 10:16]
    seen = look_at(points, views, teacher)
    large = F.interpolate(seen.features, (32, 32), mode="bicubic")
    pixels = seen.raster.pixels(views.clouds(centers))  # (sides * clouds, 6, 2)
    error = []
    for b, t in (~hidden).nonzero().tolist():
        rows = [b, 3 + b]
        target = torch.cat([large[r, :, pixels[r, t, 0], pixels[r, t, 1]] for r in rows])
        error.append((term.head(tokens[b, t]) - target).square().mean())
    found = term(points, tokens, centers, hidden)
    torch.testing.assert_close(found, torch.stack(error).mean(), rtol=1e-4, atol=1e-6)


@every_backbone
def test_the_objective_of_the_paper_can_be_left_out(name):
    others = {"i2p_mae": {"semantics": 0.0, "guided_mask": False}, "pcp_mae": {"centers": 0.0}}
    others = others.get(name, {})
    model = tiny("pretraining", name, distillation=1.0, reconstruction=0.0, **TEACHER, **others)
    losses = model.losses(clouds(4))
    assert set(losses) == {"distillation"}
    model.total(losses).backward()
    trained = {key for key, p in model.named_parameters() if p.requires_grad}
    moved = {key for key, p in model.named_parameters() if p.grad is not None}
    idle = {key.partition(".")[0] for key in trained - moved}
    assert idle <= {"mask_token", "decoder_pos_embed", "backbone", "cls_token", "cls_pos"}
    assert model.leaves_idle


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in BACKBONES),
        *((name, {"contrast": 1.0, "distillation": 1.0, **TEACHER}) for name in BACKBONES),
        ("point_bert", {"mix_loss": False}), ("point_bert", {"token_loss": False}),
        ("point_bert", {"moco_loss": True}), ("pcp_mae", {"centers": 0.0}),
    ],
)  # fmt: skip
def test_a_model_says_whether_no_term_reaches_a_parameter(name, settings):
    """Several processes look for such ones in every step only then."""
    model = tiny("pretraining", name, **settings)
    model.total(model.losses(clouds(4))).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert model.leaves_idle == any(p.grad is None for p in trained)


def test_what_the_teacher_saw_may_be_given():
    torch.manual_seed(0)
    model = tiny("pretraining", distillation=1.0, **TEACHER).eval()
    model.terms.train()
    points, mask = clouds(4), (torch.arange(8) < 5).expand(4, -1)
    seen = model.terms.teacher(points)
    looked = model.losses(points, mask)["distillation"]
    assert torch.equal(model.losses(points, mask, seen=seen)["distillation"], looked)
    other = model.losses(points, mask, seen=seen.flip(0))["distillation"]
    assert not torch.equal(other, looked)


def test_hidden_tokens_do_not_count():
    torch.manual_seed(0)
    terms = ObjectiveTerms(
        6, ObjectiveConfig(contrast=1.0, distillation=1.0, semantics=1.0, **TEACHER)
    )
    points, tokens, seen = clouds(4), torch.randn(4, 5, 6), torch.randn(4, 512)
    hidden = torch.rand(4, 5) < 0.5
    hidden[:, 0] = False
    changed = torch.where(hidden.unsqueeze(-1), 99.0, tokens)
    centers = points[:, :5]
    one, other = (terms(points, rows, centers, hidden, seen) for rows in (tokens, changed))
    assert one
    assert all(torch.equal(one[key], other[key]) for key in one)
    alone = terms(points, tokens[:, :1], centers[:, :1], seen=seen)
    only_first = terms(points, tokens, centers, (torch.arange(5) > 0).expand(4, -1), seen)
    for key in alone:
        torch.testing.assert_close(alone[key], only_first[key])


def test_channels_of_a_teacher_count_alike_whatever_their_scale():
    torch.manual_seed(0)
    distillation = Distillation(6, 7)
    features, seen = torch.randn(8, 12), torch.randn(8, 7)
    scale = torch.logspace(-1, 3, 7)
    torch.testing.assert_close(
        distillation(features, seen), distillation(features, 5 + scale * seen), rtol=1e-3, atol=0
    )


def test_a_teacher_pools_pixels_and_views():
    encoder, views = RandomTeacher(32, 8, 5), make_views("shaded", 3)
    points = clouds(2)
    each = CloudTeacher(encoder, views)(points)
    assert each.shape == (2, 5)
    alone = torch.cat([CloudTeacher(encoder, views)(cloud) for cloud in points.split(1)])
    torch.testing.assert_close(each, alone, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "setting",
    [
        {"distillation": -1.0},
        {"reconstruction": -0.5},
        {"reconstruction": 0.0},
        {"views": "photos"},
        {"num_views": 0},
        {"num_views": 4, "views": "depth", "distillation": 1.0, "teacher": "random"},
        {"teacher": ""},
    ],
)
def test_impossible_settings(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        pp.create_model("point_mae_small", task="pretraining", **setting)


def test_image_features_alone_train_the_decoder():
    model = tiny("pretraining", "i2p_mae", reconstruction=0.0)
    losses = model.losses(clouds(4))
    assert set(losses) == {"semantics"}
    model.total(losses).backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
    assert model.rec_head.weight.grad is None
    with pytest.raises(ConfigError, match="semantics"):
        tiny("pretraining", "i2p_mae", reconstruction=0.0, semantics=0.0)
