"""Tuning methods on part-segmentation networks: what they train, and the way to disk and back."""

import copy

import pytest
import torch
from torch.nn import functional as F

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models.registry import build_segmenter
from pointpeft.peft import read_adapter_config
from tests.models.tiny import clouds, settle, tiny

BACKBONES = ["point_mae", "point_bert", "point_m2ae"]
PARTS = {"names": ["a", "b", "c"], "categories": {"x": [0, 1], "y": [1, 2]}}
every_backbone = pytest.mark.parametrize("name", BACKBONES)


def encoder(name="point_mae", seed=1):
    """The same pre-trained encoder at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return settle(tiny("features", name), seed)


def adapted(config, name="point_mae"):
    model = pp.get_peft_model(build_segmenter(encoder(name), 3, 2), config)
    model.class_names, model.parts = ("x", "y"), PARTS
    return model


def train_a_little(model, points, category):
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    logits = model(points, category=category)
    F.cross_entropy(logits.flatten(0, 1), torch.arange(logits[..., 0].numel()) % 3).backward()
    optimizer.step()


@pytest.fixture
def category():
    return torch.tensor([0, 1, 0])


@every_backbone
@pytest.mark.parametrize("method", ["full", "linear"])
def test_a_loaded_segmenter_gives_the_same_logits(name, method, category, tmp_path):
    points = clouds(3)
    model = adapted(pp.FullConfig() if method == "full" else pp.LinearConfig(), name)
    train_a_little(model, points, category)
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(encoder(name), tmp_path)
    logits = model.eval()(points, category=category)
    assert logits.shape == (3, 64, 3)
    assert torch.equal(loaded(points, category=category), logits)
    assert (loaded.parts, loaded.class_names) == (PARTS, ("x", "y"))
    assert loaded.sizes == {"num_classes": 2, "num_parts": 3}


@every_backbone
def test_linear_trains_all_layers_behind_the_encoder(name):
    model = adapted(pp.LinearConfig(), name)
    trained = {n for n, p in model.adapter.named_parameters() if p.requires_grad}
    behind = {
        n
        for n, _ in model.adapter.named_parameters()
        if not n.startswith(("model.backbone.", "model.cls_"))
    }
    assert trained == behind
    counts = model.count_parameters()
    assert counts["trainable"] > 0
    assert counts["trainable_without_head"] == 0


@every_backbone
def test_linear_leaves_the_encoder_alone(name, category):
    model, points = adapted(pp.LinearConfig(), name), clouds(3)
    before = {n: t.clone() for n, t in model.model.backbone.state_dict().items()}
    train_a_little(model, points, category)
    for n, tensor in model.model.backbone.state_dict().items():
        assert torch.equal(tensor, before[n]), n


def test_point_peft_conditions_the_blocks_of_a_segmenter(category, tmp_path):
    points = clouds(3)
    backbone = encoder()
    bank = pp.MemoryBank.build(backbone, clouds(12, seed=5).split(4))
    config = pp.PointPeftConfig(num_prompts=5, prompt_blocks=2, adapter_dim=4)
    model = pp.get_peft_model(build_segmenter(backbone, 3, 2), config, bank)
    train_a_little(model, points, category)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert torch.equal(loaded(points, category=category), model.eval()(points, category=category))
    assert model.count_parameters()["trainable_without_head"] > 0


def test_the_category_matters():
    model = adapted(pp.FullConfig())
    settle(model, 3).eval()
    points = clouds(2)
    one, other = (model(points, category=torch.full((2,), k)) for k in (0, 1))
    assert not torch.allclose(one, other)


def test_features_for_a_head_are_not_for_parts(category):
    model = adapted(pp.LinearConfig())
    with pytest.raises(ConfigError, match="part_segmentation"):
        model(clouds(3), category=category, features=torch.zeros(3, 8))


def test_an_encoder_with_norms_of_finer_scales_is_the_same_encoder(tmp_path):
    """A segmenter on several scales gives the encoder norms that the adapter then holds."""
    model = adapted(pp.LinearConfig(), "point_m2ae")
    assert model.base_hash == pp.models.state_hash(encoder("point_m2ae"))
    assert {n for n in model.adapter.stored_state() if n.startswith("model.backbone.")} == {
        f"model.backbone.norms.{scale}.{kind}" for scale in (0, 1) for kind in ("weight", "bias")
    }


def test_adapter_config_counts_parts_and_categories(tmp_path):
    adapted(pp.LinearConfig()).save_pretrained(tmp_path)
    config = read_adapter_config(tmp_path)
    assert (config["num_classes"], config["num_parts"]) == (2, 3)
    assert config["parts"] == PARTS


def test_an_adapter_without_parts_is_for_classification(tmp_path):
    model = pp.get_peft_model(pp.build_classifier(encoder(), 4), pp.LinearConfig())
    model.save_pretrained(tmp_path)
    config = tmp_path / "adapter_config.json"
    text = config.read_text()
    assert '"num_parts": null' in text
    config.write_text(text.replace('"num_parts": null', '"num_parts": 3'))
    with pytest.raises(CheckpointError, match="config"):
        pp.load_adapter(encoder(), tmp_path)


def test_models_of_other_tasks_are_refused():
    with pytest.raises(ConfigError, match="num_parts"):
        pp.get_peft_model(encoder(), pp.FullConfig())
    with pytest.raises(ConfigError, match=r"point_bert_dvae.*part_segmentation"):
        build_segmenter(tiny("pretraining", "point_bert_dvae"), 3, 2)


def test_part_adapters_on_one_trunk_have_norms_of_their_own(tmp_path, category):
    """A hierarchical segmenter adds norms to the encoder, which a method may leave frozen."""
    trunk, points = tiny("features", "point_m2ae"), clouds(3)
    names = [f"backbone.norms.{scale}" for scale in (0, 1)]
    for number in range(2):
        network = build_segmenter(copy.deepcopy(trunk), 3, 2)
        model = pp.get_peft_model(network, pp.LinearConfig())
        for name in names:
            torch.nn.init.uniform_(model.model.get_submodule(name).weight)
        model.class_names, model.parts = ("x", "y"), PARTS
        model.save_pretrained(tmp_path / f"adapter{number}")
    alone = [pp.load_adapter(trunk, tmp_path / f"adapter{number}") for number in range(2)]
    expected = [model(points, category=category) for model in alone]
    assert not torch.equal(*expected)
    both = pp.load_adapter(trunk, tmp_path / "adapter0", "first")
    pp.load_adapter(both, tmp_path / "adapter1", "second")
    for name, logits in zip(("first", "second"), expected, strict=True):
        both.set_adapter(name)
        assert torch.equal(both(points, category=category), logits)
