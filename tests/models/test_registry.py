"""Every entry of the registry keeps the promises of a model; a new entry is tested by existing."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo import config as dynamo

from pointpeft.compat.checkpoints.checkpoint_reader import load_into
from pointpeft.errors import DataError
from pointpeft.models import get_entry, list_models, save_model
from pointpeft.models.part_segmenters import CategoryEmbedding
from pointpeft.training.config import FinetuneConfig, PretrainConfig, SvmConfig
from pointpeft.training.config_files import load_config
from tests.models.tiny import clouds, run, settle, tiny

ENTRIES = [(name, task) for name in list_models() for task in get_entry(name).tasks]
PREDICTING = [(name, task) for name, task in ENTRIES if task != "pretraining"]
every_entry = pytest.mark.parametrize(("name", "task"), ENTRIES)
every_predictor = pytest.mark.parametrize(("name", "task"), PREDICTING)
# Entries whose network no other has; the rest are slow. The small ones differ in their sizes alone,
# which a tiny network of the others has as well, but for pre-training of Point-MAE, where the small
# one does not embed what is hidden. I2P-MAE is Point-M2AE but for pre-training and what it
# retrieves. What predicts holds an encoder.
SAME = ("pcp_mae_small", "point_bert_small", "point_m2ae_small", "i2p_mae_small")
NETWORKS = [
    (name, task)
    for name, task in ENTRIES
    if task != "features"
    and name not in SAME
    and (task == "pretraining" or name not in ("point_mae_small", "i2p_mae"))
]
every_network = pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(*entry, marks=() if entry in NETWORKS else pytest.mark.slow)
        for entry in ENTRIES
    ],
)


@every_entry
def test_forward_has_the_documented_shape(name, task, points):
    model = tiny(task, name).eval()
    output = run(model, points)
    if task == "features":
        tokens, centers = model(points)
        assert tokens.shape[:2] == centers.shape[:2]
        assert tokens.shape[2] == model.num_features
        assert model.retrieval_features(points).shape == (3, model.num_features)
    else:
        shapes = {"classification": (3, 4), "part_segmentation": (3, 64, 5), "pretraining": ()}
        assert output.shape == shapes[task]
    assert output.isfinite().all()


@pytest.mark.parametrize(("name", "task"), [e for e in PREDICTING if e[1] != "features"])
def test_training_on_one_cloud_is_possible_or_refused(name, task, points):
    """Some heads take a variance over the clouds of a batch."""
    model = tiny(task, name).train()
    normalised = [layer for layer in model.children() if _normalises_clouds(layer)]
    if not normalised:
        assert run(model, points[:1]).isfinite().all()
        return
    with pytest.raises(DataError, match="batch_size"):
        run(model, points[:1])
    for layer in normalised:
        layer.eval()
    assert run(model, points[:1]).isfinite().all()
    assert run(model.train(), points[:2]).isfinite().all()


def _normalises_clouds(layer):
    kinds = (nn.Sequential, CategoryEmbedding)
    return isinstance(layer, kinds) and any(isinstance(m, nn.BatchNorm1d) for m in layer.modules())


@every_network
def test_gradient_reaches_every_trainable_parameter(name, task, points):
    model = settle(tiny(task, name)).eval()
    run(model, points).square().sum().backward()
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert trainable
    assert not {n for n, p in trainable if p.grad is None or not p.grad.any()}


@every_network
def test_it_trains(name, task, points):
    """A few steps lower what the model is asked to lower, dropout and all switched on."""
    # Its queue fills with keys of these few clouds, so that they become harder to tell apart.
    contrasts = task == "pretraining" and name in ("point_bert", "point_bert_small")
    torch.manual_seed(0)
    model = tiny(task, name, **({"mix_loss": False} if contrasts else {}))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(8):
        torch.manual_seed(1)  # the same masks, dropout and weights in every step
        output = run(model, points)
        weights = torch.ones(()) if task == "pretraining" else torch.randn(output.shape)
        losses.append((output * weights).sum())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1 * losses[0].abs()
    assert all(p.isfinite().all() for p in model.parameters())


@every_network
def test_a_diverged_network_gives_nan_and_does_not_blame_the_data(name, task, points):
    model = tiny(task, name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
        assert run(model, points).isnan().all()


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


@every_predictor
def test_a_cloud_does_not_feel_the_rest_of_its_batch(name, task, points):
    model = settle(tiny(task, name)).eval()
    together = run(model, points)
    alone = [run(model, points[row : row + 1]) for row in range(len(points))]
    if task == "part_segmentation":  # the category is the place in the batch
        alone = [model(points[row : row + 1], torch.tensor([row])) for row in range(len(points))]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-5)


def seeded(network, points):
    """What it gives with the same masks and noise each time."""
    torch.manual_seed(0)
    return run(network, points)


@every_network
def test_compiles_without_a_break(name, task, points):
    model = settle(tiny(task, name)).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    hides = task == "pretraining"  # on several scales clouds differ in how much is hidden
    with torch.no_grad(), dynamo.patch(capture_dynamic_output_shape_ops=hides):
        expected = seeded(model, points)
        torch.testing.assert_close(seeded(compiled, points), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the default compiler needs g++")
def test_compiles_with_the_default_compiler(points):
    model = settle(tiny("classification")).eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model)(points), model(points))


def directional_derivative(network, task, parameters, direction, points):
    """Of a random function of the outputs, by autograd and by central differences."""

    def value():
        torch.manual_seed(0)  # of masks
        output = run(network, points)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).double()
        return (output * weights).sum()

    def moved(step):
        with torch.no_grad():
            for parameter, part in zip(parameters, direction, strict=True):
                parameter.add_(part, alpha=step)
        return value().item()

    step = 1e-9  # so small that no maximum changes its place
    numerical = (moved(step) - moved(-2 * step)) / (2 * step)
    moved(step)
    torch.manual_seed(0)
    output = run(network, points)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).double()
    (output * weights).sum().backward()
    exact = sum((p.grad * part).sum() for p, part in zip(parameters, direction, strict=True))
    return float(exact), numerical


@every_network
def test_gradients_are_those_of_the_function(name, task, points):
    """In float64 against differences along a random direction of all parameters at once."""
    network = settle(tiny(task, name)).double().eval()
    parameters = [p for p in network.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(p.shape, generator=generator).double() for p in parameters]
    exact, numerical = directional_derivative(network, task, parameters, direction, points.double())
    assert abs(exact) > 1e-6
    assert numerical == pytest.approx(exact, rel=1e-4)


@every_network
def test_bfloat16_stays_close(name, task, points):
    model = settle(tiny(task, name)).eval()
    with torch.no_grad():
        expected = seeded(model, points)
        with torch.autocast("cpu", torch.bfloat16):
            actual = seeded(model, points)
    error = (actual.float() - expected).norm() / expected.norm()
    assert error < 0.05


@pytest.mark.parametrize("name", list_models())
def test_an_entry_describes_itself(name):
    entry = get_entry(name)
    assert entry.name == name
    assert entry.summary
    assert entry.paper
    assert entry.licence
    model = tiny(entry.tasks[0], name)
    assert model.spec.name == name
    assert model.spec.config
    assert model.spec.num_points == entry.num_points


def test_clouds_of_other_sizes_are_encoded():
    model = tiny().eval()
    for count in (8, 200):
        assert model(clouds(2, count)).tokens.shape == (2, 8, 24)


@pytest.mark.parametrize("name", [n for n in list_models() if not n.endswith("_small")])
def test_published_entries_name_their_configs_and_input(name):
    entry, cfgs = get_entry(name), Path(__file__).resolve().parents[2] / "cfgs"
    for pattern in entry.configs:
        files = list(cfgs.glob(pattern))
        assert files, pattern
        for file in files:
            assert load_config(_kind(file), [file]).model == name
    for preset, sizes in entry.presets.items():
        assert sizes.normalize == ("none" if "scan" in preset else "unit_ball")
    assert (entry.up_axis, entry.normalize) == ("y", "unit_ball")


def _kind(file):
    folders = {"pre-training": PretrainConfig, "linear-svm": SvmConfig}
    return folders.get(file.parent.name, FinetuneConfig)
