"""Frozen image encoders: images in, a feature map and a saliency map out."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError
from pointpeft.optional import import_optional
from pointpeft.vision.projection import (
    IMAGENET,
    LEAST_SIZE,
    Scaling,
    scale_gray,
    unscale_gray,
)

__all__ = [
    "UNUSED",
    "ClipTeacher",
    "ConvolutionalTeacher",
    "RandomTeacher",
    "Seen",
    "Teacher",
    "TransformersTeacher",
    "transformers",
]

UNUSED = ("pooler.", "head.", "embeddings.mask_token")
"""Weights of vision transformers, below their tower, that feature maps do without."""
_NO_SETTINGS = (
    "_name_or_path", "architectures", "chunk_size_feed_forward", "dtype", "id2label",
    "initializer_factor", "initializer_range", "label2id", "num_labels", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "transformers_version",
)  # fmt: skip
"""Entries of a config of transformers that change nothing of what is seen."""
_IMAGES_AT_ONCE = 16
"""Bounds the memory of a pass; kept small, as attention of every layer may be stored."""


class Seen(NamedTuple):
    """What a teacher makes of images.

    Attributes:
        features: ``(R, C, h, w)``.
        saliency: ``(R, 1, h, w)``, not negative, larger where the encoder looks more.
    """

    features: Tensor
    saliency: Tensor


def _settings(network: Any) -> dict[str, Any]:
    """Those in the config of a network of transformers that change what is seen."""
    return {k: v for k, v in network.config.to_dict().items() if k not in _NO_SETTINGS}


class Teacher(nn.Module):
    """An image encoder that is looked at and never trained.

    Its network moves with the module but is not part of it: a model that holds a teacher has
    neither its parameters nor its entries in the state dict, and does not switch it to train mode.

    Args:
        network: the encoder.
        image_size: side of its images in pixels.
        channels: C of its feature map.

    Raises:
        ConfigError: images of no such size can be drawn.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, image_size: int, channels: int) -> None:
        super().__init__()
        if image_size % 2 or image_size < LEAST_SIZE:
            raise ConfigError(
                "the size of a teacher's images (teacher_image_size) must be an even number of at "
                f"least {LEAST_SIZE}, got {image_size}"
            )
        # Past the registration of sub-modules.
        self.__dict__["network"] = network.eval().requires_grad_(False)
        self.image_size = image_size
        self.channels = channels

    def forward(self, images: Tensor) -> Seen:
        """``(R, 3, S, S)`` to maps in float32 (or float64, where the network is)."""
        dtype = next(self.network.parameters()).dtype
        with torch.no_grad():
            chunks = [self.look(chunk.to(dtype)) for chunk in images.split(_IMAGES_AT_ONCE)]
        wide = torch.promote_types(dtype, torch.float32)
        return Seen(*(torch.cat(maps).to(wide) for maps in zip(*chunks, strict=True)))

    def weights(self) -> dict[str, Tensor]:
        """Those of the network that its maps are made by."""
        return {n: t for n, t in self.network.state_dict().items() if not n.startswith(UNUSED)}

    def settings(self) -> dict[str, Any]:
        """What else its maps hang on, such as heads and activations, which no weight shows."""
        return {}

    def look(self, images: Tensor) -> Seen:
        """The maps of a few images ``(R, 3, S, S)``; every kind of teacher has its own.

        Raises:
            ConfigError: the network does not return what the maps are made of.
        """
        raise NotImplementedError

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Moves and casts, which reach a module by this method, reach the network too."""
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)


class ClipTeacher(Teacher):
    """The visual tower of CLIP (Radford et al. 2021), the paper's teacher of I2P-MAE.

    The map is that of all patch tokens behind the final norm and the projection, through which
    CLIP itself sends the class token alone. The saliency is the attention of the class token to
    the patches in the last block, the mean over heads, not normalised again.

    Args:
        network: a ``CLIPVisionModelWithProjection`` of transformers.
        image_size: side of its images in pixels; None: that of its config. For others its
            positions are interpolated.
    """

    def __init__(self, network: Any, image_size: int | None = None) -> None:
        size = _choose_size(network.config, image_size)
        super().__init__(network, size, network.config.projection_dim)

    def settings(self) -> dict[str, Any]:
        """Of its config."""
        return _settings(self.network)

    def look(self, images: Tensor) -> Seen:
        """``(R, 3, S, S)`` to maps with a cell per patch."""
        config: Any = self.network.config
        tokens, attention = self.encode(images)
        side = self.image_size // config.patch_size
        features = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        return Seen(features, attention[:, 1:].view(-1, 1, side, side))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Projected tokens ``(R, T, C)``, the class token first, and its attention ``(R, T)``."""
        network: Any = self.network
        tower = network.vision_model
        other = self.image_size != network.config.image_size
        x = tower.pre_layrnorm(tower.embeddings(images, interpolate_pos_encoding=other))
        *layers, last = tower.encoder.layers
        for layer in layers:
            x = layer(x, attention_mask=None)
        attention = _class_attention(last.self_attn, last.layer_norm1(x))
        x = tower.post_layernorm(last(x, attention_mask=None))
        return network.visual_projection(x), attention


def _class_attention(attention: Any, x: Tensor) -> Tensor:
    """Weights of the first token's row, averaged over heads, ``(R, T, C) -> (R, T)``.

    Blocks use fused attention, which keeps no weights; one row is cheap to compute again.
    """
    heads = (attention.num_heads, attention.head_dim)
    query = attention.q_proj(x[:, :1]).unflatten(2, heads).transpose(1, 2)
    keys = attention.k_proj(x).unflatten(2, heads).transpose(1, 2)
    scores = query @ keys.transpose(2, 3) * attention.scale  # (R, heads, 1, T)
    return scores.softmax(dim=-1).mean(dim=1).squeeze(1)


class TransformersTeacher(Teacher):
    """Any vision transformer of the transformers library.

    The map is that of the patch tokens as the network returns them, the last tokens of its
    sequence. The saliency is the attention of the first token to them in the last block; where
    there are patch tokens only, it is the attention that each receives, the mean over all.

    Args:
        network: returns ``last_hidden_state`` and, asked for it, ``attentions``.
        image_size: side of its images in pixels; None: that of its config. For others its
            positions are interpolated.
        scaling: in which it was trained; it is shown gray images in ImageNet's.
    """

    def __init__(
        self, network: Any, image_size: int | None = None, scaling: Scaling = IMAGENET
    ) -> None:
        config, self.scaling = network.config, scaling
        if not all(isinstance(getattr(config, n, None), int) for n in ("image_size", "patch_size")):
            raise ConfigError(
                f"teacher {type(network).__name__} has no image_size and patch_size in its "
                "configuration; pass a vision transformer"
            )
        super().__init__(network, _choose_size(config, image_size), config.hidden_size)
        # Some interpolate of themselves, and some only if they are asked to.
        asked = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
        other = self.image_size != config.image_size
        self._how = {"interpolate_pos_encoding": True} if asked and other else {}

    def settings(self) -> dict[str, Any]:
        """Of its config, and its scaling."""
        return _settings(self.network) | self.scaling._asdict()

    def look(self, images: Tensor) -> Seen:
        """``(R, 3, S, S)`` to maps with a cell per patch."""
        config: Any = self.network.config
        if self.scaling != IMAGENET:
            images = scale_gray(unscale_gray(images), self.scaling)
        try:
            output = self.network(pixel_values=images, output_attentions=True, **self._how)
        except ValueError as error:
            if self.image_size == config.image_size:
                raise
            raise ConfigError(
                f"teacher {type(self.network).__name__} does not see images of {self.image_size} "
                f"pixels ({error}); leave teacher_image_size out: its own is {config.image_size}"
            ) from error
        side = self.image_size // config.patch_size
        tokens = output.last_hidden_state
        if not output.attentions or tokens.ndim != 3 or tokens.shape[1] < side**2:
            raise ConfigError(
                f"teacher {type(self.network).__name__} does not return {side} x {side} patch "
                "tokens and the attention between them; pass a vision transformer"
            )
        attention = output.attentions[-1].mean(dim=1)[..., -(side**2) :]  # (R, T, patches)
        has_class = tokens.shape[1] > side**2
        saliency = attention[:, 0] if has_class else attention.mean(dim=1)
        features = tokens[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
        return Seen(features, saliency.view(-1, 1, side, side))


def _choose_size(config: Any, image_size: int | None) -> int:
    """The side of images in pixels for a transformer of this config.

    Raises:
        ConfigError: they cannot be cut into its patches.
    """
    if image_size in (None, config.image_size):
        return config.image_size
    if image_size % config.patch_size:
        raise ConfigError(
            f"teacher_image_size={image_size} must be a multiple of the side of the teacher's "
            f"patches, {config.patch_size} pixels"
        )
    return image_size


class ConvolutionalTeacher(Teacher):
    """A convolutional network, whose last feature map is the map.

    The saliency is the mean of its absolute values over the channels: such a network has no
    attention, and is strongly active where it sees something.

    Args:
        network: has ``extract_features``, ``(R, 3, S, S) -> (R, C, h, w)``.
        image_size: S.
        channels: C.
    """

    def look(self, images: Tensor) -> Seen:
        """``(R, 3, S, S)`` to maps with a cell per position of the last layer."""
        network: Any = self.network
        features = network.extract_features(images)
        return Seen(features, features.abs().mean(dim=1, keepdim=True))


class RandomTeacher(Teacher):
    """Random features of patches, the same in every run: for tests and where no weights are.

    A linear map of every patch with a nonlinearity, and a softmax over random scores of these.

    Args:
        image_size: side of its images in pixels.
        patch_size: side of a patch in pixels, a divisor.
        channels: C of its feature map.
        seed: of the weights.
    """

    def __init__(
        self, image_size: int = 224, patch_size: int = 16, channels: int = 512, seed: int = 0
    ) -> None:
        if image_size % patch_size:
            raise ConfigError(
                f"the teacher's image_size={image_size} must be a multiple of its "
                f"patch_size={patch_size}"
            )
        network = nn.Sequential(
            nn.Conv2d(3, channels, patch_size, patch_size), nn.Tanh(), nn.Conv2d(channels, 1, 1)
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                fan_in = max(parameter[0].numel(), 1)
                parameter.normal_(0.0, fan_in**-0.5, generator=generator)
        super().__init__(network, image_size, channels)

    def look(self, images: Tensor) -> Seen:
        """``(R, 3, S, S)`` to maps with a cell per patch."""
        patches, nonlinearity, scores = self.network.children()
        features = nonlinearity(patches(images))
        saliency = scores(features)
        return Seen(features, saliency.flatten(1).softmax(dim=1).view_as(saliency))


def transformers() -> ModuleType:
    """The transformers library, imported when a teacher needs it.

    Raises:
        ConfigError: it is not installed.
    """
    return import_optional(
        "transformers",
        "an image teacher needs the transformers library; install it by "
        "`pip install transformers`, or pass teacher='random'",
    )
