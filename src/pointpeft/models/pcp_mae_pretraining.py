"""PCP-MAE's pre-training: the centers of hidden patches are predicted, not told.

Zhang et al., NeurIPS 2024, arXiv 2408.08753.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.hierarchy import BLOCKED
from pointpeft.models.layers import Block
from pointpeft.models.objective import Pretraining
from pointpeft.models.pcp_mae import PCPMAE, position_code
from pointpeft.models.point_mae import init_token
from pointpeft.models.point_mae_pretraining import (
    Decoder,
    MaskedPatches,
    MaskingConfig,
    check_fit,
    mask_patches,
)
from pointpeft.models.trunk import Geometry, Method, Stream
from pointpeft.ops._numerics import full_precision, working
from pointpeft.ops.chamfer import rebuilding_error
from pointpeft.ops.gathering import select

__all__ = ["PCPMAEPretraining", "PCPMAEPretrainingConfig"]

CenterLoss = Literal["l2", "l1", "smooth_l1", "cosine"]
"""How far a predicted code is from the true one."""


@dataclass(frozen=True)
class PCPMAEPretrainingConfig(MaskingConfig):
    """Settings of pre-training with predicted centers; the defaults are the published ones."""

    terms = (*MaskingConfig.terms, "centers")

    center_loss: CenterLoss = "l2"  # of predicted codes; or "l1", "smooth_l1", "cosine"
    centers: float = 0.1  # weight of that loss
    center_depth: int = 0  # blocks that hidden tokens pass before their codes are predicted
    detach_centers: bool = True  # what is rebuilt does not train the prediction of centers

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, ["center_loss"], get_args(CenterLoss))
        check_choices(self, ["detach_centers"], (True, False))
        check_numbers(self, ["centers"])
        check_sizes(self, ["center_depth"], least=0)
        if self.centers < 0:
            raise ConfigError(f"centers must not be negative, got {self.centers}")


class _TwoStreams(Method):
    """Runs visible and hidden tokens through a block; stochastic depth draws for each anew.

    The state of the stream is the number of visible tokens, which come first.
    """

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """The block at ``place``."""

        def drop(branch: Tensor) -> Tensor:
            visible, hidden = branch.tensor_split((stream.state,), dim=1)
            return torch.cat([block.drop_path(visible), block.drop_path(hidden)], dim=1)

        x = stream.tokens + stream.positions
        x = x + drop(block.attn(block.norm1(x), stream.geometry.attention_bias))
        return stream.with_tokens(x + drop(block.mlp(block.norm2(x))))


_TWO_STREAMS = _TwoStreams()


class EncodedPatches(NamedTuple):
    """A masked batch behind the encoder.

    Attributes:
        visible: encoded visible patches, ``(B, V, C)``.
        hidden: encoded hidden patches, ``(B, M, C)``.
        positions: embedded centers of the visible patches, ``(B, V, C)``.
        geometry: of the whole cloud.
    """

    visible: Tensor
    hidden: Tensor
    positions: Tensor
    geometry: Geometry


class PCPMAEPretraining(Pretraining):
    """Masked autoencoding of point patches whose centers are predicted.

    Hidden patches pass the encoder beside the visible ones, without their positions. They see the
    visible patches, which do not see them. From what comes out the codes of their centers are
    predicted, and the decoder is given these in place of the true ones.

    Args:
        backbone: the encoder to pre-train.
        config: masking, decoder and losses.
    """

    backbone: PCPMAE
    pretraining_config: PCPMAEPretrainingConfig

    def __init__(self, backbone: PCPMAE, config: PCPMAEPretrainingConfig | None = None) -> None:
        super().__init__()
        self.pretraining_config = c = config or PCPMAEPretrainingConfig()
        check_fit(backbone, c)
        C, rate = backbone.num_features, backbone.config.drop_path
        self.backbone = backbone
        self.mask_token = nn.Parameter(torch.empty(1, 1, C))
        self.mask_pos_token = nn.Parameter(torch.empty(1, 1, C))
        self.decoder = Decoder(C, c.decoder_depth, c.decoder_num_heads, rate)
        self.increase_dim = nn.Linear(C, 3 * backbone.config.group_size)
        self.center_blocks = None
        if c.center_depth:
            self.center_blocks = Decoder(C, c.center_depth, c.decoder_num_heads, rate)
        self.center_head = nn.Sequential(
            nn.Linear(C, C), nn.LayerNorm(C), nn.ReLU(), nn.Linear(C, C)
        )
        init_token(self.mask_token)
        init_token(self.mask_pos_token)
        self.add_terms(C, c, self.decoder, self.increase_dim)
        if not c.centers and (c.detach_centers or not c.reconstruction):  # nothing trains them
            self.mask_pos_token.requires_grad_(False)
            self.center_head.requires_grad_(False)
            if self.center_blocks is not None:
                self.center_blocks.requires_grad_(False)

    def losses(
        self, points: Tensor, mask: Tensor | None = None, seen: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The Chamfer distance of the rebuilt patches, the error of the codes, and further terms.

        Args:
            points: ``(B, N, 3)``; with contrast, rows i and i + B / 2 are views of one cloud.
            mask: boolean ``(B, G)``, True = hidden, with equal counts per row; drawn when absent.
            seen: see :class:`ObjectiveTerms`.

        Raises:
            DataError: the mask hides more patches of one cloud than of another, none, or all.
        """
        c, losses = self.pretraining_config, {}
        masked = mask_patches(self.backbone, points, mask, c)
        encoded = self.encode(points, masked)
        predicted = self.predict_codes(encoded)
        if c.reconstruction:
            rebuilt = self.rebuild(encoded, predicted)
            losses["reconstruction"] = rebuilding_error(rebuilt, masked.target(), norm=c.loss)
        if c.centers:
            true = position_code(select(masked.centers, masked.hidden), predicted.shape[-1])
            losses["centers"] = code_error(predicted, true, c.center_loss)
        visible = select(masked.centers, masked.visible)
        return losses | self.terms(points, encoded.visible, visible, seen=seen)

    def encode(self, points: Tensor, masked: MaskedPatches) -> EncodedPatches:
        """Run all patches of ``points (B, N, 3)`` through the encoder, the hidden ones apart."""
        backbone, V = self.backbone, masked.visible.shape[1]
        order = torch.cat([masked.visible, masked.hidden], dim=1)
        tokens = backbone.tokenizer.embed(masked.neighborhoods)
        tokens = backbone.tokenizer.project(select(tokens, order))
        positions = backbone.pos_embed(select(masked.centers, masked.visible))
        unknown = self.mask_pos_token.to(positions.dtype).expand(*masked.hidden.shape, -1)
        geometry = Geometry(
            points, select(masked.centers, order), attention_bias=_hide_behind(V, tokens)
        )
        stream = Stream(tokens, torch.cat([positions, unknown], dim=1), geometry, state=V)
        encoded = backbone.final_norm(backbone.run(stream, _TWO_STREAMS)[-1].tokens)
        visible, hidden = encoded.tensor_split((V,), dim=1)
        return EncodedPatches(visible, hidden, positions, Geometry(points, geometry.centers))

    def predict_codes(self, encoded: EncodedPatches) -> Tensor:
        """Codes of the centers of the hidden patches, ``(B, M, C)``."""
        tokens = encoded.hidden
        if self.center_blocks is not None:
            nowhere = torch.zeros_like(tokens)
            tokens = self.center_blocks(tokens, nowhere, tokens.shape[1], encoded.geometry)
        return self.center_head(tokens)

    def rebuild(self, encoded: EncodedPatches, codes: Tensor) -> Tensor:
        """Points of the hidden patches relative to their centers, ``(B M, S, 3)``.

        Args:
            encoded: the encoded batch.
            codes: of the centers of the hidden patches, ``(B, M, C)``.
        """
        B, M = codes.shape[:2]
        given = codes.detach() if self.pretraining_config.detach_centers else codes
        positions = torch.cat([encoded.positions, self.backbone.pos_embed.of_code(given)], dim=1)
        hidden = self.mask_token.to(encoded.visible.dtype).expand(B, M, -1)
        x = torch.cat([encoded.visible, hidden], dim=1)
        decoded = self.decoder(x, positions, M, encoded.geometry)
        return self.increase_dim(decoded).view(B * M, -1, 3)


def _hide_behind(num_visible: int, tokens: Tensor) -> Tensor:
    """Keeps the first of ``tokens (B, T, C)`` from seeing those behind them, ``(1, 1, T, T)``."""
    T = tokens.shape[1]
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    bias = torch.zeros(1, 1, T, T, dtype=dtype, device=tokens.device)
    bias[..., :num_visible, num_visible:] = BLOCKED
    return bias


def code_error(predicted: Tensor, true: Tensor, kind: CenterLoss) -> Tensor:
    """How far codes ``(B, M, C)`` are from ``true``, which is not trained: a scalar.

    Args:
        predicted: the codes.
        true: what they should be.
        kind: mean squared difference, mean difference, the smooth one with threshold 1, or one
            minus the mean cosine.
    """
    with full_precision(predicted):
        predicted, true = working(predicted), true.detach()
        if kind == "cosine":
            return 1 - F.cosine_similarity(predicted, true, dim=-1).mean()
        differences = {"l2": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}
        return differences[kind](predicted, true)
