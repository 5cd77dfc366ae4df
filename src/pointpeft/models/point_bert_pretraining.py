"""Point-BERT's pre-training: masked point modeling with a discrete tokenizer (Sec. 3.3).

Hides patches, asks for the tokens that a frozen tokenizer gives them, and contrasts clouds mixed
from two with their sources.
"""

import copy
import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pointpeft.errors import CheckpointError, ConfigError
from pointpeft.locations import resolve_checkpoint
from pointpeft.models.dvae import DiscreteVAE, DiscreteVAEConfig
from pointpeft.models.objective import Pretraining
from pointpeft.models.point_bert import Masked, MaskTransformer, PointBERTPretrainingConfig
from pointpeft.models.point_mae import PointMAE
from pointpeft.models.safetensors_files import saved_name, saved_sizes
from pointpeft.models.tokenizer import Patches
from pointpeft.ops._numerics import full_precision, working

__all__ = ["PointBERTPretraining"]

log = logging.getLogger("pointpeft")

_INNER = ("token_dim", "decoder_dim")
"""Sizes of the tokenizer that the rest of the network does not depend on."""


class PointBERTPretraining(MaskTransformer, Pretraining):
    """Masked point modeling: the query network, with a key network and a tokenizer beside it.

    Args:
        backbone: the encoder to pre-train.
        config: masking, losses, queue and tokenizer.
    """

    backbone: PointMAE
    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self, backbone: PointMAE, config: PointBERTPretrainingConfig | None = None
    ) -> None:
        config = config or PointBERTPretrainingConfig()
        dvae = _make_tokenizer(backbone, config)
        sizes = {name: getattr(dvae.config, name) for name in _INNER}
        config = dataclasses.replace(config, **sizes)
        super().__init__(backbone, config)
        self.dvae = dvae
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
        self.add_terms(backbone.num_features, config, self.lm_head, self.cls_head)

    def train(self, mode: bool = True) -> "PointBERTPretraining":
        """Set the mode; the frozen tokenizer stays in eval mode."""
        super().train(mode)
        self.dvae.eval()
        return self

    def after_filling(self, used: Collection[str]) -> set[str]:
        """Copy the query network to the key network where a checkpoint holds none.

        Args:
            used: entries that came from the checkpoint.

        Returns:
            Entries that have other values now.
        """
        names = {name for name in self.state_dict() if name.startswith("key.")}
        if names.intersection(used):
            return set()
        self.key.load_state_dict(self._query_state())
        return names

    @property
    def leaves_idle(self) -> bool:
        """Whether nothing is guessed, or a loss is off, whose head then gets no gradient."""
        c = self.pretraining_config
        return super().leaves_idle or not (c.token_loss and (c.moco_loss or c.mix_loss))

    def losses(
        self,
        points: Tensor,
        masks: tuple[Tensor, Tensor, Tensor] | None = None,
        mix: tuple[Tensor, Tensor] | None = None,
        seen: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """One step (Sec. 3.3): the losses by name, float32 also under autocast.

        Terms on whole clouds look at the pass without mixing. In train mode the key network moves
        before it encodes, and the queue moves on afterwards.

        Args:
            points: ``(B, N, 3)``.
            masks: boolean ``(B, G)`` for the plain, mixed and key pass; drawn when absent.
            mix: ratios ``(B,)`` and uniform numbers ``(B, G)`` of the mixing; drawn when absent.
            seen: see :class:`ObjectiveTerms`.

        Raises:
            ConfigError: there are more clouds than places in the queue.
        """
        of_plain, of_mixed, of_key = masks or (None, None, None)
        patches = self.backbone.tokenizer.group(points)
        with torch.no_grad(), full_precision(points):
            labels = self.dvae.tokens(patches)
        query = self.masked_logits(patches, of_plain)
        terms = self.terms(points, query.tokens, patches.centers, seen=seen)
        if not self.pretraining_config.reconstruction:
            return terms
        ratio, kept = self._draw_mix(labels, mix)
        mixed_patches, mixed_labels = _mix(patches, labels, kept)
        mixed = self.masked_logits(mixed_patches, of_mixed)
        if self.training:
            self.move_key_network()
        keys = self._keys(patches, of_key)
        c, losses = self.pretraining_config, {}
        with full_precision(points):
            if c.token_loss:
                losses["token"] = _token_loss(query, labels)
                losses["mixed_token"] = _token_loss(mixed, mixed_labels)
            if c.moco_loss:
                losses["moco"] = self._moco_loss(query.feature, keys)
            if c.mix_loss:
                losses["mix"] = self._mix_loss(mixed.feature, keys, ratio)
        if self.training:
            self.enqueue(keys)
        return losses | terms

    def contrasted_features(self, points: Tensor) -> Tensor:
        """What the contrasts compare of clouds ``(B, N, 3)`` with no patch hidden.

        ``(B, feature_dim)``, not normalised; the papers' code measures pre-training by them.
        """
        patches = self.backbone.tokenizer.group(points)
        nothing = torch.zeros(patches.centers.shape[:2], dtype=torch.bool, device=points.device)
        return self.feature(patches, nothing)

    def _moco_loss(self, feature: Tensor, keys: Tensor) -> Tensor:
        """A cloud is its own key, of all keys of the queue."""
        feature = F.normalize(working(feature), dim=1)
        own = (feature * keys).sum(dim=1, keepdim=True)
        target = torch.zeros(len(own), dtype=torch.long, device=own.device)
        return F.cross_entropy(self._similarities(feature, own), target)

    def _mix_loss(self, feature: Tensor, keys: Tensor, ratio: Tensor) -> Tensor:
        """A mixed cloud is ``ratio`` of cloud i and the rest of cloud B - 1 - i."""
        B, feature = len(feature), F.normalize(working(feature), dim=1)
        place, similarity = torch.arange(B, device=feature.device), feature @ keys.T
        mirrored = B - 1 - place
        if self.copies == 2:  # rows i and i + B / 2 are one cloud, which is no other one
            twin = torch.zeros_like(similarity, dtype=torch.bool)
            for row in (place, mirrored):
                twin[place, (row + B // 2) % B] = True
            twin[place, place] = twin[place, mirrored] = False
            similarity = similarity.masked_fill(twin, -torch.inf)
        log_probability = self._similarities(feature, similarity).log_softmax(dim=1)
        own, other = log_probability[place, place], log_probability[place, mirrored]
        return -(ratio * own + (1 - ratio) * other).mean()

    def _similarities(self, feature: Tensor, against: Tensor) -> Tensor:
        """Similarities ``against (B, n)`` and those to the queue, over the temperature."""
        queued = feature @ self.queue.clone()
        return torch.cat([against, queued], dim=1) / self.pretraining_config.temperature

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
        """The unmixed clouds as the key network encodes them, ``(B, feature_dim)``."""
        return F.normalize(working(self.key.feature(patches, mask)), dim=1)

    @torch.no_grad()
    def move_key_network(self) -> None:
        """Move its parameters towards those of the query network, as in every training step."""
        momentum = self.pretraining_config.momentum
        own = dict(self.named_parameters())
        for name, parameter in self.key.named_parameters():
            parameter.lerp_(own[name].to(parameter.dtype), 1 - momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Normalised keys ``(B, feature_dim)`` of all processes replace the oldest of the queue.

        Raises:
            ConfigError: there are more keys than places.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered = [torch.empty_like(keys) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(gathered, keys.contiguous())
            keys = torch.cat(gathered)
        size, start = self.queue.shape[1], int(self.queue_ptr)
        if len(keys) > size:
            raise ConfigError(
                f"a batch of {len(keys)} clouds (twice as many with contrast) does not fit into "
                f"queue_size={size}; use a larger queue or smaller batches"
            )
        places = (start + torch.arange(len(keys), device=keys.device)) % size
        self.queue[:, places] = keys.T.to(self.queue.dtype)
        self.queue_ptr[0] = (start + len(keys)) % size

    def _query_state(self) -> Mapping[str, Tensor]:
        """State of the query network under the names of :class:`MaskTransformer`."""
        beside = ("dvae.", "key.", "queue", "terms.")
        state = self.state_dict()
        return {name: tensor for name, tensor in state.items() if not name.startswith(beside)}


def _token_loss(masked: Masked, labels: Tensor) -> Tensor:
    """Cross-entropy of the asked patches, ``labels (B, G)``."""
    return F.cross_entropy(working(masked.logits), labels[masked.asked])


def _mix(patches: Patches, labels: Tensor, kept: Tensor) -> tuple[Patches, Tensor]:
    """Where a patch is not kept, patch, center and label of the mirrored cloud."""
    neighborhoods, centers = patches
    mixed = Patches(
        torch.where(kept[:, :, None, None], neighborhoods, neighborhoods.flip(0)),
        torch.where(kept[:, :, None], centers, centers.flip(0)),
    )
    return mixed, torch.where(kept, labels, labels.flip(0))


def _make_tokenizer(backbone: PointMAE, config: PointBERTPretrainingConfig) -> DiscreteVAE:
    """The tokenizer of patches as the encoder cuts them, with the weights that it is to have."""
    c = backbone.config
    if c.embed_dim is None:
        raise ConfigError("Point-BERT needs embed_dim, the channels of the tokenizer's patches")
    source = str(resolve_checkpoint(config.tokenizer)) if config.tokenizer else None
    saved = _tokenizer_sizes(source) if source else {}
    stated = {name: getattr(config, name) for name in _INNER}
    inner = {**saved, **{name: size for name, size in stated.items() if size is not None}}
    dvae = DiscreteVAE(
        DiscreteVAEConfig(
            num_groups=c.num_groups,
            group_size=c.group_size,
            embed_dim=c.embed_dim,
            num_tokens=config.num_tokens,
            patch_widths=c.patch_widths,
            skip_near_origin=c.skip_near_origin,
            **{name: inner[name] for name in _INNER if name in inner},
        )
    )
    if source is None and config.reconstruction:
        log.warning("pre-training with an untrained tokenizer: its tokens mean nothing")
    elif source is not None:
        # Here, since reading a file of another program knows the layouts of these models.
        from pointpeft.compat.checkpoints.checkpoint_reader import load_into

        load_into(dvae, source)
    return dvae


def _tokenizer_sizes(path: str) -> dict[str, Any]:
    if (held := saved_name(path)) not in (None, "point_bert_dvae"):
        raise CheckpointError(
            f"{path} holds {held!r}: `tokenizer` takes a file of the model point_bert_dvae"
        )
    return saved_sizes(path)
