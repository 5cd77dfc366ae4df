"""What a pre-training network is: the objective of a paper, and terms that any may have beside it.

These terms look at the tokens of what is left visible of a cloud, so that they cost no pass of
their own and every backbone can have them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointpeft.errors import ConfigError, check_choices, check_numbers, check_sizes
from pointpeft.models.network import Network
from pointpeft.models.pretrainable import Pretrainable
from pointpeft.models.semantics import PatchSemantics
from pointpeft.ops._numerics import full_precision, working
from pointpeft.vision import Mesh, Teacher, Views, load_teacher, make_views

__all__ = [
    "CloudTeacher",
    "Distillation",
    "InstanceContrast",
    "ObjectiveConfig",
    "ObjectiveTerms",
    "Pretraining",
]


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms, and what an image encoder is shown; by default there are none.

    Attributes:
        terms: names of the weights.
    """

    terms: ClassVar[tuple[str, ...]] = ("reconstruction", "contrast", "distillation", "semantics")

    reconstruction: float = 1.0  # weight of the objective of the paper; 0 leaves it out
    contrast: float = 0.0  # weight of instance contrast between two views; in the papers none
    temperature: float = 0.1  # of the contrast
    distillation: float = 0.0  # weight of predicting what an image encoder sees of the cloud
    semantics: float = 0.0  # weight of predicting what it sees of visible patches
    teacher: str = "efficientnet-lite0"  # a transformers folder, CLIP's weights, or a name
    teacher_image_size: int | None = None  # side of an image in pixels; None: its own, or 128
    views: str = "shaded"  # what it is shown: "shaded" surfaces, or "depth" sums as in I2P-MAE
    num_views: int | None = None  # images of a cloud; None: four of "shaded", three of "depth"

    def __post_init__(self) -> None:
        check_numbers(self, [*self.terms, "temperature"])
        for name in self.terms:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if not any(getattr(self, name) for name in self.terms):
            raise ConfigError(f"one of {', '.join(self.terms)} must be positive: nothing is learnt")
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")
        check_choices(self, ["views"], ("depth", "shaded"))
        check_sizes(self, ["teacher_image_size", "num_views"])
        if not isinstance(self.teacher, str) or not self.teacher:
            raise ConfigError(f"teacher must be a path or a name, got {self.teacher!r}")


class InstanceContrast(nn.Module):
    """Recognises, among all clouds of a batch, the other view of a cloud.

    The NT-Xent loss of SimCLR (Chen et al. 2020, arXiv 2002.05709, Eq. 1) on a projection of one
    feature per view. Beside masked reconstruction it makes features linearly separable much
    sooner, as ReCon found (Qi et al. 2023, arXiv 2302.02318).

    Args:
        dim: channels C of a feature.
        temperature: divides the cosine similarities.
        width: channels of the projection.
    """

    def __init__(self, dim: int, temperature: float = 0.1, width: int = 128) -> None:
        super().__init__()
        self.temperature = temperature
        self.projection = nn.Sequential(
            nn.Linear(dim, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.Linear(2 * width, width),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Loss, a scalar, of ``features (2 B, C)``: rows i and i + B belong to one cloud."""
        projected = self.projection(features)
        partner = torch.arange(len(features), device=features.device).roll(len(features) // 2)
        with full_precision(features):
            z = F.normalize(working(projected), dim=1)
            similarity = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
            return F.cross_entropy(similarity, partner)


class CloudTeacher(nn.Module):
    """What an image encoder sees of whole clouds: its features, pooled over pixels and views.

    Args:
        encoder: it is no part of the module's parameters and weights.
        views: what it is shown.
    """

    def __init__(self, encoder: Teacher, views: Views) -> None:
        super().__init__()
        self.encoder, self.views = encoder, views

    @torch.no_grad()
    def forward(self, points: Tensor, meshes: Sequence[Mesh | None] = ()) -> Tensor:
        """``(B, N, 3) -> float32 (B, D)``; y is up. For ``meshes`` see :meth:`Views.show`."""
        with full_precision(points):
            images = self.views.show(points.float(), self.encoder.image_size, meshes)
        # A feature of a whole cloud needs no more, and it is three times as fast.
        with torch.autocast(points.device.type, torch.bfloat16):
            pooled = self.encoder(images).features.float().mean(dim=(2, 3))
        return pooled.unflatten(0, (self.views.count, -1)).mean(dim=0)


class Distillation(nn.Module):
    """Predicts the teacher's feature of a cloud, every channel in its own scale.

    Args:
        dim: channels C of the tokens.
        channels: D of the teacher.
        width: of the hidden layer.
    """

    def __init__(self, dim: int, channels: int, width: int = 512) -> None:
        super().__init__()
        # Channels of a teacher differ a hundredfold in scale.
        self.scale = nn.BatchNorm1d(channels, eps=1e-6, affine=False)
        self.head = nn.Sequential(nn.Linear(2 * dim, width), nn.GELU(), nn.Linear(width, channels))

    def forward(self, features: Tensor, seen: Tensor) -> Tensor:
        """Loss, a scalar, of ``features (B, 2 C)`` and ``seen (B, D)``."""
        predicted = self.head(features)
        with full_precision(features):
            return F.mse_loss(working(predicted), self.scale(working(seen)))


class ObjectiveTerms(nn.Module):
    """The terms that a config asks for.

    Args:
        dim: channels C of the encoder's tokens.
        config: their weights.
        encoder: of the teacher; None: loaded as the config says.
        of_patches: whether what the teacher sees of patches is among the terms.

    Attributes:
        copies: of a batch, differently augmented, that they want: two with contrast.
        teacher: None without distillation.
        semantics: None if nothing is learnt of patches.
    """

    def __init__(
        self,
        dim: int,
        config: ObjectiveConfig,
        encoder: Teacher | None = None,
        of_patches: bool = True,
    ) -> None:
        super().__init__()
        self.contrast = InstanceContrast(dim, config.temperature) if config.contrast else None
        self.copies = 2 if config.contrast else 1
        self.teacher = self.distillation = self.semantics = None
        of_patches = of_patches and config.semantics > 0
        if config.distillation or of_patches:
            encoder = encoder or load_teacher(
                config.teacher, config.teacher_image_size, left_open=128
            )
            views = make_views(config.views, config.num_views)
            if config.distillation:
                self.teacher = CloudTeacher(encoder, views)
                self.distillation = Distillation(dim, encoder.channels)
            if of_patches:
                self.semantics = PatchSemantics(dim, encoder, views)

    def forward(
        self,
        points: Tensor,
        tokens: Tensor,
        centers: Tensor,
        hidden: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms by name, scalars, before weighting.

        Args:
            points: ``(B, N, 3)``; with contrast, rows i and i + B / 2 are views of one cloud.
            tokens: of their patches, ``(B, G, C)``.
            centers: of these patches, ``(B, G, 3)``.
            hidden: boolean ``(B, G)``, patches that do not count; None: all do.
            seen: what the teacher sees of the clouds, ``(B, D)``; None: it looks at them.
        """
        losses: dict[str, Tensor] = {}
        if self.semantics is not None:
            losses["semantics"] = self.semantics(points, tokens, centers, hidden)
        if self.contrast is None and self.distillation is None:
            return losses
        if hidden is None:
            mean, largest = tokens.mean(dim=1), tokens.amax(dim=1)
        else:
            out, count = hidden.unsqueeze(-1), (~hidden).sum(dim=1, keepdim=True)
            mean = tokens.masked_fill(out, 0.0).sum(dim=1) / count
            largest = tokens.masked_fill(out, -torch.inf).amax(dim=1)
        if self.contrast is not None:
            losses["contrast"] = self.contrast(largest)
        if self.distillation is not None and self.teacher is not None:
            seen = self.teacher(points) if seen is None else seen
            losses["distillation"] = self.distillation(torch.cat([mean, largest], dim=1), seen)
        return losses


class Pretraining(Pretrainable, Network):
    """An encoder that is pre-trained.

    Attributes:
        pretraining_config: settings, weights of the terms among them.
        terms: those beside the paper's objective.
    """

    task = "pretraining"
    pretraining_config: Any
    terms: ObjectiveTerms
    has_own_semantics: ClassVar[bool] = False  # the paper's objective has it

    def add_terms(
        self,
        dim: int,
        config: ObjectiveConfig,
        *own: nn.Module,
        encoder: Teacher | None = None,
    ) -> None:
        """Add the terms beside the paper's objective.

        Args:
            dim: channels C of the encoder's last tokens.
            config: weights.
            own: modules of the paper's objective, which stay as they are if it has no weight.
            encoder: see :class:`ObjectiveTerms`.
        """
        self.terms = ObjectiveTerms(dim, config, encoder, not self.has_own_semantics)
        for module in own:
            module.requires_grad_(config.reconstruction > 0)

    @property
    def copies(self) -> int:
        """Differently augmented copies of a batch that the loss wants, one after the other."""
        return self.terms.copies

    @property
    def leaves_idle(self) -> bool:
        """Whether nothing is rebuilt: then a mask token and its like get no gradient."""
        return not self.pretraining_config.reconstruction

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the terms; those of the paper's own objective have one weight."""
        c = self.pretraining_config
        weights = {name: getattr(c, name) for name in c.terms}
        return sum(weights.get(name, c.reconstruction) * term for name, term in losses.items())
