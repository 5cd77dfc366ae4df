"""Published Point-PEFT checkpoints: recognised, loaded as published, converted."""

import pytest
import torch

import pointpeft as pp
from pointpeft.compat.checkpoints.backbone_layouts import POINT_MAE_PRETRAINED
from pointpeft.compat.checkpoints.bank_files import read_bank
from pointpeft.compat.checkpoints.checkpoint_converter import convert
from pointpeft.compat.checkpoints.checkpoint_writer import pth_layout, save_pth
from pointpeft.compat.checkpoints.layouts import POINT_PEFT_MAE, point_peft_m2ae
from pointpeft.compat.pretraining import published_features
from pointpeft.errors import CheckpointError, ConfigError
from tests.models.test_published import publish
from tests.models.tiny import clouds, run, settle, tiny

LAYOUTS = {"point_mae": POINT_PEFT_MAE, "point_m2ae": point_peft_m2ae((1, 1, 2))}
SIZES = {"point_mae": {}, "point_m2ae": {"pooling": "concat_all"}}
NAMES = list(LAYOUTS)
GROUPS = ("num_groups", "group_size", "group_sizes")


def tuned(name: str):
    """A model tuned by the published computation, and its encoder before."""
    torch.manual_seed(0)
    model = settle(tiny("classification", name, **SIZES[name])).eval()
    encoder = tiny("features", name, **SIZES[name]).eval()
    encoder.load_state_dict(model.backbone.state_dict())
    settings = pp.PointPeftConfig(
        num_prompts=5, adapter_dim=4, bank_adapter_dim=3, attention_dim=12, reference_compat=True
    )
    model = pp.get_peft_model(model, settings)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), encoder


def published_file(name, model, tmp_path):
    state = LAYOUTS[name].theirs(model.adapter.state_dict())
    return publish(tmp_path / "ckpt-best.pth", state)


def groups_of(model):
    config = getattr(model, "backbone", model).config
    return {k: getattr(config, k) for k in GROUPS if hasattr(config, k)}


def counts_of(model):
    if hasattr(model, "teacher"):
        return {"teacher": "random"}
    names = {"classification": ("num_classes",), "part_segmentation": ("num_parts",)}
    own = names["part_segmentation"] if hasattr(model, "num_parts") else names["classification"]
    return {name: getattr(model, name) for name in own if hasattr(model, name)}


def columns(encoder):
    return pp.MemoryBank.build(encoder, [clouds(12, seed=5)])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_gives_the_model_that_wrote_it(name, tmp_path, caplog):
    model, _ = tuned(name)
    path = published_file(name, model, tmp_path)
    loaded = tiny("classification", name, **SIZES[name], checkpoint=path).eval()
    assert loaded.config == model.config
    assert torch.equal(loaded(clouds()), model(clouds()))
    assert "reference_compat=True" in caplog.text
    assert "set_bank" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_bank_is_given_afterwards(name, tmp_path):
    model, encoder = tuned(name)
    loaded = tiny(
        "classification", name, **SIZES[name], checkpoint=published_file(name, model, tmp_path)
    )
    loaded.eval()
    torch.save(columns(encoder).features.float(), tmp_path / "cache_shape.pt")
    bank = read_bank(tmp_path / "cache_shape.pt")
    before = loaded(clouds())
    loaded.set_bank(bank, encoder)
    after = loaded(clouds())
    assert not torch.allclose(after, before)
    query = published_features(encoder, clouds())
    torch.testing.assert_close(loaded(clouds(), query=query), after)
    assert not any(p.requires_grad for p in loaded.tuner.retriever.parameters())


def test_methods_without_a_bank_refuse_one():
    model = pp.get_peft_model(tiny("classification"), pp.LinearConfig())
    with pytest.raises(ConfigError, match="memory bank"):
        model.set_bank(columns(tiny()), tiny())
    model = pp.get_peft_model(tiny("classification"), pp.PointPeftConfig())
    with pytest.raises(ConfigError, match="memory bank"):
        model.set_bank(columns(tiny()), tiny())


def test_an_encoder_alone_is_refused_and_the_classes_are_named(tmp_path):
    path = published_file("point_mae", tuned("point_mae")[0], tmp_path)
    with pytest.raises(CheckpointError, match="num_classes=4"):
        tiny(checkpoint=path)


def test_published_point_m2ae_pools_all_tokens_when_tuned(tmp_path):
    model, _ = tuned("point_m2ae")
    path = published_file("point_m2ae", model, tmp_path)
    sizes = SIZES["point_m2ae"] | {"pooling": "concat"}
    loaded = tiny("classification", "point_m2ae", **sizes, checkpoint=path).eval()
    assert torch.equal(loaded(clouds()), model(clouds()))
    assert loaded.base_spec.config["pooling"] == "concat_all"


def test_a_file_with_an_entry_too_many_is_refused(tmp_path):
    state = POINT_PEFT_MAE.theirs(tuned("point_mae")[0].adapter.state_dict())
    state["blocks.blocks.0.other.weight"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"blocks\.0\.other"):
        tiny("classification", checkpoint=publish(tmp_path / "more.pth", state))


def groups(name):
    """Settings of the tiny networks that no tensor shows."""
    return groups_of(tiny("features", name, **SIZES[name]))


def converted(folder, name):
    base = pp.create_model(name, checkpoint=folder / "backbone.safetensors")
    return pp.load_adapter(base, folder / "adapter").eval()


@pytest.mark.parametrize("given", [False, True], ids=["beside", "given"])
@pytest.mark.parametrize("name", NAMES)
def test_a_tuned_model_becomes_an_adapter_beside_its_encoder(name, given, tmp_path, caplog):
    model, encoder = tuned(name)
    source = published_file(name, model, tmp_path)
    folder = tmp_path / "elsewhere" if given else tmp_path
    folder.mkdir(exist_ok=True)
    pp.save_model(encoder, folder / "pretrain.safetensors")
    torch.save(columns(encoder).features.float(), folder / "cache_shape.pt")
    files = {"bank": folder / "cache_shape.pt", "encoder": folder / "pretrain.safetensors"}
    convert(source, tmp_path / "ours", backbone=groups(name), **(files if given else {}))
    assert "set_bank" not in caplog.text
    model.set_bank(read_bank(folder / "cache_shape.pt"), encoder)
    assert torch.equal(converted(tmp_path / "ours", name)(clouds()), model(clouds()))


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_file_retrieves_from_what_lies_beside_it(name, tmp_path, caplog):
    model, encoder = tuned(name)
    path = published_file(name, model, tmp_path)
    pp.save_model(encoder, tmp_path / "pretrain.safetensors")
    torch.save(columns(encoder).features.float(), tmp_path / "cache_shape.pt")
    loaded = tiny("classification", name, **SIZES[name], checkpoint=path).eval()
    assert "set_bank" not in caplog.text
    model.set_bank(read_bank(tmp_path / "cache_shape.pt"), encoder)
    assert torch.equal(loaded(clouds()), model(clouds()))


@pytest.mark.parametrize("lacking", ["cache_shape.pt", "pretrain.safetensors"])
def test_without_bank_or_encoder_it_is_another_function_and_refused(lacking, tmp_path):
    model, encoder = tuned("point_mae")
    source = published_file("point_mae", model, tmp_path)
    pp.save_model(encoder, tmp_path / "pretrain.safetensors")
    torch.save(columns(encoder).features.float(), tmp_path / "cache_shape.pt")
    (tmp_path / lacking).unlink()
    with pytest.raises(CheckpointError, match=lacking):
        convert(source, tmp_path / "ours", backbone=groups("point_mae"))
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_may_be_asked_to_do_without_a_bank(name, tmp_path):
    model, _ = tuned(name)
    source = published_file(name, model, tmp_path)
    convert(source, tmp_path / "ours", bank="none", backbone=groups(name))
    assert torch.equal(converted(tmp_path / "ours", name)(clouds()), model(clouds()))


UNTRACED = {
    "group_pooling": "mean+max", "center_coefficient": 0.1, "propagation_coefficient": 0.6,
}  # fmt: skip


def odd_model():
    """A model of which the tensors do not show how it computes."""
    network = settle(tiny("classification", "point_m2ae", num_heads=3, pooling="concat_all"))
    sizes = {"adapter_dim": (4, 2, 3), "output_adapter_dim": 5, "attention_dim": 12}
    config = pp.PointPeftConfig(**sizes, **UNTRACED, num_prompts=5, reference_compat=True)
    model = settle(pp.get_peft_model(network, config)).eval()
    assert model.config.attention_heads == 3
    return model


def test_our_own_files_carry_what_leaves_no_trace(tmp_path, caplog):
    model = odd_model()
    save_pth(model, tmp_path / "a.pth")
    loaded = tiny("classification", "point_m2ae", pooling="concat_all",
                  checkpoint=tmp_path / "a.pth").eval()  # fmt: skip
    assert loaded.config == model.config
    assert torch.equal(loaded(clouds()), model(clouds()))
    assert "assumed" not in caplog.text
    convert(tmp_path / "a.pth", tmp_path / "ours", bank="none")
    assert torch.equal(converted(tmp_path / "ours", "point_m2ae")(clouds()), model(clouds()))


def test_of_other_files_it_is_passed_or_said_what_was_assumed(tmp_path, caplog):
    model = odd_model()
    state = pth_layout(model).theirs(model.adapter.state_dict())
    path = publish(tmp_path / "a.pth", state)
    sizes = {"pooling": "concat_all", "num_heads": 3, "checkpoint": path}
    loaded = tiny("classification", "point_m2ae", **sizes, peft=UNTRACED).eval()
    assert torch.equal(loaded(clouds()), model(clouds()))
    caplog.clear()
    other = tiny("classification", "point_m2ae", **sizes).eval()
    assert not torch.allclose(other(clouds()), model(clouds()))
    for assumed in ("group_pooling=max", "center_coefficient=0.3", "propagation_coefficient=0.2"):
        assert assumed in caplog.text
    given = {**groups("point_m2ae"), "num_heads": 3}
    convert(path, tmp_path / "ours", bank="none", backbone=given, peft=UNTRACED)
    assert torch.equal(converted(tmp_path / "ours", "point_m2ae")(clouds()), model(clouds()))


def test_settings_of_a_method_are_for_files_of_tuned_models_alone(tmp_path):
    model = tiny("classification")
    path = publish(tmp_path / "a.pth", pth_layout(model).theirs(model.state_dict()))
    with pytest.raises(ConfigError, match="peft"):
        tiny("classification", checkpoint=path, peft={"group_pooling": "max"})
    with pytest.raises(ConfigError, match="peft"):
        tiny("classification", peft={"group_pooling": "max"})


def test_released_queries_are_made_in_the_groups_of_pre_training(tmp_path):
    """Published code tunes on ScanObjectNN with 128 patches and makes queries with 64."""
    sizes = {"dim": 384, "depth": 1, "num_groups": 16, "group_size": 16}
    torch.manual_seed(0)
    pretraining = settle(tiny("pretraining", **sizes))
    network = tiny("classification", **sizes)
    network.backbone.load_state_dict(pretraining.backbone.state_dict())
    config = pp.PointPeftConfig(num_prompts=5, reference_compat=True)
    model = pp.get_peft_model(network, config).eval()
    source = publish(tmp_path / "best.pth", POINT_PEFT_MAE.theirs(model.adapter.state_dict()))
    publish(tmp_path / "pretrain.pth", POINT_MAE_PRETRAINED.theirs(pretraining.state_dict()))
    torch.save(
        torch.nn.functional.normalize(torch.randn(384, 9), dim=0), tmp_path / "cache_shape.pt"
    )
    as_published = tiny(**{**sizes, "num_groups": 64, "group_size": 32, "skip_near_origin": True})
    as_published.load_state_dict(pretraining.backbone.state_dict())
    model.set_bank(read_bank(tmp_path / "cache_shape.pt"), as_published.eval())
    convert(source, tmp_path / "ours", backbone={"num_groups": 16, "group_size": 16})
    assert torch.equal(converted(tmp_path / "ours", "point_mae")(clouds()), model(clouds()))


def test_a_folder_is_not_called_like_a_file(tmp_path):
    source = published_file("point_mae", tuned("point_mae")[0], tmp_path)
    convert(source, tmp_path / "x.safetensors", bank="none", backbone=groups("point_mae"))
    assert (tmp_path / "x" / "adapter").is_dir()
    assert not (tmp_path / "x.safetensors").exists()


def test_another_encoder_than_the_tuned_one_is_refused(tmp_path):
    source = published_file("point_mae", tuned("point_mae")[0], tmp_path)
    pp.save_model(tiny(), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors.*matrices"):
        convert(
            source, tmp_path / "ours", bank="none", encoder=tmp_path / "other.safetensors",
            backbone=groups("point_mae"),
        )  # fmt: skip


@pytest.mark.parametrize("task", ["pretraining", "classification", "part_segmentation"])
@pytest.mark.parametrize("name", ["point_mae", "point_bert", "point_m2ae", "i2p_mae"])
def test_a_plain_model_becomes_a_file_in_the_sizes_that_it_shows(name, task, tmp_path, caplog):
    pooling = {"point_m2ae": {"pooling": "concat"}, "i2p_mae": {"pooling": "concat_all"}}
    model = settle(tiny(task, name, **pooling.get(name, {})))
    layout, path = pth_layout(model), tmp_path / "file.pth"
    publish(path, layout.theirs(model.state_dict()))
    report = convert(path, tmp_path / "ours.safetensors", name, backbone=groups_of(model))
    assert not report.fresh
    assert not report.left
    for key in ("num_heads", "skip_near_origin"):
        assert f"{key}=" in caplog.text
    loaded = pp.create_model(name, task=task, checkpoint=tmp_path / "ours.safetensors",
                             **counts_of(model))  # fmt: skip
    expected = model.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in loaded.state_dict().items())
    if task != "pretraining":
        assert torch.equal(run(loaded.eval(), clouds()), run(model.eval(), clouds()))


@pytest.mark.parametrize("task", ["pretraining", "classification"])
@pytest.mark.parametrize("name", ["point_mae_small", "point_m2ae_small", "i2p_mae_small"])
def test_files_that_were_written_here_say_what_they_do_not_show(name, task, tmp_path, caplog):
    odd = {"num_heads": 3} | (
        {} if name == "point_mae_small" else {"local_radius": (0.4, 0.5, 0.6)}
    )
    model = settle(tiny(task, name, **odd))
    save_pth(model, tmp_path / "file.pth")
    convert(tmp_path / "file.pth", tmp_path / "ours.safetensors")
    assert "assumed" not in caplog.text
    loaded = pp.create_model(name, task=task, checkpoint=tmp_path / "ours.safetensors",
                             **counts_of(model))  # fmt: skip
    encoder = getattr(model, "backbone", model)
    assert loaded.backbone.config == encoder.config


def test_a_preset_of_another_computation_than_the_file_states_is_refused(tmp_path):
    save_pth(tiny("classification"), tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"scanobjectnn.*num_groups=8, not 128"):
        convert(tmp_path / "a.pth", tmp_path / "ours.safetensors", preset="scanobjectnn")


def test_a_size_that_the_file_shows_is_not_changed(tmp_path):
    model = tiny("pretraining")
    path = publish(tmp_path / "a.pth", POINT_MAE_PRETRAINED.theirs(model.state_dict()))
    with pytest.raises(ConfigError, match="depth=3, not 4"):
        convert(path, tmp_path / "ours.safetensors", backbone={"depth": 4})


def test_our_own_files_need_no_conversion(tmp_path):
    pp.save_model(tiny(), tmp_path / "ours.safetensors")
    with pytest.raises(CheckpointError, match=r"ours\.safetensors.*already"):
        convert(tmp_path / "ours.safetensors", tmp_path / "again.safetensors")
