"""Files of the library torch-pointcloud: which names and shapes they have, and the same features.

``torch_pointcloud.json`` holds the names and shapes of the library's own networks (version 0.0.18)
in the sizes of ``tiny.py``: weights and biases, and of a row of blocks the first one. Only the
width in part segmentation, there four times that of a token, is as published.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pointpeft as pp
from pointpeft.compat.checkpoints.checkpoint_converter import convert
from pointpeft.compat.checkpoints.checkpoint_writer import pth_layout
from pointpeft.errors import CheckpointError, PointPeftError
from tests.models.tiny import run, settle, tiny

STATED = json.loads(Path(__file__).with_suffix("").with_name("torch_pointcloud.json").read_text())
NETWORKS = list(STATED)
every_network = pytest.mark.parametrize("network", NETWORKS)

# From published names to those of the library.
LAYERS = {
    r"first_conv\.0": "local_mlp.lins.0",
    r"first_conv\.1": "local_mlp.norms.0.module",
    r"first_conv\.3": "local_mlp.lins.1",
    r"second_conv\.0": "global_mlp.lins.0",
    r"second_conv\.1": "global_mlp.norms.0.module",
    r"second_conv\.3": "global_mlp.lins.1",
    r"mlp\.fc1": "mlp.lins.0",
    r"mlp\.fc2": "mlp.lins.1",
    r"(pos_embeds?(\.\d)?|cls_head)\.0\.(?=[wb])": r"\1.lins.0.",
    r"(pos_embeds?(\.\d)?|cls_head)\.2\.(?=[wb])": r"\1.lins.1.",
    r"increase_dim\.0": "increase_dim.lins.0",
    r"label_conv\.0": "label_conv.lins.0",
    r"label_conv\.1": "label_conv.norms.0.module",
    r"mlp_convs\.(\d)": r"mlp.lins.\1",
    r"mlp_bns\.(\d)": r"mlp.norms.\1.module",
    r"fuse\.net\.0": "fp.mlp.lins.0",
    r"fuse\.net\.1": "fp.mlp.norms.0.module",
    r"operation\.(\d\.net\d)\.0": r"\1.lins.0",
    r"operation\.(\d\.net\d)\.1": r"\1.norms.0.module",
    r"input_trans": "input_trans.lins.0",
    r"layer([1-4])\.0": r"layer\1.conv",
    r"layer([1-4])\.1": r"layer\1.norm",
    r"layer5\.0": "layer5_conv",
    r"layer5\.1": "layer5_norm",
    r"^decoder\.mlp\.0": "decoder.mlp.lins.0",
    r"^decoder\.mlp\.2": "decoder.mlp.lins.1",
    r"^decoder\.mlp\.4": "decoder.mlp.lins.2",
    r"final_conv\.0": "final_conv.lins.0",
    r"final_conv\.1": "final_conv.norms.0.module",
    r"final_conv\.3": "final_conv.lins.1",
    r"final_conv\.4": "final_conv.norms.1.module",
    r"final_conv\.6": "final_conv.lins.2",
}
HEADS = {
    "classification": {
        r"cls_head_finetune\.0": "head.lins.0", r"cls_head_finetune\.1": "head.norms.0.module",
        r"cls_head_finetune\.4": "head.lins.1", r"cls_head_finetune\.5": "head.norms.1.module",
        r"cls_head_finetune\.8": "head.lins.2",
    },
    "part_segmentation": {
        **{rf"^convs{i + 1}\.": f"head.lins.{i}." for i in range(4)},
        **{rf"^bns{i + 1}\.": f"head.norms.{i}.module." for i in range(3)},
    },
}  # fmt: skip
OWN = {
    "point_mae classification": {r"^norm\.": "norm_f."},
    "point_mae part_segmentation": {r"^norm\.": "norm_f."},
    "point_bert classification": {
        r"cls_head_finetune\.0": "head.lins.0", r"cls_head_finetune\.3": "head.lins.1",
        r"^blocks\.blocks": "blocks", r"^(?!head)": "encoder.",
    },
    "point_bert pretraining": {r"^transformer_q\.": "", r"^blocks\.blocks": "blocks"},
}  # fmt: skip


def built(network, **settings):
    name, task = network.split()
    sizes = {"depth": 12} if network == "point_mae part_segmentation" else {}
    return tiny(task, name, **sizes, **settings)


def library_state(network, model):
    """The state of a model as the library keeps it."""
    published = pth_layout(model).theirs(model.state_dict())
    if network == "point_bert pretraining":  # of which it keeps the network that learns
        published = {n: t for n, t in published.items() if n.startswith("transformer_q.")}
    rules = OWN.get(network, {}) | (LAYERS | HEADS.get(network.split()[1], {}))
    state = {}
    for name, tensor in published.items():
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        convolution = re.fullmatch(r"dgcnn_\d\.layer[1-4]\.conv\.weight", name)
        if name.endswith(".weight") and tensor.ndim > 2 and not convolution:
            tensor = tensor.flatten(1)
        state[name] = own_features_behind(name, tensor).contiguous()
    return state


def own_features_behind(name, weight):
    """The library has coordinates, and tokens of the finer scale, behind what is carried there."""
    if re.match(r"propagation\w*(\.\d)?\.mlp\.lins\.0\.weight", name):
        return torch.cat([weight[:, 3:], weight[:, :3]], dim=1)
    if name == "token_prop.0.fp.mlp.lins.0.weight":
        return torch.cat([weight[:, len(weight) :], weight[:, : len(weight)]], dim=1)
    return weight


@pytest.fixture
def written(network, tmp_path):
    """A model, and a file of it as the library writes it."""
    torch.manual_seed(0)
    model, file = settle(built(network)).eval(), tmp_path / "model.safetensors"
    save_file(library_state(network, model), file)
    return model, file


@every_network
def test_a_file_has_the_names_and_shapes_of_the_library(network):
    state = library_state(network, built(network))
    found = {
        name: list(tensor.shape)
        for name, tensor in state.items()
        if not re.search(r"blocks\.[1-9]\d*\.(norm|attn|mlp)|running|tracked", name)
    }
    assert found == STATED[network]


@every_network
def test_its_features_are_those_of_the_same_weights_here(network, written, points):
    model, file = written
    loaded = built(network, checkpoint=file).eval()
    kept = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        if not name.startswith(("dvae.", "queue", "key.")):
            assert torch.equal(kept[name], tensor), name
    if network.split()[1] != "pretraining":
        assert torch.equal(run(loaded, points), run(model, points))
    if not network.startswith("point_bert_dvae"):
        sizes = {"depth": 12} if network == "point_mae part_segmentation" else {}
        encoder = tiny("features", network.split()[0], checkpoint=file, **sizes).eval()
        assert torch.equal(
            encoder.retrieval_features(points), model.backbone.retrieval_features(points)
        )


@every_network
def test_what_it_is_shows_in_the_file(network, written, tmp_path):
    report = convert(written[1], tmp_path / "ours.safetensors")
    assert not report.left
    assert all(name.startswith(("dvae.", "queue", "key.")) for name in report.fresh)


@pytest.mark.parametrize("network", ["point_mae classification"])
def test_a_repository_of_the_library_is_a_checkpoint(network, written):
    model, file = written
    loaded = built(network, checkpoint=file.parent)
    assert torch.equal(loaded.cls_token, model.cls_token)


@pytest.mark.parametrize("network", ["point_mae classification"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("blocks.blocks.1.mlp.lins.0.bias"), "blocks.1.mlp.fc1.bias"),
        (lambda s: s.update({"encoder.third.weight": torch.ones(2)}), "embed.third.weight"),
        (lambda s: s.update({"norm_f.weight": torch.ones(5)}), "backbone.norm.weight"),
        (lambda s: (s.clear(), s.update({"layer9.lins.0.weight": torch.ones(2)})), "layer9.lins.0"),
    ],
    ids=["missing", "surplus", "shape", "another network"],
)
def test_a_file_that_does_not_fit_is_refused_by_its_entries(network, change, named, tmp_path):
    state = library_state(network, built(network))
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(named)):
        built(network, checkpoint=tmp_path / "model.safetensors")


@every_network
@pytest.mark.parametrize("axes", [0, 1])
def test_entries_with_other_axes_are_refused(network, axes, tmp_path):
    state = library_state(network, built(network))
    save_file({name: torch.ones((2,) * axes) for name in state}, tmp_path / "model.safetensors")
    with pytest.raises(PointPeftError):
        convert(tmp_path / "model.safetensors", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_safetensors_file_with_published_names_is_read_too(points, tmp_path):
    model = settle(tiny("part_segmentation")).eval()
    state = pth_layout(model).theirs(model.state_dict())
    file = tmp_path / "model.safetensors"
    save_file({f"module.{name}": tensor.contiguous() for name, tensor in state.items()}, file)
    loaded = pp.create_model(
        "point_mae", num_parts=5, checkpoint=file, **model.backbone.spec.config
    )
    assert torch.equal(run(loaded.eval(), points), run(model, points))
