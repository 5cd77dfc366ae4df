"""Published Point-PEFT checkpoints: recognised, loaded as published, converted."""

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.models.checkpoint import read_checkpoint
from pointpeft.models.published import POINT_M2AE_PRETRAINED, POINT_MAE_PRETRAINED
from pointpeft.peft import POINT_PEFT_M2AE, POINT_PEFT_MAE, convert
from tests.models.test_published import publish
from tests.models.tiny import clouds, settle, tiny

LAYOUTS = {"point_mae": POINT_PEFT_MAE, "point_m2ae": POINT_PEFT_M2AE}
SIZES = {"point_mae": {}, "point_m2ae": {"depths": (5, 5, 5), "pooling": "concat_all"}}
PRETRAINED = {"point_mae": POINT_MAE_PRETRAINED, "point_m2ae": POINT_M2AE_PRETRAINED}
NAMES = list(LAYOUTS)


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
    return publish(tmp_path / "ckpt-best.pth", LAYOUTS[name].to_published(model.state_dict()))


def columns(encoder):
    return pp.MemoryBank.build(encoder, [clouds(12, seed=5)])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_gives_the_model_that_wrote_it(name, tmp_path, caplog):
    model, _ = tuned(name)
    path = published_file(name, model, tmp_path)
    loaded = tiny("classification", name, **SIZES[name], checkpoint=path).eval()
    assert loaded.config == model.config
    assert torch.equal(loaded(clouds()), model(clouds()))
    assert "computing as published (reference_compat=True)" in caplog.text
    assert "memory bank is a separate file: give it by set_bank" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_a_bank_is_given_afterwards(name, tmp_path):
    model, encoder = tuned(name)
    loaded = tiny(
        "classification", name, **SIZES[name], checkpoint=published_file(name, model, tmp_path)
    )
    loaded.eval()
    torch.save(columns(encoder).features.float(), tmp_path / "cache_shape.pt")
    bank = pp.MemoryBank.import_published(tmp_path / "cache_shape.pt")
    before = loaded(clouds())
    loaded.set_bank(bank, encoder)
    after = loaded(clouds())
    assert not torch.allclose(after, before)
    query = encoder.retrieval_features(clouds(), reference_compat=True)
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
    state = POINT_PEFT_MAE.to_published(tuned("point_mae")[0].state_dict())
    state["blocks.blocks.0.other.weight"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match="no place for"):
        tiny("classification", checkpoint=publish(tmp_path / "more.pth", state))


class Small:
    """``create_model`` with the sizes of the tests, for what converts whole files."""

    def __init__(self, name):
        self.sizes = SIZES[name]

    def __call__(self, name, task=None, preset=None, **settings):
        return tiny(task or "features", name, **{**self.sizes, **settings})


@pytest.mark.parametrize("with_encoder", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_tuned_model_becomes_an_adapter_beside_its_encoder(
    name, with_encoder, tmp_path, monkeypatch
):
    monkeypatch.setattr("pointpeft.peft.conversion.create_model", Small(name))
    model, encoder = tuned(name)
    source = published_file(name, model, tmp_path)
    pp.save_model(encoder, tmp_path / "encoder.safetensors")
    torch.save(columns(encoder).features.float(), tmp_path / "bank.pt")
    convert(
        source,
        tmp_path / "ours",
        bank=tmp_path / "bank.pt",
        encoder=tmp_path / "encoder.safetensors" if with_encoder else None,
    )
    base = pp.create_model(name, checkpoint=tmp_path / "ours" / "backbone.safetensors")
    loaded = pp.load_adapter(base, tmp_path / "ours" / "adapter")
    query = encoder.retrieval_features(clouds(), reference_compat=True)
    model.set_bank(pp.MemoryBank.import_published(tmp_path / "bank.pt"), encoder)
    torch.testing.assert_close(loaded(clouds(), query=query), model(clouds(), query=query))
    if with_encoder:
        torch.testing.assert_close(loaded(clouds()), model(clouds()))


def test_another_encoder_than_the_tuned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pointpeft.peft.conversion.create_model", Small("point_mae"))
    source = published_file("point_mae", tuned("point_mae")[0], tmp_path)
    pp.save_model(tiny(), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="frozen matrices differ"):
        convert(source, tmp_path / "ours", encoder=tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_model_becomes_a_safetensors_file(name, tmp_path, monkeypatch):
    monkeypatch.setattr("pointpeft.peft.conversion.create_model", Small(name))
    model = settle(tiny("pretraining", name, **SIZES[name]))
    source = publish(tmp_path / "pre.pth", PRETRAINED[name].to_published(model.state_dict()))
    report = convert(source, tmp_path / "ours.safetensors")
    assert not report.left
    assert not report.fresh
    state = read_checkpoint(tmp_path / "ours.safetensors").state
    expected = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[n].to(expected[n]), expected[n]) for n in state)


def test_our_own_files_need_no_conversion(tmp_path):
    pp.save_model(tiny(), tmp_path / "ours.safetensors")
    with pytest.raises(CheckpointError, match="nothing to convert"):
        convert(tmp_path / "ours.safetensors", tmp_path / "again.safetensors")
