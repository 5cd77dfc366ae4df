"""Tuning methods as their published code computes them, faults included."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.compat.pretraining import published_features
from pointpeft.models import Geometry
from pointpeft.models.trunk import Stream, Tokenized, Trunk
from pointpeft.ops import farthest_point_sample, gather_points
from pointpeft.peft.dapt import DAPTTuner
from pointpeft.peft.idpt import IDPTTuner
from pointpeft.peft.linear import LinearTuner
from pointpeft.peft.method import Tuner
from pointpeft.peft.point_peft import PointPeftTuner
from pointpeft.peft.point_peft_block import LocalGroups, PointPeftBlock, ScaleLayers, local_groups
from pointpeft.peft.pointgst import PointGSTTuner
from pointpeft.peft.ppt import PPTTuner
from pointpeft.peft.stag import STAGTuner

__all__ = ["WITH_FAULTS", "PublishedPointPeftTuner", "published_prompt_groups"]


class PublishedScaleLayers(ScaleLayers):
    """Local groups by the published sampler, and those of prompts with rows of other places."""

    def _groups(self, geometry: Geometry, prompted: bool) -> LocalGroups:
        centers, sizes = geometry.centers, (self.num_groups, self.group_size)
        (prompts,) = self._prompt_centers
        if not prompted or prompts is None:
            return local_groups(centers, centers, *sizes, skip_near_origin=True)
        return published_prompt_groups(geometry.points, prompts, centers.shape[1], *sizes)


class PublishedPointPeftBlock(PointPeftBlock):
    """All blocks carry prompts and a gate, used or not; up-projections begin at full scale."""

    def __init__(
        self,
        dim: int,
        config: Any,
        shared: ScaleLayers,
        widths: tuple[int, int],
        prompted: bool,
        with_bank: bool,
        gated: bool,
    ) -> None:
        config = replace(config, init_scale=1.0)
        super().__init__(dim, config, shared, widths, True, with_bank, gated)
        self.prompted = prompted
        if not gated:
            self.gate = nn.Parameter(torch.zeros(1))

    def attention_bias(self, geometry: Geometry) -> Tensor | None:
        """The tokens' mask lies on the first rows and columns, which are the prompts'."""
        bias, P = geometry.attention_bias, self.config.num_prompts
        if bias is None or not self.prompted:
            return bias
        return geometry.once("point-peft bias", lambda: F.pad(bias, (0, P, 0, P)))

    def adapt(self, h: Tensor) -> Tensor:
        """The gate holds back the MLP too, so that training begins without it."""
        return self.gate * (h + self.adapter(h)) if self.gated else super().adapt(h)


class PublishedPointPeftTuner(PointPeftTuner):
    """BatchNorm statistics of frozen layers move, and much that is called trained is idle."""

    freezes_statistics = False
    leaves_idle = True
    depends_on_batch = True
    features = staticmethod(published_features)
    scale_layers = PublishedScaleLayers
    beside_block = PublishedPointPeftBlock

    def can_retrieve(self) -> bool:
        """Always: the bank is a file of its own, which may come later."""
        return True

    def groups_prompts(self, prompted: bool) -> bool:
        """Always."""
        return True

    def query(self, found: Tokenized) -> Tensor:
        """By the frozen encoder from the points on: the statistics of the adapted pass move."""
        return self.features(self.retriever.eval(), found.points)


def published_prompt_groups(
    points: Tensor, prompts: Tensor, num_tokens: int, num_groups: int, group_size: int
) -> LocalGroups:
    """Groups of prompt blocks as the papers' code computes them.

    The cloud is tokenised again with the prompt coordinates in front of its points, and the
    groups of those centers index the rows [prompts, tokens] of the stacked batch with an offset
    that leaves the prompts out. So rows do not belong to the coordinates that chose them, and
    groups of later clouds reach into earlier ones.

    Args:
        points: ``(B, N, 3)``.
        prompts: learned coordinates ``(P, 3)``; they receive a gradient.
        num_tokens: patch tokens G per cloud.
        num_groups: groups g.
        group_size: rows s per group.
    """
    prompted = torch.cat([prompts.expand(points.shape[0], -1, -1), points], dim=1)
    chosen = farthest_point_sample(prompted.detach(), num_tokens, skip_near_origin=True)
    tokens = gather_points(prompted, chosen)
    return local_groups(tokens, tokens, num_groups, group_size, skip_near_origin=True)


class PublishedIDPTTuner(IDPTTuner):
    """BatchNorm statistics of frozen layers move, and the prompt's position is not trained."""

    freezes_statistics = False

    def trains(self, name: str) -> bool:
        """As in the clean one, but for the prompt's position."""
        return name != "tuner.prompt_pos" and super().trains(name)


class PublishedLinearTuner(LinearTuner):
    """BatchNorm statistics of frozen layers move in training, and blocks are left out at random."""

    freezes_statistics = False


class PublishedSTAGTuner(STAGTuner):
    """BatchNorm statistics of frozen layers move in training."""

    freezes_statistics = False


class PublishedDAPTTuner(DAPTTuner):
    """BatchNorm statistics of frozen layers move in training."""

    freezes_statistics = False


class PublishedPointGSTTuner(PointGSTTuner):
    """The unit of distances is that of the batch, and signals are multiplied by eigenvectors.

    Distances are those of a matrix product in float32, so the smallest positive one, which is the
    unit, is a rounding residue of the diagonal: numbers differ between libraries and machines.
    BatchNorm statistics of frozen layers move in training.
    """

    freezes_statistics = False
    depends_on_batch = True

    def basis(self, points: Tensor) -> Tensor:
        """Eigenvectors as columns, where rows were meant; signs are those of the library."""
        stack = points.flatten(0, -3)
        D = torch.cdist(stack, stack, compute_mode="use_mm_for_euclid_dist")
        unit = D[D > 0].min()
        A = 1 / (D / unit + torch.eye(D.shape[-1], device=D.device))
        scale = (A.sum(dim=-1) + 1e-6).rsqrt()
        L = torch.eye(D.shape[-1], device=D.device) - scale[:, :, None] * A * scale[:, None]
        return torch.linalg.eigh(L).eigenvectors.view(*points.shape[:-1], -1)


class PublishedPPTTuner(PPTTuner):
    """Prompts are embedded by a second call, with a BatchNorm that trains on them alone."""

    freezes_statistics = False

    def embed(self, trunk: Trunk, stream: Stream) -> Stream:
        """The stream, whose state are the tokens of the second cut."""
        if not self.training or len(trunk.scales) > 1:  # each of which has its own tokens
            return stream
        tokenizer: Any = trunk.tokenizer
        patches = tokenizer.group(stream.geometry.points).neighborhoods
        second = patches[:, : self.config.num_prompts]
        return stream.with_state(tokenizer.project(tokenizer.embed(second)))

    def prompts(self, stream: Stream, count: int) -> Tensor:
        """Those of the second call, where there was one; else the state is of a finer scale."""
        found = stream.state
        return found if isinstance(found, Tensor) else super().prompts(stream, count)


WITH_FAULTS: dict[str, type[Tuner]] = {
    "linear": PublishedLinearTuner,
    "point-peft": PublishedPointPeftTuner,
    "idpt": PublishedIDPTTuner,
    "dapt": PublishedDAPTTuner,
    "pointgst": PublishedPointGSTTuner,
    "stag": PublishedSTAGTuner,
    "ppt": PublishedPPTTuner,
}
"""Tuners of ``reference_compat=True``, by method."""
