"""Point-BERT: a transformer pre-trained by masked point modeling (Sec. 3.3).

Yu et al., CVPR 2022, arXiv 2111.14819. The encoder is the plain transformer of Point-MAE with a
projection behind the mini-PointNet. Classification is here; pre-training is in
``point_bert_pretraining.py`` and its tokenizer in ``dvae.py``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.masking import block_mask
from pointpeft.models.objective import ObjectiveConfig
from pointpeft.models.point_mae import PointMAE, PointMAEClassifier, init_token, init_weights
from pointpeft.models.tokenizer import Patches
from pointpeft.models.trunk import Geometry, Stream

__all__ = ["MaskTransformer", "Masked", "PointBERTClassifier", "PointBERTPretrainingConfig"]


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
class PointBERTPretrainingConfig(ObjectiveConfig):
    """Settings of masked point modeling; the defaults are the published ones."""

    tokenizer: str | None = None  # weights of a trained tokenizer, ours or released
    mask_ratio: tuple[float, float] = (0.25, 0.45)  # drawn from this range
    random_mask: bool = False  # hide patches independently, not a block of neighbours
    replace_probability: float = 0.0  # of a visible token to become one of another place
    token_loss: bool = True  # predict tokens of hidden patches
    mix_loss: bool = True  # tell which two clouds a mixed one comes from
    moco_loss: bool = False  # tell a cloud from those in the queue
    all_tokens: bool = False  # predict tokens of visible patches as well
    momentum: float = 0.999  # of the key network
    temperature: float = 0.07  # of all contrasts
    queue_size: int = 16384  # features kept to be told from
    feature_dim: int = 512  # channels of a contrasted feature
    num_tokens: int = 8192  # vocabulary of the tokenizer
    token_dim: int | None = None  # channels of its codebook entries; None: as its file says
    decoder_dim: int | None = None  # and of its decoder
    reference_compat: bool = False  # the tokenizer's statistics drift, as in the paper's code

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, ("queue_size", "feature_dim", "num_tokens"))
        check_numbers(self, ["replace_probability", "momentum"])
        switches = ("random_mask", "token_loss", "mix_loss", "moco_loss", "all_tokens")
        check_choices(self, [*switches, "reference_compat"], (True, False))
        for name in ("replace_probability", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not _is_range(self.mask_ratio):
            raise ConfigError(f"mask_ratio={self.mask_ratio} must be a range within (0, 1)")
        if not (self.token_loss or self.mix_loss or self.moco_loss):
            raise ConfigError("one of token_loss, mix_loss and moco_loss must be on")


class Masked(NamedTuple):
    """What the masked transformer returns.

    Attributes:
        feature: of the cloud, ``(B, feature_dim)``, not normalised.
        logits: over the vocabulary for all M asked patches of the batch, ``(M, tokens)``.
        asked: patches whose token has to be guessed, boolean ``(B, G)``.
        tokens: of the patches, ``(B, G, C)``.
    """

    feature: Tensor
    logits: Tensor
    asked: Tensor
    tokens: Tensor


class MaskTransformer(nn.Module):
    """The encoder with a mask token, a class token, and a head for each.

    Args:
        backbone: the encoder.
        config: settings of pre-training.
    """

    def __init__(self, backbone: PointMAE, config: PointBERTPretrainingConfig) -> None:
        super().__init__()
        C, G, D = backbone.num_features, backbone.config.num_groups, config.feature_dim
        if not config.random_mask and int(config.mask_ratio[0] * G) < 1:
            raise ConfigError(
                f"mask_ratio={config.mask_ratio} may hide none of num_groups={G} patches; "
                "its lower end must hide at least one"
            )
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
        stream = Stream(tokens, backbone.pos_embed(centers), Geometry(centers, centers))
        return backbone.encode(stream.insert(self.cls_token, self.cls_pos)), asked

    def feature(self, patches: Patches, mask: Tensor | None = None) -> Tensor:
        """The cloud's feature alone, ``(B, feature_dim)``."""
        return self.cls_head(self.encode(patches, mask)[0][:, 0])

    def masked_logits(self, patches: Patches, mask: Tensor | None = None) -> Masked:
        """Feature of the cloud and logits of asked patches; ``mask (B, G)`` is drawn when absent.

        With ``all_tokens`` every patch is asked for.
        """
        x, asked = self.encode(patches, mask)
        if self.pretraining_config.all_tokens:
            asked = torch.ones_like(asked)
        feature, tokens = self.cls_head(x[:, 0]), x[:, 1:]
        return Masked(feature, self.lm_head(tokens[asked]), asked, tokens)

    def draw_mask(self, centers: Tensor) -> Tensor:
        """Hidden patches ``(B, G)``: a block of neighbours, with a ratio for each cloud.

        Independently hidden patches share one ratio; each cloud has at least one of them.
        """
        B, G, _ = centers.shape
        low, high = self.pretraining_config.mask_ratio
        if self.pretraining_config.random_mask:
            ratio = low + (high - low) * torch.rand((), device=centers.device)
            uniform = torch.rand(B, G, device=centers.device)
            return uniform <= torch.maximum(uniform.amin(dim=1, keepdim=True), ratio)
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


def _is_range(value: object) -> bool:
    """Whether ``value`` is a pair of rising numbers within (0, 1)."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(type(end) in (int, float) for end in value) and 0 < value[0] <= value[1] < 1
