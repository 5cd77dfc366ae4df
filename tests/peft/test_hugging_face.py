"""Methods of the library ``peft`` on our models."""

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.peft.hugging_face import HuggingFaceConfig, IA3Config, LoRAConfig, from_theirs
from tests.models.tiny import settle
from tests.peft.support import adapted, classifier, encoder

peft = pytest.importorskip("peft")
PEFT_TYPE_TO_CONFIG_MAPPING = pytest.importorskip("peft.mapping").PEFT_TYPE_TO_CONFIG_MAPPING
THEIRS = {
    "lora": lambda: peft.LoraConfig(r=2, lora_alpha=4),
    "dora": lambda: peft.LoraConfig(r=2, use_dora=True),
    "ia3": lambda: peft.IA3Config(target_modules=r".*mlp\.fc2", feedforward_modules=[]),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=["proj"]),
    "hugging-face": lambda: peft.LoHaConfig(r=2, target_modules=["qkv", "fc1"]),
}
every = pytest.mark.parametrize("name", THEIRS)
_TINY = {
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 12},
    "FOURIERFT": {"n_frequency": 8},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 4},
    "VBLORA": {"vector_length": 8, "num_vectors": 4, "topk": 2},
    "WAVEFT": {"n_frequency": 8},
}
"""What layers as small as those of the tests need."""
OF_LANGUAGE = {
    "ADALORA", "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "POLY",
    "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "SHADOW", "TRAINABLE_TOKENS", "XLORA",
}  # fmt: skip
KINDS = {str(kind.value): of for kind, of in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


@every
def test_a_config_of_theirs_is_taken(name):
    theirs = THEIRS[name]()
    model = pp.get_peft_model(classifier(), theirs)
    assert model.config.method == name
    ours = model.config.theirs()
    for key, value in theirs.to_dict().items():
        if value is not None:
            assert getattr(ours, key) == getattr(theirs, key), key
    assert type(model.config).from_dict(model.config.to_dict()) == model.config


@every
def test_their_library_reads_what_is_saved(name, points, tmp_path):
    model = adapted(from_theirs(THEIRS[name]())).eval()
    model.save_pretrained(tmp_path)
    trunk = encoder()
    theirs = peft.PeftModel.from_pretrained(trunk, tmp_path / "hugging_face").eval()
    assert torch.equal(theirs(points).tokens, model.model.backbone(points).tokens)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - OF_LANGUAGE))
def test_every_method_of_theirs_is_saved_and_read(kind, points, tmp_path):
    config = HuggingFaceConfig(
        {"peft_type": kind, "target_modules": ["fc1"], **_TINY.get(kind, {})}
    )
    model = adapted(config).eval()
    model.save_pretrained(tmp_path)
    loaded = pp.load_adapter(encoder(), tmp_path)
    assert torch.equal(loaded(points), model(points))
    theirs = peft.PeftModel.from_pretrained(encoder(), tmp_path / "hugging_face").eval()
    assert torch.equal(theirs(points).tokens, model.model.backbone(points).tokens)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() & OF_LANGUAGE))
def test_methods_of_language_models_are_refused(kind):
    with pytest.raises(ConfigError, match=f"peft_type={kind}"):
        pp.get_peft_model(classifier(), HuggingFaceConfig({"peft_type": kind}))


def test_what_a_config_of_theirs_leaves_open_is_ours():
    config = from_theirs(peft.IA3Config(target_modules=["fc1", "fc2"]))
    assert config == IA3Config({"target_modules": ["fc1", "fc2"]})
    pp.get_peft_model(classifier(), config)


@every
def test_merged_it_is_a_plain_model(name, points):
    model = adapted(from_theirs(THEIRS[name]())).eval()
    before = {n: p.clone() for n, p in model.base.named_parameters()}
    plain = model.merge_adapter().eval()
    assert set(plain.state_dict()) == set(classifier().state_dict())
    torch.testing.assert_close(plain(points), model(points), rtol=1e-4, atol=1e-4)
    for n, p in model.base.named_parameters():
        assert torch.equal(p, before[n])


@pytest.mark.parametrize("kind", ["BEFT", "LILY"])
def test_what_cannot_be_merged_is_refused_and_left_as_it_is(kind, points):
    model = adapted(HuggingFaceConfig({"peft_type": kind})).eval()
    before = model(points)
    with pytest.raises(ConfigError, match="merged"):
        model.merge_adapter()
    assert torch.equal(model(points), before)


def test_training_leaves_the_shared_encoder(points):
    model = pp.get_peft_model(classifier(), LoRAConfig({"r": 2})).train()
    before = {n: p.clone() for n, p in model.base.backbone.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(points).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(p, before[n]) for n, p in model.base.backbone.named_parameters())


def test_layers_that_are_multiplied_in_parts_are_adapted_too(points):
    config = LoRAConfig({"target_modules": r".*second_conv\.0", "r": 2})
    model = pp.get_peft_model(classifier(), config).eval()
    with torch.no_grad():
        before = model(points)
        settle(model.model.backbone.tokenizer.embed.second_conv[0].lora_B)
        assert not torch.allclose(model(points), before)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"rank": 4}, "'rank'.*'r'"),
        ({"r": "four"}, "^r .*four"),
        ({"bias": "all"}, "bias"),
        ({"target_modules": ["no_such_layer"]}, "no_such_layer"),
    ],
)
def test_wrong_settings_are_named(settings, word):
    with pytest.raises(ConfigError, match=word):
        pp.get_peft_model(classifier(), LoRAConfig(settings))


def test_an_unknown_method_of_theirs_is_named():
    with pytest.raises(ConfigError, match="LORAX"):
        HuggingFaceConfig({"peft_type": "lorax"})
