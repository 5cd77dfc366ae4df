"""Every entry of the registry keeps the promises of a model; a new entry is tested by existing."""

import pytest
import torch

from pointpeft.models import get_entry, list_models, load_into, save_model
from tests.models.tiny import TASKS, clouds, settle, tiny

ENTRIES = [(name, task) for name in list_models() for task in TASKS]
every_entry = pytest.mark.parametrize(("name", "task"), ENTRIES)


def value(output):
    """A scalar that depends on all of a model's output."""
    tensor = getattr(output, "tokens", output)
    return tensor.square().sum()


@every_entry
def test_forward_has_the_documented_shape(name, task, points):
    model = tiny(task, name).eval()
    output = model(points)
    if task == "features":
        assert output.tokens.shape == (3, 8, 24)
        assert output.centers.shape == (3, 8, 3)
        assert model.retrieval_features(points).shape == (3, model.num_features)
    else:
        assert output.shape == {"classification": (3, 4), "pretraining": ()}[task]
    assert value(output).isfinite()


@every_entry
def test_gradient_reaches_every_parameter(name, task, points):
    model = settle(tiny(task, name, drop_path=0.0)).eval()
    value(model(points)).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@every_entry
@pytest.mark.parametrize("half", [False, True])
def test_saved_weights_come_back(name, task, half, tmp_path):
    model, other = settle(tiny(task, name)), tiny(task, name)
    save_model(model, tmp_path / "model.safetensors", half=half)
    report = load_into(other, tmp_path / "model.safetensors")
    assert not report.left
    assert not report.fresh
    expected = model.state_dict()
    for entry, tensor in other.state_dict().items():
        stored = expected[entry]
        if half and stored.is_floating_point():
            stored = stored.half().float()
        assert torch.equal(tensor, stored), entry
    assert list(tmp_path.iterdir()) == [tmp_path / "model.safetensors"]


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("task", ["features", "classification"])
def test_a_cloud_does_not_feel_the_rest_of_its_batch(name, task, points):
    model = settle(tiny(task, name)).eval()
    together = model(points)
    together = getattr(together, "tokens", together)
    for row in range(len(points)):
        alone = model(points[row : row + 1])
        alone = getattr(alone, "tokens", alone)
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list_models())
def test_an_entry_describes_itself(name):
    entry = get_entry(name)
    assert entry.name == name
    assert entry.summary
    assert entry.paper
    assert entry.licence
    model = tiny(name=name)
    assert model.spec.name == name
    assert model.spec.config["dim"] == 24
    assert model.spec.num_points == entry.num_points


def test_clouds_of_other_sizes_are_encoded():
    model = tiny().eval()
    for count in (8, 200):
        assert model(clouds(2, count)).tokens.shape == (2, 8, 24)
