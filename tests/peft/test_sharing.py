"""One trunk carries any number of adapters, and none copies what it does not train."""

import pytest
import torch

import pointpeft as pp
from tests.peft.support import CONFIGS, adapted, encoder
from tests.peft.test_methods import step

METHODS = {name: make for name, make in CONFIGS.items() if "published" not in name}


@pytest.fixture
def folders(tmp_path):
    """Adapters of every method, trained a little."""
    for name, make in METHODS.items():
        model = adapted(make(), with_bank=True)
        model.save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in METHODS}


def storages(module):
    """Where the matrices of an encoder lie."""
    return {p.untyped_storage().data_ptr() for p in module.parameters() if p.ndim > 1}


def test_adapters_on_one_trunk_copy_no_frozen_matrix(folders):
    trunk = encoder()
    for name, folder in folders.items():
        loaded = pp.load_adapter(trunk, folder)
        of_encoder = storages(loaded.model.backbone)
        if name == "full":
            assert of_encoder.isdisjoint(storages(trunk))
        else:
            assert of_encoder == storages(trunk), name


def test_adapters_on_one_trunk_do_not_disturb_each_other(folders, points):
    trunk = encoder()
    features = trunk.eval()(points).tokens
    flags = {name: p.requires_grad for name, p in trunk.named_parameters()}
    alone = {name: pp.load_adapter(encoder(), folder)(points) for name, folder in folders.items()}
    together = {name: pp.load_adapter(trunk, folder) for name, folder in folders.items()}
    names = list(together)
    for place, name in enumerate(names):
        step(together[name], points)
        assert not torch.equal(together[name].eval()(points), alone[name]), name
        for other in names[place + 1 :]:
            assert torch.equal(together[other].eval()(points), alone[other]), (name, other)
    assert torch.equal(trunk(points).tokens, features)
    assert {name: p.requires_grad for name, p in trunk.named_parameters()} == flags


def test_a_change_of_precision_is_the_adapted_models_own(folders, points):
    trunk = encoder()
    model = pp.load_adapter(trunk, folders["stag"]).double()
    assert model(points.double()).dtype == torch.float64
    assert next(trunk.parameters()).dtype == torch.float32
