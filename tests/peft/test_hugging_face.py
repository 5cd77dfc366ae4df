"""Methods of the library ``peft`` on our models."""

import pytest
import torch

import pointpeft as pp
from pointpeft.errors import ConfigError
from pointpeft.peft.hugging_face import HuggingFaceConfig, LoRAConfig, from_theirs
from tests.models.tiny import settle
from tests.peft.support import adapted, classifier, encoder

peft = pytest.importorskip("peft")
THEIRS = {
    "lora": lambda: peft.LoraConfig(r=2, lora_alpha=4),
    "dora": lambda: peft.LoraConfig(r=2, use_dora=True),
    "ia3": lambda: peft.IA3Config(target_modules=r".*mlp\.fc2", feedforward_modules=[]),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=["proj"]),
    "hugging-face": lambda: peft.LoHaConfig(r=2, target_modules=["qkv", "fc1"]),
}
every = pytest.mark.parametrize("name", THEIRS)


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


@every
def test_merged_it_is_a_plain_model(name, points):
    model = adapted(from_theirs(THEIRS[name]())).eval()
    before = {n: p.clone() for n, p in model.base.named_parameters()}
    plain = model.merge_adapter().eval()
    assert set(plain.state_dict()) == set(classifier().state_dict())
    torch.testing.assert_close(plain(points), model(points), rtol=1e-4, atol=1e-4)
    for n, p in model.base.named_parameters():
        assert torch.equal(p, before[n])


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
