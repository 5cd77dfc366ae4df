"""The memory bank of a run is built once and given to whoever needs it."""

import pytest
import torch

from pointpeft.peft import MemoryBank
from pointpeft.training import inputs
from pointpeft.training.inputs import Banks, load_data, make_backbone
from pointpeft.training.resolved import ResolvedRun


@pytest.fixture
def made(finetune_config):
    """Banks of a run, and its encoder."""
    config = finetune_config("method=point-peft")
    return Banks(load_data(config.data, 64), ResolvedRun.of(config)), make_backbone(config)[0]


def test_a_bank_is_built_once_for_an_encoder(made, monkeypatch):
    of_run, encoder = made
    state = torch.get_rng_state()
    first = of_run.of(encoder)
    assert torch.equal(torch.get_rng_state(), state)  # seeds mean the same with it
    assert len(first) == 32
    first_weight = next(encoder.parameters())
    first_weight.data.neg_()
    assert not torch.equal(of_run.of(encoder).features, first.features)
    first_weight.data.neg_()
    monkeypatch.setattr(MemoryBank, "build", None)
    again = of_run.of(encoder)
    assert torch.equal(again.features, first.features)
    assert (again.ids, again.encoder_hash) == (first.ids, first.encoder_hash)
    assert again is not first


def test_another_process_waits_for_the_content(made, monkeypatch):
    of_run, encoder = made
    first = of_run.of(encoder)
    monkeypatch.setattr(inputs, "is_first_process", lambda: False)
    monkeypatch.setattr(MemoryBank, "build", None)
    waiting = of_run.of(encoder)
    assert waiting.features.shape == first.features.shape
    assert waiting.features.dtype == first.features.dtype
    assert torch.equal(waiting.labels, first.labels)
    assert waiting.ids == first.ids
    assert not waiting.features.any()


def test_a_bank_of_prototypes_is_as_large_as_asked(finetune_config, monkeypatch):
    config = finetune_config("method=point-peft", "peft.bank_size=6")
    of_run = Banks(load_data(config.data, 64), ResolvedRun.of(config))
    encoder = make_backbone(config)[0]
    bank = of_run.of(encoder)
    assert len(bank) == 6
    assert bank.encoder_hash is not None
    monkeypatch.setattr(inputs, "is_first_process", lambda: False)
    assert of_run.of(encoder).features.shape == bank.features.shape
