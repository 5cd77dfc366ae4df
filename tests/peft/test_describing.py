"""What a published file does not say: class names and input, as far as they are known."""

import numpy as np
import pytest

import pointpeft as pp
from pointpeft.compat.checkpoints.checkpoint_converter import describe_published
from pointpeft.errors import ConfigError
from pointpeft.models import save_model
from tests.models.tiny import clouds
from tests.peft.support import encoder, point_peft

NAMES = ["chair", "lamp", "sofa", "table"]


@pytest.fixture
def save(tmp_path):
    """Describes a model of four classes, and saves it beside its encoder."""

    def described(preset=None, classes=None):
        model = point_peft()
        describe_published(model, preset, classes)
        save_model(encoder(), tmp_path / "backbone.safetensors")
        model.base_checkpoint = "../backbone.safetensors"
        model.save_pretrained(tmp_path / "adapter")
        return tmp_path

    return described


def test_a_described_model_predicts(save, tmp_path):
    predictor = pp.Predictor(save("scanobjectnn", NAMES))
    assert predictor.class_names == tuple(NAMES)
    assert predictor.transform.num_points == predictor.model.base_spec.num_points
    assert predictor.transform.normalize == "none"  # as ScanObjectNN was
    np.save(tmp_path / "cloud.npy", clouds(1)[0])
    (found,) = predictor.predict([tmp_path / "cloud.npy"])
    for one in (tmp_path / "cloud.npy", str(tmp_path / "cloud.npy"), tmp_path):
        assert predictor.predict(one)[0].probability == found.probability
    assert found.label in NAMES


@pytest.mark.parametrize(("preset", "count"), [("modelnet40", 40), ("scanobjectnn", 15)])
def test_the_preset_names_the_classes_of_its_data_set(preset, count):
    backbone = encoder()
    model = pp.get_peft_model(pp.build_classifier(backbone, count), pp.LinearConfig())
    describe_published(model, preset, None)
    assert model.class_names is not None
    assert len(model.class_names) == count
    assert "chair" in model.class_names


def test_names_that_are_not_known_are_asked_for(save, caplog):
    folder = save("scanobjectnn")  # which has 15 classes
    assert "`classes`" in caplog.text
    with pytest.raises(ConfigError, match="class_names"):
        pp.Predictor(folder)


def test_an_input_that_is_assumed_is_said(save, caplog):
    save(classes=NAMES)
    assert "normalize=unit_ball" in caplog.text


@pytest.mark.parametrize("names", [NAMES[:3], [*NAMES[:3], "chair"], "abcd"])
def test_names_that_do_not_fit_are_refused(names):
    with pytest.raises(ConfigError, match="class_names"):
        describe_published(point_peft(), "scanobjectnn", names)


@pytest.mark.parametrize(
    "names", [{"a", "b", "c", "d"}, {"a": 3, "b": 2, "c": 1, "d": 0}, "abcd", 4], ids=type
)
def test_names_without_an_order_are_refused(names, tmp_path):
    model = point_peft()
    with pytest.raises(ConfigError, match="class_names"):
        model.save_pretrained(tmp_path / "a", names)
    assert not (tmp_path / "a").exists()


def test_what_is_refused_leaves_nothing_behind(tmp_path):
    model = point_peft()
    with pytest.raises(ConfigError, match="input_transform"):
        model.save_pretrained(tmp_path / "a", list("abcd"), {"num_points": 64})
    assert model.adapter.class_names is None
