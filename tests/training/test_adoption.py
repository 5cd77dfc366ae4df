"""Published fine-tuned files become adapters that say what they are."""

import logging
import re

import pytest
import torch

import pointpeft as pp
from pointpeft.compat.adoption import adopt_checkpoint
from pointpeft.compat.checkpoints.backbone_layouts import (
    POINT_BERT_CLASSIFICATION,
    POINT_MAE_PRETRAINED,
    POINT_MAE_SEGMENTATION,
)
from pointpeft.compat.checkpoints.checkpoint_writer import save_pth
from pointpeft.compat.checkpoints.layouts import POINT_PEFT_MAE
from pointpeft.compat.clouds import load_as_published
from pointpeft.compat.pretraining import published_features
from pointpeft.data.benchmarks.shapenet import SHAPENETPART
from pointpeft.errors import CheckpointError, ConfigError, DataError
from pointpeft.measure.evaluate import evaluate_adapter
from pointpeft.measure.loaded_adapter import LoadedAdapter
from pointpeft.training import FinetuneConfig, load_config
from tests.data.benchmarks import layouts
from tests.models.test_published import publish
from tests.models.tiny import SIZES, clouds, settle, tiny

_SYNSETS = {
    "Airplane": "02691156", "Bag": "02773838", "Cap": "02954340", "Car": "02958343",
    "Chair": "03001627", "Earphone": "03261776", "Guitar": "03467517", "Knife": "03624134",
    "Lamp": "03636649", "Laptop": "03642806", "Motorbike": "03790512", "Mug": "03797390",
    "Pistol": "03948459", "Rocket": "04099429", "Skateboard": "04225987", "Table": "04379243",
}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """A folder with ScanObjectNN and ShapeNetPart in their published layouts."""
    layouts.write_scanobjectnn(tmp_path / "data")
    layouts.write_shapenetpart(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def config(tmp_path, data):
    """Settings of a run that would give the model of a file."""

    def make(layout, network, **values):
        path = publish(tmp_path / "best.pth", layout.theirs(settle(network).state_dict()))
        given = {
            "checkpoint": str(path),
            "model": "point_mae",
            "data.source": str(data),
            "data.variant": "scanobjectnn_obj_bg",
            "data.num_points": 64,
            "data.normalize": "none",
            **{f"backbone.{key}": value for key, value in SIZES.items()},
            **{key.replace("__", "."): value for key, value in values.items()},
        }
        return load_config(FinetuneConfig, values=given)

    return make


def test_a_classifier_with_more_outputs_than_classes(config, data, tmp_path):
    """Published Point-BERT has 40 outputs on the 15 classes of ScanObjectNN."""
    model = tiny("classification", "point_bert", num_classes=40)
    settings = config(POINT_BERT_CLASSIFICATION, model, model="point_bert", backbone__embed_dim=16)
    adopt_checkpoint(settings, tmp_path / "adopted")
    adapter = LoadedAdapter(tmp_path / "adopted")
    assert adapter.class_names[:2] == ("bag", "bin")
    assert adapter.class_names[14:16] == ("toilet", "unused 15")
    assert (adapter.transform.num_points, adapter.transform.normalize) == (64, "none")
    points = clouds()
    with torch.no_grad():
        assert torch.equal(adapter.model(points), model.eval()(points))
    metrics = evaluate_adapter(
        tmp_path / "adopted", str(data), tmp_path / "measured", protocol="published",
        variant="scanobjectnn_obj_bg",
    )  # fmt: skip
    assert (metrics["protocol"], metrics["test_items"]) == ("published", 2)
    assert metrics["val_accuracy"] is None  # the test split serves to validate
    assert len(metrics["class_names"]) == 40


def test_a_part_segmenter(config, tmp_path):
    model = pp.create_model("point_mae", num_parts=50, **SIZES)
    settings = config(
        POINT_MAE_SEGMENTATION, model, task="part_segmentation", data__variant="shapenetpart"
    )
    adopt_checkpoint(settings, tmp_path / "adopted")
    adapter = LoadedAdapter(tmp_path / "adopted")
    assert len(adapter.parts.names) == 50
    assert adapter.parts.categories["Airplane"] == (0, 1, 2, 3)


@pytest.mark.parametrize("reverse", [False, True])
def test_categories_are_those_of_the_data_or_it_is_refused(config, data, tmp_path, reverse):
    """The data names its categories in a file, in the order of the labels."""
    names = data / SHAPENETPART.folder / "synsetoffset2category.txt"
    rows = [f"{name}\t{synset}" for name, synset in _SYNSETS.items()]
    names.write_text("\n".join(reversed(rows) if reverse else rows))
    model = pp.create_model("point_mae", num_parts=50, **SIZES)
    settings = config(
        POINT_MAE_SEGMENTATION, model, task="part_segmentation", data__variant="shapenetpart"
    )
    adopt_checkpoint(settings, tmp_path / "adopted")
    adapter = LoadedAdapter(tmp_path / "adopted")
    read = load_as_published(settings.data, adapter.transform, segmented=True)
    assert (read.class_names == adapter.class_names) is not reverse
    assert {name: tuple(ids) for name, ids in read.parts.categories.items()} == {
        name: tuple(ids) for name, ids in adapter.parts.categories.items()
    }
    measured = tmp_path / "adopted", str(data), tmp_path / "measured"
    if reverse:
        with pytest.raises(DataError, match="Airplane"):
            evaluate_adapter(*measured, protocol="published", variant="shapenetpart")
        return
    assert read.parts == adapter.parts
    metrics = evaluate_adapter(*measured, protocol="published", variant="shapenetpart")
    items = dict(zip(metrics["class_names"], metrics["class_items"], strict=True))
    assert {name: count for name, count in items.items() if count} == {"Airplane": 1, "Chair": 1}


@pytest.fixture
def point_peft(config):
    """A model tuned by the published computation, its encoder, and settings that name its file.

    The encoder has other biases than the file, as they were tuned.
    """
    network = tiny("classification", num_classes=15)
    encoder = tiny().eval()
    encoder.load_state_dict(network.backbone.state_dict())
    method = pp.PointPeftConfig(
        num_prompts=5, adapter_dim=4, bank_adapter_dim=3, attention_dim=12, reference_compat=True
    )
    bank = pp.MemoryBank.build(encoder, [clouds(12, seed=5)], published_features)
    model = pp.get_peft_model(network, method, bank).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.requires_grad)
    settings = config(POINT_PEFT_MAE, tiny())
    save_pth(model, settings.checkpoint)  # in place of what was written there
    return model, encoder, settings


def test_point_peft_with_what_lies_beside_it(point_peft, tmp_path):
    model, _, settings = point_peft
    adopt_checkpoint(settings, tmp_path / "adopted")
    adapter = LoadedAdapter(tmp_path / "adopted")
    with torch.no_grad():
        assert torch.equal(adapter.model(clouds()), model(clouds()))
    for name in ("pretrain.safetensors", "cache_shape.pt"):
        (tmp_path / name).unlink()
        with pytest.raises(CheckpointError, match=name):
            adopt_checkpoint(settings, tmp_path / "adopted")


def test_of_several_encoders_the_one_that_fits_is_taken(point_peft, tmp_path, caplog):
    model, encoder, settings = point_peft
    pp.save_model(tiny(), tmp_path / "pretrain.safetensors")
    other = tiny("pretraining", "point_m2ae", depths=(5, 5, 5))
    save_pth(other, tmp_path / "pretrain.pth")
    with pytest.raises(CheckpointError, match=r"pretrain\.safetensors.*pretrain\.pth"):
        adopt_checkpoint(settings, tmp_path / "adopted")
    pretraining = tiny("pretraining")
    pretraining.backbone.load_state_dict(encoder.state_dict())
    save_pth(pretraining, tmp_path / "pre-train.pth")
    with caplog.at_level(logging.INFO, "pointpeft"):
        adopt_checkpoint(settings, tmp_path / "adopted")
    assert re.search(r"cache_shape\.pt.*pre-train\.pth", caplog.text)
    with torch.no_grad():
        adopted = LoadedAdapter(tmp_path / "adopted").model
        assert torch.equal(adopted(clouds()), model(clouds()))


def test_of_several_banks_none_is_guessed(point_peft, tmp_path):
    *_, settings = point_peft
    names = ("train_f_pos_shape_scan.pt", "train_f_pos_shape.pt")
    (tmp_path / "cache_shape.pt").rename(tmp_path / names[0])
    torch.save(torch.rand(24, 5), tmp_path / names[1])
    with pytest.raises(CheckpointError, match=f"{names[0]}.*{names[1]}"):
        adopt_checkpoint(settings, tmp_path / "adopted")


def test_what_is_no_published_tuned_model_is_refused(config, tmp_path):
    settings = config(POINT_MAE_PRETRAINED, tiny("pretraining"))
    with pytest.raises(CheckpointError, match=r"pretraining.*classification"):
        adopt_checkpoint(settings, tmp_path / "adopted")
    pp.save_model(tiny(), tmp_path / "own.safetensors")
    settings.checkpoint = str(tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match=r"own\.safetensors"):
        adopt_checkpoint(settings, tmp_path / "adopted")


def test_other_data_is_refused(config, tmp_path):
    model = tiny("classification", "point_bert", num_classes=15)
    settings = config(
        POINT_BERT_CLASSIFICATION, model, model="point_bert", data__source="homeobjects"
    )
    with pytest.raises(ConfigError, match=r"data\.source=homeobjects"):
        adopt_checkpoint(settings, tmp_path / "adopted")
