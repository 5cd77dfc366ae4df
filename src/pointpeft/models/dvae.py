"""Point-BERT's tokenizer: a discrete variational autoencoder of point patches.

Yu et al., "Point-BERT: Pre-training 3D Point Cloud Transformers with Masked Point Modeling",
CVPR 2022, arXiv 2111.14819, Sec. 3.2. Every patch becomes one of a vocabulary of tokens, from which
a folding decoder rebuilds its points.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_sizes
from pointpeft.models.layers import DGCNN, NORM_GROUPS, split_mlp
from pointpeft.models.loadable import Core
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.models.tokenizer import PatchEmbed, Patches, check_widths, group_patches
from pointpeft.ops._numerics import full_precision, working
from pointpeft.ops.chamfer import rebuilding_error

__all__ = ["DiscreteVAE", "DiscreteVAEConfig", "FoldingDecoder", "Reconstruction"]

_COARSE = 4  # points of a patch per coarse point
_SEED = 0.05  # half the side of the grid that is folded


@dataclass(frozen=True)
class DiscreteVAEConfig:
    """Sizes of the tokenizer; the defaults are the published ones."""

    num_groups: int = 64  # patches per cloud
    group_size: int = 32  # points per patch
    embed_dim: int = 256  # channels of a patch
    num_tokens: int = 8192  # vocabulary
    token_dim: int = 256  # channels of a codebook entry
    decoder_dim: int = 256  # channels of its decoder
    patch_widths: tuple[int, int, int] = (128, 256, 512)  # mini-PointNet
    skip_near_origin: bool = False  # sampling rule of the papers' CUDA extension

    def __post_init__(self) -> None:
        check_sizes(
            self,
            ("num_groups", "group_size", "embed_dim", "num_tokens", "token_dim", "decoder_dim"),
        )
        check_widths(self.patch_widths)
        check_choices(self, ["skip_near_origin"], (True, False))
        divisors = {
            "group_size": _COARSE, "num_tokens": NORM_GROUPS, "decoder_dim": NORM_GROUPS,
        }  # fmt: skip
        for name, divisor in divisors.items():
            if getattr(self, name) % divisor:
                raise ConfigError(f"{name}={getattr(self, name)} must be a multiple of {divisor}")


class Reconstruction(NamedTuple):
    """What the tokenizer makes of a cloud; coordinates are relative to the patch centers.

    Attributes:
        logits: over the vocabulary, ``(B, G, tokens)``.
        coarse: ``(B, G, S / 4, 3)``.
        fine: ``(B, G, S, 3)``.
    """

    logits: Tensor
    coarse: Tensor
    fine: Tensor


class FoldingDecoder(nn.Module):
    """Coarse points from a linear map, fine points by folding a small grid onto each of them.

    Args:
        dim: channels of a patch feature.
        group_size: points S of a patch.
    """

    seeds: Tensor

    def __init__(self, dim: int, group_size: int) -> None:
        super().__init__()
        self.num_coarse = group_size // _COARSE
        self.mlp = nn.Sequential(
            nn.Linear(dim, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
            nn.Linear(1024, 3 * self.num_coarse),
        )  # fmt: skip
        self.fold = nn.Sequential(
            nn.Linear(dim + 2 + 3, 512), nn.BatchNorm1d(512), nn.ReLU(),
            nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(),
            nn.Linear(512, 3),
        )  # fmt: skip
        corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
        self.register_buffer("seeds", _SEED * corners, persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, G, C)`` -> coarse ``(B, G, S / 4, 3)`` and fine ``(B, G, S, 3)`` points."""
        B, G, C = features.shape
        patches, M = features.reshape(-1, C), self.num_coarse
        coarse = self.mlp(patches).view(-1, M, 3)
        # One row per fine point: [feature of the patch, seed, coarse point].
        rows = split_mlp(
            self.fold, patches[:, None, None], self.seeds[None, None], coarse[:, :, None]
        )
        offsets = rows.view(-1, M, _COARSE, 3)
        fine = offsets + coarse.unsqueeze(2)
        return coarse.view(B, G, M, 3), fine.view(B, G, -1, 3)


class DiscreteVAE(Pretrainable, Core):
    """The tokenizer: logits over a vocabulary for every patch, and patches from tokens.

    Args:
        config: sizes.

    Attributes:
        step: optimiser steps so far, which set temperature and divergence weight.
        copies: of a batch that training wants, one.
    """

    task = "tokenizer"

    copies = 1

    def __init__(self, config: DiscreteVAEConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or DiscreteVAEConfig()
        self.codebook = nn.Parameter(torch.randn(c.num_tokens, c.token_dim))
        self.embed = PatchEmbed(c.embed_dim, c.patch_widths)
        self.classify = DGCNN(c.embed_dim, c.num_tokens)
        self.contextualise = DGCNN(c.token_dim, c.decoder_dim)
        self.decoder = FoldingDecoder(c.decoder_dim, c.group_size)

    def group(self, points: Tensor) -> Patches:
        """Patches of ``points (B, N, 3)``."""
        c = self.config
        return group_patches(points, c.num_groups, c.group_size, c.skip_near_origin)

    def logits(self, patches: Patches) -> Tensor:
        """Logits over the vocabulary, ``(B, G, tokens)``."""
        return self.classify(self.embed(patches.neighborhoods), patches.centers)

    def tokens(self, patches: Patches) -> Tensor:
        """The most likely token of every patch, ``(B, G)`` int64."""
        return self.logits(patches).argmax(dim=-1)

    def decode(self, weights: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse and fine points from weights over the vocabulary, ``(B, G, tokens)``."""
        return self.decoder(self.contextualise(weights @ self.codebook, centers))

    def reconstruct(
        self, patches: Patches, temperature: float, hard: bool = False, noise: bool = True
    ) -> Reconstruction:
        """Tokenise by Gumbel-softmax (Jang et al. 2017) and rebuild.

        Args:
            patches: of a batch of clouds.
            temperature: of the softmax.
            hard: pass one-hot samples on; the gradient is that of the soft ones.
            noise: draw Gumbel noise; without it the most likely token is taken.
        """
        logits = drawn = working(self.logits(patches))
        if noise:
            exponential = torch.empty_like(logits).exponential_()
            drawn = logits - exponential.clamp_min(torch.finfo(logits.dtype).tiny).log()
        weights = (drawn / temperature).softmax(dim=-1)
        if hard:
            sample = F.one_hot(weights.argmax(dim=-1), weights.shape[-1]).to(weights.dtype)
            weights = sample - weights.detach() + weights
        return Reconstruction(logits, *self.decode(weights, patches.centers))

    def rebuild_clouds(self, points: Tensor) -> Tensor:
        """Fine points ``(B, G * S, 3)`` of whole clouds, from a token drawn for every patch.

        Args:
            points: ``(B, N, 3)``, in whose coordinates the result is.
        """
        patches = self.group(points)
        fine = self.reconstruct(patches, temperature=1.0, hard=True).fine
        return (fine + patches.centers.unsqueeze(2)).flatten(1, 2)

    def losses_of(self, rebuilt: Reconstruction, target: Tensor) -> dict[str, Tensor]:
        """Chamfer-L1 distance of both point sets, and the divergence of token use from uniform.

        Args:
            rebuilt: what :meth:`reconstruct` gave.
            target: the patches, ``(B, G, S, 3)``.
        """
        flat = target.flatten(0, 1)
        reconstruction = sum(
            rebuilding_error(points.flatten(0, 1), flat, norm="l1")
            for points in (rebuilt.coarse, rebuilt.fine)
        )
        # KL(uniform || q) with q the mean over patches: -log(T) - mean over tokens of log q.
        with full_precision(target):
            used = rebuilt.logits.softmax(dim=-1).mean(dim=1).log()
            divergence = (-math.log(used.shape[-1]) - used.mean(dim=-1)).mean()
        return {"reconstruction": reconstruction, "divergence": divergence}  # type: ignore[dict-item]

    def losses(self, points: Tensor) -> dict[str, Tensor]:
        """The two terms for ``points (B, N, 3)`` at the temperature of this step."""
        patches = self.group(points)
        rebuilt = self.reconstruct(patches, self.temperature)
        return self.losses_of(rebuilt, patches.neighborhoods)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The reconstruction plus the weighted divergence."""
        return losses["reconstruction"] + self.divergence_weight * losses["divergence"]

    @property
    def temperature(self) -> float:
        """Of the Gumbel-softmax: from 1 to 1/16 by half a cosine over 100,000 steps."""
        return _half_cosine(1.0, 0.0625, self.step)

    @property
    def divergence_weight(self) -> float:
        """Of the divergence: 0 for 10,000 steps, then to 0.1 by half a cosine over 100,000."""
        return _half_cosine(0.0, 0.1, self.step - 10_000)


def _half_cosine(start: float, target: float, step: int, length: int = 100_000) -> float:
    progress = min(max(step, 0), length) / length
    return target + (start - target) * (1 + math.cos(math.pi * progress)) / 2
