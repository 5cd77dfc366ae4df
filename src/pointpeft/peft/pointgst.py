"""PointGST: parameter-efficient fine-tuning in the spectral domain.

Liang et al., arXiv 2410.08114. A bottleneck beside every MLP works on the graph Fourier transform
of its rows, over the graph of all patch centers and over graphs of neighbouring ones.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import check_choices, check_sizes
from pointpeft.models.layers import Block
from pointpeft.models.network import Network
from pointpeft.models.trunk import Geometry, Stream
from pointpeft.ops._numerics import full_precision
from pointpeft.peft.method import PeftConfig, Tuner

__all__ = ["Bases", "PointGSTConfig", "PointGSTTuner", "graph_basis", "laplacian", "morton_order"]

_SPLIT = 1e-6
"""Largest shift of an eigenvalue, by which equal ones of symmetric clouds are told apart."""


@dataclass(frozen=True)
class PointGSTConfig(PeftConfig):
    """Settings of PointGST; those of the paper but for the learning rate."""

    method = "pointgst"
    learning_rate = 2e-3  # in the paper 5e-4, for a hundred times as many steps

    rank: int = 36  # channels r of the bottleneck
    local: int = 32  # patches of a local graph, at most: the largest number that divides them all
    reference_compat: bool = False  # with the faults of the paper's code

    def __post_init__(self) -> None:
        check_sizes(self, ["rank", "local"])
        check_choices(self, ["reference_compat"], (True, False))


class Bases(NamedTuple):
    """Eigenvectors of the graphs of a batch, as columns, ascending by eigenvalue.

    Attributes:
        whole: of all centers of a cloud, ``(B, G, G)``.
        order: centers along a space-filling curve, ``(B, G)``; runs of them are the local graphs.
        local: ``(B, n, l, l)``.
    """

    whole: Tensor
    order: Tensor
    local: Tensor


class PointGSTTuner(Tuner):
    """Trains the spectral adapters, class token and head.

    Bases hang on the centers alone, are made once per forward pass, in float64 and with a fixed
    sign: neither the rest of a batch nor the library that finds eigenvectors moves an output.
    """

    config: PointGSTConfig

    def __init__(self, model: Network, config: PointGSTConfig) -> None:
        super().__init__(model, config)
        self.adapters = nn.ModuleList(
            _SpectralAdapter(scale.dim, config.rank)
            for scale in model.backbone.scales
            for _ in scale.blocks
        )

    def trains(self, name: str) -> bool:
        """All but the encoder."""
        return not name.startswith("model.backbone.")

    def block(self, place: int, block: Block, stream: Stream) -> Stream:
        """One block with its adapter, which sees tokens before the norm."""
        geometry = stream.geometry
        bases = geometry.once("pointgst", lambda: self.bases(geometry))
        x = block.attend(stream.tokens + stream.positions, geometry)
        adapted = self.adapters[place](x, stream.prefix, bases)
        return stream.with_tokens(x + block.drop_path(block.mlp(block.norm2(x))) + adapted)

    @torch.no_grad()
    def bases(self, geometry: Geometry) -> Bases:
        """Those of the centers of a batch."""
        centers = geometry.centers.float()
        order = morton_order(centers)
        G = centers.shape[1]
        size = max(n for n in range(1, min(self.config.local, G) + 1) if G % n == 0)
        runs = centers.gather(1, order.unsqueeze(-1).expand(-1, -1, 3)).unflatten(1, (-1, size))
        with full_precision(centers):
            return Bases(self.basis(centers), order, self.basis(runs))

    def basis(self, points: Tensor) -> Tensor:
        """Eigenvectors of graphs of ``points (..., m, 3)``: rows are frequencies, ``(..., m, m)``.

        Multiplied with a signal it is the graph Fourier transform.
        """
        return graph_basis(laplacian(points.double())).mT.to(points.dtype)


class _SpectralAdapter(nn.Module):
    """``up(SiLU(down(x)))``, to which patch rows add what comes of their spectra."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, rank), nn.Linear(rank, dim)
        self.mix = nn.Linear(rank, rank)  # shared by whole and local graphs
        self.norm_whole, self.norm_local = nn.LayerNorm(rank), nn.LayerNorm(rank)
        nn.init.xavier_uniform_(self.down.weight)
        for layer in (self.mix, self.up):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, prefix: int, bases: Bases) -> Tensor:
        """``(B, T, C) -> (B, T, C)``; the first ``prefix`` rows are no patches."""
        z = self.down(x)
        front, t = z[:, :prefix], z[:, prefix:]
        spread = F.silu(t) + self.whole(t, bases.whole) + self.local(t, bases)
        return self.up(torch.cat([F.silu(front), spread], dim=1))

    def whole(self, t: Tensor, basis: Tensor) -> Tensor:
        """Through the spectrum over all patches, ``(B, G, r) -> (B, G, r)``."""
        basis = basis.to(t.dtype)
        return basis.mT @ self.filter(basis @ t, self.norm_whole)

    def local(self, t: Tensor, bases: Bases) -> Tensor:
        """Through the spectra over runs of patches, ``(B, G, r) -> (B, G, r)``."""
        order, basis = bases.order.unsqueeze(-1).expand_as(t), bases.local.to(t.dtype)
        runs = t.gather(1, order).unflatten(1, (-1, basis.shape[-1]))  # (B, n, l, r)
        out = basis.mT @ self.filter(basis @ runs, self.norm_local)
        return torch.zeros_like(t).scatter(1, order, out.flatten(1, 2).to(t.dtype))

    def filter(self, spectrum: Tensor, norm: nn.LayerNorm) -> Tensor:
        """``s + SiLU(mix(norm(s)))``, frequency by frequency."""
        return spectrum + F.silu(self.mix(norm(spectrum)))


def laplacian(points: Tensor, unit: Tensor | None = None) -> Tensor:
    """Normalised Laplacian of the complete graph of ``points (..., m, 3)``, ``(..., m, m)``.

    Weights are ``unit / distance``, and 1 of a point with itself.

    Args:
        points: a stack of point sets.
        unit: the distance of weight 1, ``(..., 1, 1)``; None: the smallest positive one of each.
    """
    D = (points.unsqueeze(-2) - points.unsqueeze(-3)).square().sum(dim=-1).sqrt()
    if unit is None:
        positive = D.masked_fill(D == 0, torch.inf).amin(dim=(-2, -1), keepdim=True)
        unit = positive.nan_to_num(posinf=1.0)  # all points are one
    eye = torch.eye(D.shape[-1], dtype=D.dtype, device=D.device)
    # Points at one place are as near as a point is to itself.
    A = torch.where(D > 0, unit / D, torch.ones_like(D))
    scale = (A.sum(dim=-1) + 1e-6).rsqrt()
    return eye - scale.unsqueeze(-1) * A * scale.unsqueeze(-2)


def graph_basis(laplacian: Tensor) -> Tensor:
    """Eigenvectors as columns, ascending by eigenvalue, ``(..., m, m) -> (..., m, m)``.

    They are unique: equal eigenvalues are told apart by a tiny shift that hangs on the place of a
    point, and each vector's weighted sum is positive.
    """
    m = laplacian.shape[-1]
    shift = torch.linspace(0, _SPLIT, m, dtype=laplacian.dtype, device=laplacian.device).diag()
    vectors = torch.linalg.eigh(laplacian + shift).eigenvectors
    weights = torch.linspace(1, 2, m, dtype=vectors.dtype, device=vectors.device)
    sums = weights @ vectors  # (..., m)
    return vectors * torch.where(sums < 0, -1.0, 1.0).unsqueeze(-2)


def morton_order(centers: Tensor) -> Tensor:
    """Places of ``centers (B, G, 3)`` along a Z-order curve, ``(B, G)``.

    Coordinates count hundredths; negative ones wrap around, as 16-bit integers do.
    """
    q = (100 * centers.float()).trunc().long() & 0xFFFF
    key = torch.zeros_like(q[..., 0])
    for axis, place in ((1, 2), (0, 1), (2, 0)):  # y, x, z, from the highest of each three bits
        for bit in range(16):
            key |= (q[..., axis] >> bit & 1) << (3 * bit + place)
    return key.argsort(dim=-1, stable=True)
