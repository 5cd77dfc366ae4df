"""Point-BERT: masked point modeling with a discrete tokenizer.

Yu et al., CVPR 2022, arXiv 2111.14819. The encoder is the plain transformer of Point-MAE with a
projection behind the mini-PointNet. Pre-training hides patches, asks for the tokens that a frozen
tokenizer gives them, and contrasts clouds mixed from two with their sources.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.checkpoint import load_into, saved_sizes
from pointpeft.models.dvae import DiscreteVAE, DiscreteVAEConfig
from pointpeft.models.geometry import Geometry
from pointpeft.models.masking import block_mask
from pointpeft.models.point_mae import PointMAE, PointMAEClassifier, init_token, init_weights
from pointpeft.models.tokenizer import Patches

__all__ = [
    "MaskTransformer",
    "PointBERTClassifier",
    "PointBERTPretraining",
    "PointBERTPretrainingConfig",
]

log = logging.getLogger("pointpeft")


class PointBERTClassifier(PointMAEClassifier):
    """Point-BERT with a class token and its two-layer head.

    Args:
        backbone: the encoder, with ``embed_dim``.
        num_classes: number of logits.
    """

    def __init__(self, backbone: PointMAE, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        nn.init.zeros_(self.cls_token)
        nn.init.normal_(self.cls_pos)

    def make_head(self, num_classes: int) -> nn.Module:
        """``(B, 2 C) -> (B, classes)``."""
        return nn.Sequential(
            nn.Linear(self.num_features, 256), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(256, num_classes),
        )  # fmt: skip


@dataclass(frozen=True)
class PointBERTPretrainingConfig:
    """Settings of masked point modeling; the defaults are the published ones."""

    tokenizer: str | None = None  # weights of a trained tokenizer, published or ours
    mask_ratio: tuple[float, float] = (0.25, 0.45)  # drawn from this range
    random_mask: bool = False  # hide patches independently, not a block of neighbours
    replace_probability: float = 0.0  # of a visible token to become one of another place
    token_loss: bool = True  # predict tokens of hidden patches
    mix_loss: bool = True  # tell which two clouds a mixed one comes from
    moco_loss: bool = False  # tell a cloud from those in the queue
    all_tokens: bool = False  # predict tokens of visible patches as well
    momentum: float = 0.999  # of the key network
    temperature: float = 0.07  # of both contrasts
    queue_size: int = 16384
    feature_dim: int = 512  # channels of a contrasted feature
    num_tokens: int = 8192  # vocabulary of the tokenizer
    reference_compat: bool = False  # the tokenizer's statistics drift, as published

    def __post_init__(self) -> None:
        check_sizes(self, ("queue_size", "feature_dim", "num_tokens"))
        check_numbers(self, ["replace_probability", "momentum", "temperature"])
        switches = ("random_mask", "token_loss", "mix_loss", "moco_loss", "all_tokens")
        check_choices(self, [*switches, "reference_compat"], (True, False))
        low, high = self.mask_ratio
        if not 0 < low <= high < 1:
            raise ConfigError(f"mask_ratio={self.mask_ratio} must be a range within (0, 1)")
        if not (self.token_loss or self.mix_loss or self.moco_loss):
            raise ConfigError("one of token_loss, mix_loss and moco_loss must be on")


class Masked(NamedTuple):
    """What the masked transformer returns.

    Attributes:
        feature: of the cloud, ``(B, feature_dim)``, not normalised.
        logits: over the vocabulary for every patch, ``(B, G, tokens)``.
        asked: patches whose token has to be guessed, ``(B, G)``.
    """

    feature: Tensor
    logits: Tensor
    asked: Tensor


class MaskTransformer(nn.Module):
    """The encoder with a mask token, a class token, and a head for each (Sec. 3.3).

    Args:
        backbone: the encoder.
        config: settings of pre-training.
    """

    def __init__(self, backbone: PointMAE, config: PointBERTPretrainingConfig) -> None:
        super().__init__()
        C, D = backbone.num_features, config.feature_dim
        self.pretraining_config = config
        self.backbone = backbone
        self.cls_token = nn.Parameter(torch.empty(1, 1, C))
        self.mask_token = nn.Parameter(torch.empty(1, 1, C))
        self.cls_pos = nn.Parameter(torch.empty(1, 1, C))
        self.lm_head = nn.Linear(C, config.num_tokens)
        self.cls_head = nn.Sequential(nn.Linear(C, D), nn.GELU(), nn.Linear(D, D))
        for token in (self.cls_token, self.mask_token, self.cls_pos):
            init_token(token)
        self.lm_head.apply(init_weights)
        self.cls_head.apply(init_weights)

    def encode(self, patches: Patches, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hide patches and encode: sequence ``(B, 1 + G, C)`` and asked patches ``(B, G)``."""
        centers, backbone = patches.centers, self.backbone
        if mask is None:
            mask = self.draw_mask(centers)
        tokens = backbone.tokenizer.project(backbone.tokenizer.embed(patches.neighborhoods))
        tokens, asked = self._replace(tokens, mask)
        tokens = torch.where(mask.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        B = len(tokens)
        x = torch.cat([self.cls_token.expand(B, -1, -1), tokens], dim=1)
        positions = torch.cat([self.cls_pos.expand(B, -1, -1), backbone.pos_embed(centers)], dim=1)
        geometry = Geometry(centers, centers, num_prefix_tokens=1)
        return backbone.encode(x, positions, geometry), asked

    def feature(self, patches: Patches, mask: Tensor | None = None) -> Tensor:
        """The cloud's feature alone, ``(B, feature_dim)``."""
        return self.cls_head(self.encode(patches, mask)[0][:, 0])

    def masked_logits(self, patches: Patches, mask: Tensor | None = None) -> Masked:
        """Feature of the cloud and logits of every patch; ``mask (B, G)`` is drawn when absent."""
        x, asked = self.encode(patches, mask)
        return Masked(self.cls_head(x[:, 0]), self.lm_head(x[:, 1:]), asked)

    def draw_mask(self, centers: Tensor) -> Tensor:
        """Hidden patches ``(B, G)``: a block of neighbours, with a ratio for each cloud."""
        B, G, _ = centers.shape
        low, high = self.pretraining_config.mask_ratio
        if self.pretraining_config.random_mask:  # one ratio for the batch
            ratio = low + (high - low) * torch.rand((), device=centers.device)
            return torch.rand(B, G, device=centers.device) < ratio
        ratio = low + (high - low) * torch.rand(B, 1, device=centers.device)
        return block_mask(centers, (ratio * G).long())

    def _replace(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Put tokens of other places into visible ones, which must be guessed then as well."""
        probability = self.pretraining_config.replace_probability
        if not probability:
            return tokens, mask
        chosen = (torch.rand(mask.shape, device=mask.device) < probability) & ~mask
        rows = tokens.detach().flatten(0, 1)
        shuffled = rows[torch.randperm(len(rows), device=rows.device)].view_as(tokens)
        return torch.where(chosen.unsqueeze(-1), shuffled, tokens), mask | chosen


class PointBERTPretraining(MaskTransformer):
    """Masked point modeling: the query network, with a key network and a tokenizer beside it.

    Args:
        backbone: the encoder to pre-train.
        config: masking, losses, queue and tokenizer.

    Attributes:
        num_views: copies of a batch that training wants, one.
    """

    num_views = 1
    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self, backbone: PointMAE, config: PointBERTPretrainingConfig | None = None
    ) -> None:
        config = config or PointBERTPretrainingConfig()
        super().__init__(backbone, config)
        self.dvae = self._make_tokenizer(backbone, config)
        if config.tokenizer is not None:
            # The patch embedding starts from the tokenizer's, and is trained on.
            backbone.tokenizer.embed.load_state_dict(self.dvae.embed.state_dict())
        self.key = MaskTransformer(copy.deepcopy(backbone), config)
        self.key.load_state_dict(self._query_state())
        for part in (self.key, self.dvae):
            part.requires_grad_(False)
        queue = F.normalize(torch.randn(config.feature_dim, config.queue_size), dim=0)
        self.register_buffer("queue", queue)
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @staticmethod
    def _make_tokenizer(backbone: PointMAE, config: PointBERTPretrainingConfig) -> DiscreteVAE:
        c = backbone.config
        if c.embed_dim is None:
            raise ConfigError("Point-BERT needs embed_dim, the channels of the tokenizer's patches")
        sizes: dict[str, Any] = {
            "num_groups": c.num_groups, "group_size": c.group_size, "embed_dim": c.embed_dim,
            "num_tokens": config.num_tokens, "patch_widths": c.patch_widths,
            "skip_near_origin": c.skip_near_origin,
        }  # fmt: skip
        if config.tokenizer is None:
            log.warning("pre-training with an untrained tokenizer: its tokens mean nothing")
            return DiscreteVAE(DiscreteVAEConfig(**sizes))
        saved = saved_sizes(config.tokenizer, "point_bert_dvae")
        inner = {key: saved[key] for key in ("token_dim", "decoder_dim") if key in saved}
        dvae = DiscreteVAE(DiscreteVAEConfig(**sizes, **inner))
        load_into(dvae, config.tokenizer)
        return dvae

    def train(self, mode: bool = True) -> "PointBERTPretraining":
        """Set the mode; the frozen tokenizer stays in eval mode, unless as published."""
        super().train(mode)
        if not self.pretraining_config.reference_compat:
            self.dvae.eval()
        return self

    def forward(self, points: Tensor, **fixed: Any) -> Tensor:
        """Sum of the losses of ``points (B, N, 3)``; ``fixed`` is for :meth:`losses`."""
        return sum(self.losses(points, **fixed).values())  # type: ignore[return-value]

    def losses(
        self,
        points: Tensor,
        masks: tuple[Tensor, Tensor, Tensor] | None = None,
        mix: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """One step (Sec. 3.3): the losses by name; moves the key network and the queue on.

        Args:
            points: ``(B, N, 3)``.
            masks: boolean ``(B, G)`` for the plain, mixed and key pass; drawn when absent.
            mix: ratios ``(B,)`` and uniform numbers ``(B, G)`` of the mixing; drawn when absent.
        """
        c = self.pretraining_config
        of_plain, of_mixed, of_key = masks or (None, None, None)
        patches = self.backbone.tokenizer.group(points)
        with torch.no_grad():
            labels = self.dvae.tokens(patches)
        query = self.masked_logits(patches, of_plain)
        ratio, kept = self._draw_mix(labels, mix)
        mixed_patches, mixed_labels = _mix(patches, labels, kept)
        mixed = self.masked_logits(mixed_patches, of_mixed)
        keys = self._keys(patches, of_key)

        losses = {}
        if c.token_loss:
            losses["token"] = self._token_loss(query, labels)
            losses["mixed_token"] = self._token_loss(mixed, mixed_labels)
        if c.moco_loss:
            own = (F.normalize(query.feature, dim=1) * keys).sum(dim=1, keepdim=True)
            target = torch.zeros(len(own), dtype=torch.long, device=own.device)
            losses["moco"] = F.cross_entropy(self._similarities(query.feature, own), target)
        if c.mix_loss:
            losses["mix"] = self._mix_loss(mixed.feature, keys, ratio)
        self._enqueue(keys)
        return losses

    def _token_loss(self, masked: Masked, labels: Tensor) -> Tensor:
        """Cross-entropy of the asked patches, or of all."""
        if self.pretraining_config.all_tokens:
            return F.cross_entropy(masked.logits.flatten(0, 1), labels.flatten())
        return F.cross_entropy(masked.logits[masked.asked], labels[masked.asked])

    def _similarities(self, feature: Tensor, against: Tensor) -> Tensor:
        """Similarities ``against (B, n)`` and those to the queue, over the temperature."""
        queued = F.normalize(feature, dim=1) @ self.queue.clone()
        return torch.cat([against, queued], dim=1) / self.pretraining_config.temperature

    def _mix_loss(self, feature: Tensor, keys: Tensor, ratio: Tensor) -> Tensor:
        """A mixed cloud is ``ratio`` of cloud i and the rest of cloud B - 1 - i."""
        B = len(feature)
        to_keys = F.normalize(feature, dim=1) @ keys.T
        log_probability = self._similarities(feature, to_keys).log_softmax(dim=1)
        place = torch.arange(B, device=feature.device)
        own, other = log_probability[place, place], log_probability[place, B - 1 - place]
        return -(ratio * own + (1 - ratio) * other).mean()

    def _draw_mix(self, labels: Tensor, mix: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Share of its own patches that each cloud keeps ``(B,)``, and which ones ``(B, G)``."""
        B = len(labels)
        ratio, uniform = mix or (
            torch.rand(B, device=labels.device),
            torch.rand(labels.shape, device=labels.device),
        )
        return ratio, uniform < ratio.unsqueeze(1)

    @torch.no_grad()
    def _keys(self, patches: Patches, mask: Tensor | None) -> Tensor:
        """Move the key network, then encode the unmixed clouds with it, ``(B, feature_dim)``."""
        momentum = self.pretraining_config.momentum
        own = dict(self.named_parameters())
        for name, parameter in self.key.named_parameters():
            parameter.lerp_(own[name].to(parameter.dtype), 1 - momentum)
        return F.normalize(self.key.feature(patches, mask), dim=1)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Keys of all processes replace the oldest ones of the queue."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered = [torch.empty_like(keys) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(gathered, keys.contiguous())
            keys = torch.cat(gathered)
        size, start = self.queue.shape[1], int(self.queue_ptr)
        places = (start + torch.arange(len(keys), device=keys.device)) % size
        self.queue[:, places] = keys.T.to(self.queue.dtype)
        self.queue_ptr[0] = (start + len(keys)) % size

    def _query_state(self) -> Mapping[str, Tensor]:
        """State of the query network under the names of :class:`MaskTransformer`."""
        beside = ("dvae.", "key.", "queue")
        state = self.state_dict()
        return {name: tensor for name, tensor in state.items() if not name.startswith(beside)}


def _mix(patches: Patches, labels: Tensor, kept: Tensor) -> tuple[Patches, Tensor]:
    """Where a patch is not kept, patch, center and label of the mirrored cloud."""
    neighborhoods, centers = patches
    mixed = Patches(
        torch.where(kept[:, :, None, None], neighborhoods, neighborhoods.flip(0)),
        torch.where(kept[:, :, None], centers, centers.flip(0)),
    )
    return mixed, torch.where(kept, labels, labels.flip(0))
