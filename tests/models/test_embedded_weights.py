"""The weights that come with the package are small, documented, and better than none."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import pointpeft as pp
from pointpeft.measure import extract_features, linear_svm
from pointpeft.training import PretrainConfig, load_config
from tests.parity.support import Case

CASES = Path(__file__).parents[1] / "parity" / "cases"
NAMES = ("point_mae_small", "point_m2ae_small")
WEIGHTS = Path(pp.__file__).parent / "models" / "weights"


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def backbone(name):
    return pp.create_model(name, pretrained=True).eval()


def test_all_weights_are_looked_at():
    assert {file.stem for file in WEIGHTS.glob("*.safetensors")} == set(NAMES)


def test_it_is_small(name, backbone):
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 8e6
    assert 1.5e6 < sum(p.numel() for p in backbone.parameters()) < 4e6
    counter = FlopCounterMode(display=False)
    # Products inside fused attention would not be counted.
    with sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        backbone(torch.rand(1, 1024, 3))
    assert counter.get_total_flops() / 2 < 0.2e9  # multiply-adds


def outputs(backbone, stored):
    """Features of two clouds, and logits of a head with fixed weights."""
    case = Case(stored)
    points = torch.from_numpy(case.recipe.cloud(2, 1024, 7))
    model = pp.build_classifier(copy.deepcopy(backbone), 4).eval()
    added = {n: t for n, t in model.state_dict().items() if not n.startswith("backbone.")}
    fixed = {
        n: torch.from_numpy(case.recipe.tensor(n, tuple(t.shape), 7)) for n, t in added.items()
    }
    model.load_state_dict(fixed, strict=False)
    with torch.no_grad():
        return {"features": backbone.retrieval_features(points), "logits": model(points)}


def test_it_computes_what_it_did(name, backbone):
    file = CASES / f"embedded_{name}.npz"
    with np.load(file) as stored:
        for key, values in outputs(backbone, file).items():
            np.testing.assert_allclose(values, stored[key], rtol=1e-4, atol=1e-5)


def test_it_says_how_it_was_made(name):
    config = load_config(PretrainConfig, [WEIGHTS / f"{name}.yaml"])
    assert not Path(config.data.source).is_absolute()
    log = np.genfromtxt(WEIGHTS / f"{name}.csv", delimiter=",", names=True)
    assert len(log) == config.trainer.epochs
    assert log["train_loss"][-1] < 0.5 * log["train_loss"][0]
    card = (WEIGHTS / f"{name}.md").read_text()
    for data in ("homeobjects", "mechparts", "mechparts-scan"):
        assert f"| {data} |" in card
    root = Path(__file__).resolve().parents[2]
    recipe = yaml.safe_load((root / f"cfgs/pre-training/{name}.yaml").read_text())
    assert recipe["trainer"]["epochs"] == config.trainer.epochs
    assert recipe["data"]["source"] == config.data.source
    assert recipe["pretraining"].items() <= config.pretraining.items()


def test_a_linear_svm_prefers_it_to_random_weights(name, backbone):
    data = pp.load_shapes("homeobjects")

    def accuracy(model):
        train, test = (
            extract_features(model, torch.from_numpy(part.points))
            for part in (data.train, data.test)
        )
        return linear_svm(train, data.train.labels, test, data.test.labels, C=1.0).accuracy

    random = accuracy(pp.create_model(name).eval())
    assert accuracy(backbone) > random + 0.1
