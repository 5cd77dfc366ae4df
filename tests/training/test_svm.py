"""The linear SVM measures a backbone, with C given or chosen on the training items."""

from pointpeft.measure.backbone_svm import evaluate_backbone
from pointpeft.measure.svm import C_GRID
from pointpeft.training import SvmConfig
from pointpeft.training.config import DataConfig
from tests.training.support import write_archive


def config(source, **settings):
    return SvmConfig(data=DataConfig(source=str(source)), **settings)


def test_given_and_chosen_regularisation(archive):
    fixed, weights = evaluate_backbone(config(archive, C=1.0))
    assert (fixed.C, fixed.tuned) == (1.0, False)
    assert weights == "weights embedded"
    assert len(fixed.predictions) == 8
    assert 0 <= fixed.accuracy <= 1
    chosen, _ = evaluate_backbone(config(archive))
    assert chosen.tuned
    assert chosen.C in C_GRID
    assert chosen.accuracy > 0.25  # chance


def test_random_weights_are_measured_on_request(archive):
    result, weights = evaluate_backbone(config(archive, checkpoint="random", seed=3, C=1.0))
    assert weights == "random weights (seed 3)"
    assert not (result.decision == evaluate_backbone(config(archive, C=1.0))[0].decision).all()


def test_is_repeatable(archive):
    one, other = (evaluate_backbone(config(archive, C=1.0))[0] for _ in range(2))
    assert (one.decision == other.decision).all()


def test_test_labels_are_only_counted(archive, tmp_path):
    wrong = write_archive(tmp_path / "wrong.npz", wrong_test_labels=True)
    one, other = (evaluate_backbone(config(data))[0] for data in (archive, wrong))
    assert one.C == other.C
    assert (one.predictions == other.predictions).all()


def test_measures_an_encoder_of_other_sizes(archive, weights):
    result, phrase = evaluate_backbone(config(archive, checkpoint=str(weights), C=1.0))
    assert 0 <= result.accuracy <= 1
    assert str(weights) in phrase
