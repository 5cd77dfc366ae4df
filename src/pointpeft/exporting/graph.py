"""From a model to a graph of tensors alone, with any number of clouds."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError
from pointpeft.models.hierarchy import Level
from pointpeft.models.network import Network
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.point_m2ae import PointM2AE, TokenizedScales
from pointpeft.models.tokenizer import group_patches
from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.ops import group_points
from pointpeft.peft import PeftModel
from pointpeft.peft.adapter import Adapter

__all__ = ["Exportable", "trace"]

_CLOUDS = 3
"""Clouds of the example that a graph is traced with: not 1, which is taken for a constant."""


class Exportable(nn.Module):
    """A model as a function of tensors.

    An adapter is merged into the weights where its method can be, and built in where not; so is
    the temperature that its probabilities are calibrated by.

    Args:
        model: an encoder, a classification or part-segmentation model, or a :class:`PeftModel`,
            whose active adapter counts. It is left as it is.
        outside: whether clouds come cut into patches.

    Attributes:
        inputs: names of what :meth:`forward` takes, in its order.
        output: what it gives: "features" ``(B, C)``, "probabilities" ``(B, classes)``, or
            "logits" ``(B, N, parts)``.
        trunk: the encoder.
        num_points: points of a cloud: as many as the adapter was trained on, else the usual ones.
        adapter: the adapter; None without one.

    Raises:
        ConfigError: the model is none of these, or its method looks at the points again.
    """

    def __init__(self, model: Trunk | Network | PeftModel, outside: bool = False) -> None:
        super().__init__()
        self.adapter: Adapter | None = None
        self.merged = False
        self.model: Trunk | Network
        if isinstance(model, PeftModel):
            self.adapter = copy.deepcopy(model.adapter)
            self.merged = self.adapter.tuner.mergeable
            self.model = model.merge_adapter() if self.merged else self.adapter.model
        else:
            self.model = copy.deepcopy(model)
        if not isinstance(self.model, Trunk | Network):
            raise ConfigError("`what` must be made by create_model: an encoder, or a model on one")
        self.trunk = self.model.core
        self.task: str = self.model.task
        trained = ((self.adapter and self.adapter.input) or {}).get("transform", {})
        self.num_points: int = trained.get("num_points", self.trunk.spec.num_points)
        self.outside = outside
        if outside and self.method is not None:
            self._check_outside()
        self.eval().requires_grad_(False)

    @property
    def method(self) -> str | None:
        """Name of the method that is built in or merged."""
        return self.adapter.config.method if self.adapter is not None else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """See the class."""
        parts = self.task == "part_segmentation"
        patches = ("neighborhoods", "centers") if self.outside else ()
        points = ("points",) if parts or not self.outside else ()
        return (*points, *patches, *(("category",) if parts else ()))

    @property
    def output(self) -> str:
        """See the class."""
        names = {"classification": "probabilities", "part_segmentation": "logits"}
        return names.get(self.task, "features")

    def forward(self, *given: Tensor) -> Tensor:
        """What :attr:`inputs` names -> what :attr:`output` names."""
        named = dict(zip(self.inputs, given, strict=True))
        found = self._tokenize(named)
        category = (named["category"],) if "category" in named else ()
        if self.output == "features":
            return self.trunk.retrieval_features(found)
        logits = self._logits(found, *category)
        if self.output == "logits":
            return logits
        temperature = 1.0 if self.adapter is None else self.adapter.temperature
        return (logits.float() / temperature).softmax(dim=-1)

    def example(self, clouds: int = _CLOUDS, seed: int = 0) -> tuple[Tensor, ...]:
        """Random clouds on unit spheres, as :attr:`inputs` wants them."""
        generator = torch.Generator().manual_seed(seed)
        shape = (clouds, self.num_points, 3)
        points = torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
        finest, c = self.trunk.scales[0], self.trunk.config
        patches = group_patches(points, finest.num_groups, finest.group_size, c.skip_near_origin)
        known = {"points": points, **patches._asdict()}
        if isinstance(self.model, PartSegmenter):
            known["category"] = torch.arange(clouds) % self.model.num_categories
        return tuple(known[name] for name in self.inputs)

    def _logits(self, found: Tokenized, *category: Tensor) -> Tensor:
        if self.adapter is None or self.merged:
            return self.model(found, *category)
        tuner = self.adapter.tuner
        return tuner.logits(self.adapter.model, found, tuner.context(found, None, None), *category)

    def _tokenize(self, named: dict[str, Tensor]) -> Tokenized:
        if not self.outside:
            return self.trunk.tokenize(named["points"])
        centers = named["centers"]
        points = named.get("points", centers)
        trunk: Any = self.trunk
        if not isinstance(trunk, PointM2AE):
            tokens = trunk.tokenizer.project(trunk.tokenizer.embed(named["neighborhoods"]))
            return Tokenized(points, centers, tokens)
        # Members of the finest patches are known by their coordinates: nothing looks them up.
        unknown = torch.zeros(named["neighborhoods"].shape[:3], dtype=torch.int64)
        levels = [Level(named["neighborhoods"], centers, unknown)]
        for scale in trunk.scales[1:]:
            coarser = levels[-1].centers[:, : scale.num_groups]
            levels.append(
                Level(*_swap(group_points(levels[-1].centers, coarser, scale.group_size), coarser))
            )
        return TokenizedScales(points, centers, trunk.tokenizers[0](levels[0]), levels)

    def _check_outside(self) -> None:
        assert self.adapter is not None, "asked for where there is one"
        config: Any = self.adapter.config
        again = getattr(config, "query_grouping", None) or getattr(
            config, "reference_compat", False
        )
        if again and self.method == "point-peft":
            raise ConfigError(
                "`sampling` outside: point-peft with reference_compat or query_grouping cuts the "
                "points a second time, so they must be inside: leave `sampling` out"
            )


def _swap(found: tuple[Tensor, Tensor], centers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What :class:`Level` holds, of what ``group_points`` gives."""
    neighborhoods, indices = found
    return neighborhoods, centers, indices


def trace(model: Exportable) -> torch.export.ExportedProgram:
    """The graph of a model, for any number of clouds.

    Raises:
        ConfigError: Python code of the model, such as that of a method of your own, depends on
            values.
    """
    example: Sequence[Tensor] = model.example()
    clouds = torch.export.Dim("clouds", min=1)
    shapes = tuple({0: clouds} for _ in example)
    try:
        with torch.no_grad():
            model(*example)  # an adapter that is not fitted says so
            return torch.export.export(
                model, tuple(example), dynamic_shapes=(shapes,), strict=False
            )
    except ConfigError:
        raise
    except Exception as error:  # whatever a tracer gives
        raise ConfigError(f"{described(model)} cannot be traced: {first_line(error)}") from error


def described(model: Exportable) -> str:
    """A model as messages name it."""
    method = f" with method {model.method}" if model.method else ""
    return f"{model.trunk.spec.name}{method} for {model.task}"


def first_line(error: BaseException) -> str:
    """The beginning of the message of what was wrong at first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep to itself what exporters say of their own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
