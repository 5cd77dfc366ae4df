"""Methods that are fitted to frozen features: a linear SVM and nearest neighbours."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ShrunkCovariance
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.svm import SVC
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import ConfigError, DataError
from pointpeft.models.registry import build_segmenter
from pointpeft.peft.linear_svm import DEFAULT_C
from tests.models.tiny import clouds, settle, tiny
from tests.peft.support import BACKBONES, classifier, encoder

FITTED = {
    "svm": pp.SVMConfig(C=100.0),
    "knn": pp.KNNConfig(neighbors=3),
    "lda": pp.LDAConfig(draws=1),
}
every = pytest.mark.parametrize("config", FITTED.values(), ids=FITTED)
LABELS = torch.arange(16) % 4


def fitted(config, labels=LABELS, seed=5):
    model = pp.get_peft_model(classifier(), config).eval()
    features = model.tuner.fitted_features(encoder().eval(), clouds(16, seed=seed)).detach()
    model.tuner.fit(features, labels, [f"item {i}" for i in range(len(features))])
    return model, features


@every
def test_the_encoder_and_the_head_have_no_part(config, points, tmp_path):
    model, _ = fitted(config)
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert torch.equal(loaded(points), model(points))
    assert not any(name.startswith("model.") for name in model.adapter.stored_state())
    alone = torch.cat([model(cloud) for cloud in points.split(1)])
    torch.testing.assert_close(alone, model(points), rtol=1e-4, atol=1e-5)


@every
@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_on_every_backbone(config, name, tmp_path):
    torch.manual_seed(0)
    trunk = settle(tiny("features", name)).eval()
    model = pp.get_peft_model(pp.build_classifier(trunk, 4), config).eval()
    shapes, points = clouds(16), clouds(2, seed=3)
    model.tuner.fit(model.tuner.fitted_features(trunk, shapes), LABELS)
    logits = model(shapes)
    assert logits.isfinite().all()
    assert (logits.argmax(dim=1) == LABELS).float().mean() > 0.25  # of four classes

    found = model(points)
    alone = torch.cat([model(cloud) for cloud in points.split(1)])
    torch.testing.assert_close(alone, found, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path)
    assert torch.equal(pp.load_adapter(trunk, tmp_path)(points), found)
    model.add_adapter("other", pp.LinearConfig())
    mixed, _ = model.forward_mixed(points, ["default", "other"])
    torch.testing.assert_close(mixed, found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [1, 3], [0, 2, 3]])
def test_the_machine_is_that_of_scikit_learn(classes):
    labels = torch.tensor(classes)[torch.arange(16) % len(classes)]
    model, features = fitted(pp.SVMConfig(C=0.1), labels)
    seen = clouds(20, seed=9)
    theirs = SVC(C=0.1, kernel="linear").fit(features.double() - features.double().mean(0), labels)
    asked = encoder().eval().retrieval_features(seen).detach().double() - features.double().mean(0)
    ours = model(seen)
    decision = theirs.decision_function(asked)
    if len(classes) > 2:
        votes = decision.round()
        alone = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
        np.testing.assert_allclose(ours[alone][:, classes].detach(), decision[alone], atol=1e-3)
    assert ours.argmax(dim=1).tolist() == theirs.predict(asked).tolist()


def test_equally_many_votes_are_decided_as_by_scikit_learn():
    labels = torch.arange(60) % 6
    model = pp.get_peft_model(pp.build_classifier(encoder(), 6), pp.SVMConfig(C=1.0)).eval()
    channels = model.trunk.num_features
    features, asked = torch.randn(60, channels), torch.randn(400, channels)
    model.tuner.fit(features, labels)
    theirs = SVC(C=1.0, kernel="linear").fit(features.double() - features.double().mean(0), labels)
    expected = theirs.predict(asked.double() - features.double().mean(0))
    by_margins = theirs.decision_function(asked.double() - features.double().mean(0)).argmax(axis=1)
    assert (by_margins != expected).any()
    assert model.tuner.classify(asked).argmax(dim=1).tolist() == expected.tolist()


def test_a_covariance_of_too_few_shapes_needs_shrinkage():
    with pytest.raises(DataError, match="shrinkage"):
        fitted(pp.LDAConfig(draws=1, shrinkage=0.0))


def test_with_one_sampling_of_each_class_the_nearest_mean_wins():
    model, features = fitted(pp.LDAConfig(draws=1))
    model.tuner.fit(features[:4], torch.arange(4))
    assert model.tuner.classify(features[:4]).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_neighbours_vote_by_their_similarity():
    model, features = fitted(FITTED["knn"])
    unit = F.normalize(features, dim=1).half().float()
    query = clouds(3, seed=8)
    similarity = F.normalize(encoder().eval().retrieval_features(query), dim=1) @ unit.T
    for row, logits in zip(similarity, model(query), strict=True):
        near = row.topk(3)
        weights = (near.values / 0.07).softmax(dim=0)
        shares = torch.zeros(4).index_add_(0, LABELS[near.indices], weights)
        torch.testing.assert_close(logits.exp(), shares, atol=1e-4, rtol=1e-4)


def test_balanced_votes_are_divided_by_the_number_of_shapes_of_their_class():
    labels = torch.tensor([0] * 9 + [1] * 4 + [2] * 2 + [3])
    (plain, _), (balanced, _) = (
        fitted(pp.KNNConfig(neighbors=16, class_weights=weights), labels)
        for weights in ("none", "balanced")
    )
    query = clouds(3, seed=8)
    shares = plain(query).exp() / torch.tensor([9, 4, 2, 1])
    expected = shares / shares.sum(dim=1, keepdim=True)
    torch.testing.assert_close(balanced(query).exp(), expected, rtol=1e-4, atol=1e-5)


def test_a_balanced_machine_is_that_of_scikit_learn():
    labels = torch.tensor([0] * 12 + [1] * 4)
    model, features = fitted(pp.SVMConfig(C=0.1, class_weights="balanced"), labels)
    centre = features.double().mean(0)
    theirs = SVC(C=0.1, kernel="linear", class_weight="balanced")
    theirs.fit(features.double() - centre, labels)
    asked = encoder().eval().retrieval_features(clouds(20, seed=9)).detach().double() - centre
    assert model(clouds(20, seed=9)).argmax(dim=1).tolist() == theirs.predict(asked).tolist()


def test_a_balanced_discriminant_expects_all_classes_alike():
    labels = torch.tensor([0] * 12 + [1] * 4)
    (plain, _), (balanced, _) = (
        fitted(pp.LDAConfig(class_weights=weights), labels) for weights in ("none", "balanced")
    )
    moved = (balanced(clouds(3, seed=8)) - plain(clouds(3, seed=8)))[:, :2]
    expected = torch.tensor([0.5 / 0.75, 0.5 / 0.25]).log().expand(3, 2)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


def test_a_single_shape_of_a_class_leaves_c_at_its_default():
    model = pp.get_peft_model(classifier(), pp.SVMConfig()).eval()
    report = model.tuner.fit(torch.randn(4, model.trunk.num_features), torch.arange(4))
    assert report["C"] == DEFAULT_C


def test_more_neighbours_than_shapes_are_all_of_them():
    model, _ = fitted(pp.KNNConfig(neighbors=99))
    assert model(clouds(2)).isfinite().all()


@every
def test_parts_are_refused(config):
    with pytest.raises(ConfigError, match="part_segmentation"):
        pp.get_peft_model(build_segmenter(encoder(), 3, 2), config)


def test_a_single_class_is_refused():
    with pytest.raises(DataError, match="two classes"):
        fitted(pp.SVMConfig(), torch.zeros(16, dtype=torch.long))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: pp.SVMConfig(C=0.0), "C"),
        (lambda: pp.SVMConfig(C="a"), "C"),
        (lambda: pp.SVMConfig(C=float("inf")), "C"),
        (lambda: pp.KNNConfig(neighbors=0), "neighbors"),
        (lambda: pp.KNNConfig(temperature=0), "temperature"),
        (lambda: pp.LDAConfig(shrinkage=2), "shrinkage"),
        (lambda: pp.LDAConfig(draws=0), "draws"),
        (lambda: pp.KNNConfig(class_weights="all"), "class_weights"),
        (lambda: pp.get_peft_model(classifier(), pp.LDAConfig(blocks=99)), "blocks"),
    ],
)
def test_wrong_settings_are_named(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


def test_an_svm_that_was_never_fitted_does_not_predict(points):
    with pytest.raises(ConfigError, match="svm"):
        pp.get_peft_model(classifier(), pp.SVMConfig()).eval()(points)


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [1, 3], [0, 2, 3]])
def test_the_discriminant_is_that_of_scikit_learn(classes):
    labels = torch.tensor(classes)[torch.arange(16) % len(classes)]
    model, features = fitted(pp.LDAConfig(shrinkage=0.3), labels)
    seen = model.tuner.fitted_features(encoder().eval(), clouds(20, seed=9)).detach()
    scale = features.double().std(dim=0)  # by which theirs is scaled beforehand
    theirs = LinearDiscriminantAnalysis(
        solver="lsqr", covariance_estimator=ShrunkCovariance(shrinkage=0.3)
    )
    theirs.fit(features.double() / scale, labels)
    ours = model(clouds(20, seed=9))
    assert torch.equal(ours.argmax(dim=1), torch.from_numpy(theirs.predict(seen.double() / scale)))


def test_the_discriminant_looks_at_as_many_blocks_as_it_is_told():
    tuners = [pp.get_peft_model(classifier(), pp.LDAConfig(blocks=n)).tuner for n in (1, None)]
    last, every_block = (tuner.fitted_features(encoder().eval(), clouds(3)) for tuner in tuners)
    assert torch.equal(every_block[:, -last.shape[1] :], last)
    assert every_block.shape[1] == len(encoder().blocks) * last.shape[1]


def test_unseen_classes_are_never_chosen():
    model, _ = fitted(pp.LDAConfig(), torch.arange(16) % 2)
    assert (model(clouds(20, seed=9)).argmax(dim=1) < 2).all()
