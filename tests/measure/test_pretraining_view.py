"""What is shown of pre-training is what the networks do."""

import math

import pytest
import torch

from pointpeft.measure.pretraining_panels import KINDS, mask_guidance
from pointpeft.measure.pretraining_view import see
from pointpeft.models.masking import salience_mask
from pointpeft.vision import Mesh, unscale_gray
from tests.models.tiny import clouds, settle, tiny

VISIBLE, HIDDEN, REBUILT, NO_PATCH = range(len(KINDS))
MASKED = ("point_mae", "pcp_mae", "point_bert", "point_m2ae", "i2p_mae")


def network(name, **settings):
    torch.manual_seed(0)
    return settle(tiny("pretraining", name, **settings)).eval()


def shown(model, seed=0, trained=None):
    trained = set(model.state_dict()) if trained is None else trained
    return see(model, clouds(1)[0], trained, seed)


def by_title(view):
    return {panel.title: panel for panel in view.panels}


@pytest.mark.parametrize("name", [*MASKED, "point_bert_dvae"])
def test_every_network_shows_what_it_rebuilds(name):
    model = network(name)
    view = shown(model)
    rebuilt = [p for p in view.panels if p.kinds is not None and (p.kinds == REBUILT).any()]
    assert rebuilt
    assert torch.equal(view.panels[0].points, clouds(1)[0])
    assert all(panel.points.isfinite().all() for panel in view.panels)


@pytest.mark.parametrize("name", MASKED)
def test_the_mask_is_seeded_and_random_numbers_are_left_alone(name):
    model = network(name)
    before = torch.get_rng_state()
    first, same = (shown(model).panels[1].kinds for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, same)
    others = [shown(model, seed).panels[1].kinds for seed in range(1, 6)]
    assert any(not torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", [*MASKED, "point_bert_dvae"])
def test_an_encoder_alone_rebuilds_nothing(name):
    model = network(name)
    encoder = {each for each in model.state_dict() if each.startswith("backbone.")}
    view = shown(model, trained=encoder)
    kinds = torch.cat([panel.kinds for panel in view.panels[1:]])
    assert not (kinds == REBUILT).any()
    assert any("Nothing is rebuilt" in note for note in view.notes)


def test_a_decoder_that_learnt_nothing_is_not_shown():
    view = shown(network("point_mae", reconstruction=0.0, contrast=1.0))
    assert "Rebuilt" not in by_title(view)
    assert any("reconstruction=0" in note for note in view.notes)


def test_points_are_of_the_kind_of_their_patches():
    """Against a slow count over all patches."""
    model, cloud = network("point_mae"), clouds(1)
    panel = shown(model).panels[1]
    patches, centers = model.backbone.tokenizer.group(cloud)
    members = (patches + centers.unsqueeze(2))[0]
    apart = (cloud[0][:, None, None] - members).abs().amax(dim=-1)  # (N, G, S)
    inside = (apart < 1e-6).any(dim=2)
    assert (inside.sum(dim=0) == 8).all()
    assert ((panel.kinds == NO_PATCH) == ~inside.any(dim=1)).all()
    seen = panel.kinds == VISIBLE
    whole = [g for g in range(inside.shape[1]) if seen[inside[:, g]].all()]
    assert len(whole) >= 4  # of 8 patches 4 are hidden
    assert (panel.kinds == HIDDEN).any()


def test_copies_of_a_point_are_of_one_kind():
    model = network("point_mae")
    cloud = clouds(1)[0].repeat(2, 1)
    kinds = see(model, cloud, set(model.state_dict())).panels[1].kinds
    assert torch.equal(*kinds.chunk(2))
    assert (kinds == VISIBLE).any()


def test_rebuilt_points_are_those_of_the_loss():
    """The distance that is stated is the loss of the same mask."""
    model, cloud = network("point_mae"), clouds(1)
    stated = by_title(shown(model))["Rebuilt"].line
    torch.manual_seed(0)
    with torch.no_grad():
        loss = float(model(cloud))
    assert stated.endswith(f"{loss:.3g}")


def test_scales_hide_what_the_network_hides():
    model, cloud = network("point_m2ae"), clouds(1)
    view = by_title(shown(model))
    torch.manual_seed(0)
    hidden = [int(scale.hidden.sum()) for scale in model.encode_visible(cloud).scales]
    lines = [view[f"Groups of scale {n}"].line for n in (1, 2, 3)]
    assert [int(line.split()[0]) for line in lines] == hidden
    assert "The truth" in view


def test_guessed_tokens_are_counted():
    view = by_title(shown(network("point_bert")))
    guess = view["By the tokens guessed for hidden patches"]
    right, _, asked, *_ = guess.line.split()
    assert 0 <= int(right) <= int(asked)
    assert int(asked) * 8 == int((guess.kinds == REBUILT).sum())


@pytest.mark.parametrize(("views", "count"), [("depth", 3), ("shaded", 4)])
def test_the_teacher_is_shown_what_it_is_shown_in_training(views, count):
    model, cloud = network("i2p_mae", views=views), clouds(1)
    view = shown(model)
    assert len(view.views) == count
    looked = model.look(cloud)
    for place, one in enumerate(view.views):
        assert one.image.shape == (32, 32)
        assert -1e-6 <= float(one.image.min()) < float(one.image.max()) <= 1 + 1e-6
        assert torch.equal(one.saliency, looked.saliency[place, 0])


def test_the_teacher_of_further_terms_is_shown_too():
    settings = {"distillation": 1.0, "teacher": "random", "teacher_image_size": 32}
    assert len(shown(network("point_mae", **settings)).views) == 4
    assert shown(network("point_mae")).views == []
    assert any("no teacher" in note for note in shown(network("point_mae")).notes)


def test_a_teacher_that_sees_faces_is_shown_them():
    settings = {"distillation": 1.0, "teacher": "random", "teacher_image_size": 32}
    cloud = clouds(1)[0]
    mesh = Mesh(cloud, torch.arange(len(cloud)).view(-1, 4)[:, :3])
    for views, sees_faces in (("shaded", True), ("depth", False)):
        model = network("point_mae", **settings, views=views)
        with_mesh, without = (see(model, cloud, (), mesh=each) for each in (mesh, None))
        images, points = (torch.stack([v.image for v in s.views]) for s in (with_mesh, without))
        assert torch.equal(images, points) != sees_faces
        assert any("faces" in note for note in with_mesh.notes) == sees_faces
        assert not any("faces" in note for note in without.notes)


def test_a_teacher_that_looks_before_training_is_shown_all_stored_points():
    settings = {"distillation": 1.0, "teacher": "random", "teacher_image_size": 32}
    model, stored = network("point_mae", **settings), clouds(1)[0]
    view = see(model, stored[:50], (), stored=stored)
    expected = model.terms.teacher.views.show(stored.unsqueeze(0), 32, [None])
    for one, image in zip(view.views, expected, strict=True):
        torch.testing.assert_close(one.image, unscale_gray(image.unsqueeze(0))[0])
    assert any(f"{len(stored)} points" in note for note in view.notes)


def test_the_teacher_of_i2p_mae_is_shown_points():
    """It looks at augmented clouds."""
    model, cloud = network("i2p_mae", views="shaded"), clouds(1)[0]
    mesh = Mesh(cloud, torch.arange(len(cloud)).view(-1, 4)[:, :3])
    for one, other in zip(see(model, cloud, (), mesh=mesh).views, shown(model).views, strict=True):
        assert torch.equal(one.image, other.image)


def test_equal_saliency_does_not_guide():
    assert mask_guidance(torch.zeros(2, 8)) == pytest.approx((1.0, 8.0))


def test_guidance_is_that_of_the_drawn_masks():
    """How often one group of two is the visible one."""
    saliency = torch.tensor([[math.log(3.0), 0.0]])
    assert mask_guidance(saliency).ratio == pytest.approx(3.0)
    torch.manual_seed(0)
    visible = ~salience_mask(saliency.expand(20000, 2), 1)
    first, second = visible.sum(dim=0).tolist()
    assert first / second == pytest.approx(3.0, rel=0.05)
