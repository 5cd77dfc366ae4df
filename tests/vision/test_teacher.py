"""Teachers: where they come from, what they return, that they do not move."""

import copy
import json
import pickle
import re
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.vision import (
    ClipTeacher,
    RandomTeacher,
    TransformersTeacher,
    load_teacher,
    scale_gray,
)
from pointpeft.vision.torchscript import is_torchscript

transformers = pytest.importorskip("transformers")

WIDTH, PATCH, SIDE, OUT, DEPTH = 128, 4, 3, 10, 2


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.randn(3 * WIDTH, WIDTH) / WIDTH**0.5)
        self.in_proj_bias = nn.Parameter(torch.randn(3 * WIDTH))
        self.out_proj = nn.Linear(WIDTH, WIDTH)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn, self.mlp = Attention(), Mlp()


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block() for _ in range(DEPTH)))


class Tower(nn.Module):
    """A visual tower under OpenAI's names."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn(SIDE**2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Transformer()
        self.proj = nn.Parameter(torch.randn(WIDTH, OUT))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return clip_by_hand(self, x)[0]


class Clip(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = Tower()
        self.logit_scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.visual(x)


def clip_by_hand(tower, images):
    """Projected tokens and the last attention, head by head, as OpenAI's network computes them."""
    x = tower.conv1(images).flatten(2).transpose(1, 2)
    x = torch.cat([tower.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = tower.ln_pre(x + tower.positional_embedding)
    for block in tower.transformer.resblocks:
        qkv = nn.functional.linear(
            block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias
        )
        weights, outputs = [], []
        for head in range(WIDTH // 64):
            q, k, v = (part[..., 64 * head : 64 * head + 64] for part in qkv.chunk(3, dim=-1))
            weights.append((q @ k.transpose(1, 2) / 8).softmax(dim=-1))
            outputs.append(weights[-1] @ v)
        x = x + block.attn.out_proj(torch.cat(outputs, dim=-1))
        hidden = block.mlp.c_fc(block.ln_2(x))
        x = x + block.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))
    return tower.ln_post(x) @ tower.proj, torch.stack(weights).mean(dim=0)


@pytest.fixture
def clip():
    return Clip().eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, PATCH * SIDE, PATCH * SIDE)


def assert_is_clip(teacher, clip, images, tolerance=1e-5):
    with torch.no_grad():
        tokens, attention = clip_by_hand(clip.visual, images)
    seen = teacher(images)
    assert isinstance(teacher, ClipTeacher)
    assert (teacher.image_size, teacher.channels) == (PATCH * SIDE, OUT)
    features = tokens[:, 1:].transpose(1, 2).unflatten(2, (SIDE, SIDE))
    torch.testing.assert_close(seen.features, features, rtol=tolerance, atol=20 * tolerance)
    saliency = attention[:, 0, 1:].view(-1, 1, SIDE, SIDE)
    torch.testing.assert_close(seen.saliency, saliency, rtol=10 * tolerance, atol=tolerance)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["plain", "data parallel", "i2p-mae"])
def test_weights_of_openai_are_read(wrap, clip, images, tmp_path):
    state = clip.state_dict()
    prefix = {"plain": "", "data parallel": "module.", "i2p-mae": "module.clip_model."}[wrap]
    content = {prefix + name: tensor for name, tensor in state.items()}
    if wrap == "i2p-mae":
        content = {"base_model": {**content, "module.rec_head_2d.weight": torch.zeros(2)}}
        content["metrics"] = {"acc": np.float64(0.5)}
    torch.save(content, tmp_path / "weights.pt")
    assert_is_clip(load_teacher(tmp_path / "weights.pt"), clip, images)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("half", [False, True])
def test_an_archive_with_a_program_is_read_without_running_it(half, clip, images, tmp_path):
    path = tmp_path / "ViT.pt"
    dtype = torch.float16 if half else torch.float32
    example = images.to(dtype)
    torch.jit.save(torch.jit.trace(copy.deepcopy(clip).to(dtype), example), path)
    clip = clip.to(dtype).float()
    assert is_torchscript(path)
    # The program itself is broken: whoever reads it fails.
    broken = tmp_path / "broken.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(broken, "w") as target:
        for entry in source.infolist():
            content = b"no program" if "/code/" in entry.filename else source.read(entry)
            target.writestr(entry.filename, content)
    assert_is_clip(load_teacher(broken), clip, images)


def test_an_archive_with_other_objects_is_refused(tmp_path):
    path = tmp_path / "ViT.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", pickle.dumps(print, protocol=2))
    with pytest.raises(CheckpointError, match=r"ViT\.pt"):
        load_teacher(path)


def test_a_pickle_with_code_is_refused(tmp_path):
    torch.save({"visual.conv1.weight": sys.exit}, tmp_path / "ViT.pt")
    with pytest.raises(CheckpointError, match=r"ViT\.pt"):
        load_teacher(tmp_path / "ViT.pt")


@pytest.mark.parametrize("content", [b"", b"\x80", b"<html>", b"PK\x03\x04 no archive"])
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "ViT.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"ViT\.pt"):
        load_teacher(tmp_path / "ViT.pt")


def test_files_without_a_vision_transformer_are_refused(clip, tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt.*visual"):
        load_teacher(tmp_path / "other.pt")
    resnet = {"visual.conv1.weight": torch.zeros(8, 3, 3, 3), "visual.bn1.weight": torch.zeros(8)}
    torch.save(resnet, tmp_path / "RN50.pt")
    with pytest.raises(CheckpointError, match=r"RN50\.pt"):
        load_teacher(tmp_path / "RN50.pt")
    wide = {**clip.state_dict(), "visual.conv1.weight": torch.zeros(1280, 3, 14, 14)}
    torch.save(wide, tmp_path / "huge.pt")  # of others, whose heads are wider
    with pytest.raises(CheckpointError, match=r"huge\.pt.*1280"):
        load_teacher(tmp_path / "huge.pt")
    state = clip.state_dict()
    del state["visual.ln_post.bias"]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"post_layernorm\.bias"):
        load_teacher(tmp_path / "part.pt")


def test_nothing_there_is_said_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.pt.*teacher='random'"):
        load_teacher(tmp_path / "nothing.pt")


def test_without_transformers_the_extra_is_named(clip, tmp_path, monkeypatch):
    torch.save(clip.state_dict(), tmp_path / "ViT.pt")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"transformers.*teacher='random'"):
        load_teacher(tmp_path / "ViT.pt")


def test_a_clip_in_a_folder(clip, images, tmp_path):
    torch.save(clip.state_dict(), tmp_path / "ViT.pt")
    load_teacher(tmp_path / "ViT.pt").network.save_pretrained(tmp_path / "clip")
    assert_is_clip(load_teacher(tmp_path / "clip"), clip, images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_files_in_half_precision_are_raised(dtype, images, tmp_path):
    network = transformers.ViTModel(vit_config(), add_pooling_layer=False).to(dtype)
    network.save_pretrained(tmp_path / "half")
    network.float().save_pretrained(tmp_path / "whole")
    found, expected = (load_teacher(tmp_path / name) for name in ("half", "whole"))
    for one, other in zip(found(images), expected(images), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["ViT", "Dinov2", "Siglip"])
def test_other_vision_transformers_in_a_folder(kind, images, tmp_path):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 48, "image_size": 12, "patch_size": 4}  # fmt: skip
    suffix = "Vision" if kind == "Siglip" else ""
    network = getattr(transformers, f"{kind}{suffix}Model")(
        getattr(transformers, f"{kind}{suffix}Config")(**sizes, attn_implementation="eager")
    ).eval()
    network.save_pretrained(tmp_path / kind)
    teacher = load_teacher(tmp_path / kind)
    assert isinstance(teacher, TransformersTeacher)
    seen = teacher(images)
    assert (teacher.image_size, teacher.channels) == (12, 24)
    assert seen.saliency.shape == (2, 1, 3, 3)
    with torch.no_grad():
        output = network(pixel_values=images, output_attentions=True)
    tokens = output.last_hidden_state[:, -9:]
    torch.testing.assert_close(seen.features.flatten(2).transpose(1, 2), tokens)
    attention = output.attentions[-1].mean(dim=1)
    row = attention.mean(dim=1) if kind == "Siglip" else attention[:, 0, 1:]
    torch.testing.assert_close(seen.saliency.flatten(1), row)


@pytest.mark.parametrize("said", [
    {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, {"do_normalize": False}, {},
])  # fmt: skip
def test_a_transformer_sees_images_in_its_own_scaling(said, vit_folder):
    brightness = torch.rand(2, 12, 12)
    usual = load_teacher(vit_folder)
    (vit_folder / "preprocessor_config.json").write_text(json.dumps(said))
    own = load_teacher(vit_folder)
    mean, std = (0.5, 0.25) if "image_mean" in said else (0.0, 1.0)
    expected = ((brightness - mean) / std).unsqueeze(1).expand(-1, 3, -1, -1)
    images = scale_gray(brightness)
    seen = own(images).features
    torch.testing.assert_close(seen, usual(expected if said else images).features)
    assert torch.equal(seen, usual(images).features) == (not said)
    assert (own.settings() == usual.settings()) == (not said)


@pytest.mark.parametrize("said", [
    {"image_mean": [0.5]}, {"image_std": [0.0] * 3}, {"image_mean": ["a"] * 3}, {"image_std": 1},
])  # fmt: skip
def test_a_scaling_that_means_nothing_is_refused(said, vit_folder):
    (vit_folder / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=next(iter(said))):
        load_teacher(vit_folder)


@pytest.mark.parametrize("kind", ["ViT", "Dinov2", "SiglipVision", "CLIPVision"])
def test_a_transformer_sees_images_of_another_size(kind, tmp_path):
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 48, "image_size": 12, "patch_size": 4}  # fmt: skip
    suffix = "ModelWithProjection" if kind == "CLIPVision" else "Model"
    config = getattr(transformers, f"{kind}Config")(**sizes, attn_implementation="eager")
    network = getattr(transformers, f"{kind}{suffix}")(config).eval()
    network.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 20, 20)
    teacher = load_teacher(tmp_path, image_size=20)
    seen = teacher(images)
    assert teacher.image_size == 20
    assert seen.features.shape[2:] == seen.saliency.shape[2:] == (5, 5)
    interpolated = {} if kind == "Dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        output = network(pixel_values=images, **interpolated)
        tokens = output.last_hidden_state[:, -25:]
        if kind == "CLIPVision":
            tokens = network.visual_projection(network.vision_model.post_layernorm(tokens))
    torch.testing.assert_close(seen.features.flatten(2).transpose(1, 2), tokens)


@pytest.mark.parametrize("kind", ["ViT", "CLIP"])
def test_images_that_a_transformer_cannot_see_are_refused(kind, tmp_path):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 8, "image_size": 12, "patch_size": 4}  # fmt: skip
    network = {
        "ViT": lambda: transformers.ViTModel(vit_config()),
        "CLIP": lambda: transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(**sizes)
        ),
    }[kind]()
    network.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"teacher_image_size=18.*4 pixels"):
        load_teacher(tmp_path, image_size=18)


def test_a_network_that_cannot_interpolate_says_so():
    class Fixed(transformers.ViTModel):
        def forward(self, pixel_values, output_attentions):
            return super().forward(pixel_values, output_attentions=output_attentions)

    teacher = TransformersTeacher(Fixed(vit_config(), add_pooling_layer=False), image_size=20)
    with pytest.raises(ConfigError, match=r"20 pixels.*teacher_image_size"):
        teacher(torch.randn(2, 3, 20, 20))


def test_the_tower_of_a_whole_clip_in_a_folder(images, tmp_path):
    """Its projection is stated beside its two towers."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 8}  # fmt: skip
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 9, "max_position_embeddings": 4},
        vision_config={**sizes, "image_size": 12, "patch_size": 4},
        projection_dim=10,
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    assert load_teacher(tmp_path)(images).features.shape == (2, 10, 3, 3)


@pytest.fixture
def vit_folder(tmp_path):
    transformers.ViTModel(vit_config()).save_pretrained(tmp_path)
    return tmp_path


def vit_config():
    return transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
        image_size=12, patch_size=4,
    )  # fmt: skip


def test_weights_that_are_missing_are_refused_but_for_those_that_nothing_uses(vit_folder):
    file = vit_folder / "model.safetensors"
    weights = load_file(file)
    unused = {name for name in weights if name.startswith("pooler.")}
    save_file({n: t for n, t in weights.items() if n not in unused}, file, {"format": "pt"})
    load_teacher(vit_folder)
    last = sorted(name for name in weights if "layer.1." in name)
    save_file({n: t for n, t in weights.items() if n not in last}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing.*1\.") as refused:
        load_teacher(vit_folder)
    assert str(vit_folder) in str(refused.value)


def test_weights_that_do_not_fit_their_config_are_refused(vit_folder):
    config = vit_folder / "config.json"
    config.write_text(config.read_text().replace('_size": 8', '_size": 9'))
    with pytest.raises(CheckpointError, match="fit"):
        load_teacher(vit_folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_hidden_layers": 1}, "more blocks"),
        ({"num_attention_heads": "2"}, "num_attention_heads"),
        ({"patch_size": 0}, "zero"),
    ],
    ids=str,
)
def test_a_config_of_another_network_is_refused_by_its_folder(vit_folder, change, named):
    config = vit_folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(CheckpointError, match=named) as refused:
        load_teacher(vit_folder)
    assert str(vit_folder) in str(refused.value)


def test_blocks_that_a_classifier_has_too_many_are_found_too(tmp_path):
    transformers.ViTForImageClassification(vit_config()).save_pretrained(tmp_path)
    load_teacher(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match="more blocks"):
        load_teacher(tmp_path)


def test_blocks_of_a_tower_that_nothing_looks_at_do_not_count(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 8}  # fmt: skip
    config = transformers.SiglipConfig(
        text_config={**sizes, "vocab_size": 9, "max_position_embeddings": 4},
        vision_config={**sizes, "image_size": 12, "patch_size": 4},
    )
    transformers.SiglipModel(config).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    content["text_config"]["num_hidden_layers"] = 1
    file.write_text(json.dumps(content))
    load_teacher(tmp_path)
    content["vision_config"]["num_hidden_layers"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="more blocks"):
        load_teacher(tmp_path)


def test_weights_that_are_not_finite_are_refused(vit_folder):
    file = vit_folder / "model.safetensors"
    weights = load_file(file)
    spoilt = next(name for name in weights if "layer.1." in name)
    save_file({**weights, spoilt: weights[spoilt] * torch.nan}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=re.escape(str(vit_folder))):
        load_teacher(vit_folder)


def test_a_truncated_file_in_a_folder_is_named(vit_folder):
    file = vit_folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=re.escape(str(vit_folder))):
        load_teacher(vit_folder)


def test_images_too_small_for_the_network_are_refused():
    pytest.importorskip("efficientnet_lite_pytorch")
    with pytest.raises(ConfigError, match="teacher_image_size"):
        load_teacher("efficientnet-lite0", image_size=16)


def test_networks_that_are_no_vision_transformers_are_refused(tmp_path):
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1])
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="ResNet"):
        load_teacher(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        load_teacher(tmp_path)


# --- behaviour ------------------------------------------------------------------------------------


def test_the_random_teacher_is_the_same_in_every_run(images):
    torch.manual_seed(1)
    first = RandomTeacher(12, 4, 7)
    before = torch.rand(1)
    torch.manual_seed(1)
    second = RandomTeacher(12, 4, 7)
    assert torch.equal(torch.rand(1), before)
    seen, again = first(images), second(images)
    assert all(map(torch.equal, seen, again))
    assert seen.features.shape == (2, 7, 3, 3)
    torch.testing.assert_close(seen.saliency.flatten(1).sum(dim=1), torch.ones(2))
    assert not torch.equal(seen.features, RandomTeacher(12, 4, 7, seed=1)(images).features)
    with pytest.raises(ConfigError, match=r"image_size=12.*patch_size=5"):
        RandomTeacher(12, 5)


@pytest.mark.parametrize(("size", "patch"), [(15, 5), (4, 4)])
def test_images_that_cannot_be_drawn_are_refused_with_the_setting(size, patch):
    with pytest.raises(ConfigError, match="teacher_image_size"):
        RandomTeacher(size, patch)


def test_many_images_are_seen_like_few():
    teacher, images = RandomTeacher(12, 4, 7), torch.randn(40, 3, 12, 12)
    expected = [torch.cat(maps) for maps in zip(*map(teacher, images.split(1)), strict=True)]
    for actual, each in zip(teacher(images), expected, strict=True):
        torch.testing.assert_close(actual, each)


def test_a_teacher_is_no_part_of_the_model_that_holds_it(images):
    model = nn.ModuleDict({"teacher": RandomTeacher(12, 4, 7)})
    model.train().requires_grad_(True)
    network = model["teacher"].network
    assert not list(model.parameters())
    assert not model.state_dict()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    images.requires_grad_(True)
    assert not model["teacher"](images).features.requires_grad
    model.double()
    assert next(network.parameters()).dtype == torch.float64
    assert model["teacher"](images).features.dtype == torch.float64
    assert model.to("meta")["teacher"].network[0].weight.is_meta
