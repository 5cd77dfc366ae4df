"""From a model to a graph of tensors alone, with any number of clouds."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError
from pointpeft.models.network import Network
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.tokenizer import Patches, group_patches
from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.peft import PeftModel
from pointpeft.peft.adapter import Adapter

__all__ = ["Exportable", "trace"]

_CLOUDS = 3
"""Clouds of the example that a graph is traced with: not 1, which is taken for a constant."""
_OUTPUTS = {"classification": "probabilities", "part_segmentation": "logits"}
"""Of each task; of an encoder alone it is "features"."""
_SAME = 1e-4
"""Largest difference between outputs that mean the same."""


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
        ConfigError: the model is none of these, or its adapter is for another task.
    """

    def __init__(self, model: Trunk | Network | PeftModel, outside: bool = False) -> None:
        super().__init__()
        adapter = copy.deepcopy(model.adapter) if isinstance(model, PeftModel) else None
        network: nn.Module | None = adapter
        self.merged = False
        if not isinstance(model, PeftModel):
            network = copy.deepcopy(model)
        elif model.adapter.mergeable:
            with contextlib.suppress(ConfigError):  # some layers of peft cannot be: they stay
                network, self.merged = model.merge_adapter(), True
        if not isinstance(network, Trunk | Network | Adapter):
            raise ConfigError("`what` must be made by create_model: an encoder, or a model on one")
        self._network = network  # all that is written, each weight once
        self._adapter = () if adapter is None else (adapter,)  # no sub-module: it is looked at
        self.task: str = self.model.task if adapter is None else adapter.task
        if adapter is not None and self.task not in _OUTPUTS:
            raise ConfigError(
                f"the adapter is for {self.task}: {' and '.join(_OUTPUTS)} can be exported, and "
                "features of a backbone"
            )
        trained = ((adapter and adapter.input) or {}).get("transform", {})
        self.num_points: int = trained.get("num_points", self.trunk.spec.num_points)
        self.outside = outside
        self.eval().requires_grad_(False)

    @property
    def adapter(self) -> Adapter | None:
        """See the class."""
        return next(iter(self._adapter), None)

    @property
    def model(self) -> Trunk | Network:
        """What the adapter is merged into, or acts on."""
        return self._network.model if isinstance(self._network, Adapter) else self._network

    @property
    def trunk(self) -> Trunk:
        """See the class."""
        core = self.model.core
        assert isinstance(core, Trunk)
        return core

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
        return _OUTPUTS.get(self.task, "features")

    def forward(self, *given: Tensor) -> Tensor:
        """What :attr:`inputs` names -> what :attr:`output` names."""
        return self.run(dict(zip(self.inputs, given, strict=True)))

    def run(self, given: Mapping[str, Tensor]) -> Tensor:
        """The same of inputs by their names: of clouds, or of those cut into patches."""
        found = self._tokenize(given)
        category = (given["category"],) if "category" in given else ()
        if self.output == "features":
            return self.trunk.retrieval_features(found)
        logits = self._logits(found, *category)
        if self.output == "logits":
            return logits
        temperature = 1.0 if self.adapter is None else self.adapter.temperature
        return (logits.float() / temperature).softmax(dim=-1)

    def example(self, clouds: int = _CLOUDS, seed: int = 0) -> tuple[Tensor, ...]:
        """Random clouds, as :attr:`inputs` wants them."""
        known = self.named_example(clouds, seed)
        return tuple(known[name] for name in self.inputs)

    def named_example(self, clouds: int = _CLOUDS, seed: int = 0) -> dict[str, Tensor]:
        """Random clouds on unit spheres, whole and cut into patches, by the names of inputs."""
        generator = torch.Generator().manual_seed(seed)
        shape = (clouds, self.num_points, 3)
        points = torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
        finest, c = self.trunk.scales[0], self.trunk.config
        patches = group_patches(points, finest.num_groups, finest.group_size, c.skip_near_origin)
        known = {"points": points, **patches._asdict()}
        if isinstance(self.model, PartSegmenter):
            known["category"] = torch.arange(clouds) % self.model.num_categories
        return known

    def _logits(self, found: Tokenized, *category: Tensor) -> Tensor:
        if self.adapter is None or self.merged:
            return self.model(found, *category)
        tuner = self.adapter.tuner
        return tuner.logits(self.adapter.model, found, tuner.context(found, None, None), *category)

    def _tokenize(self, given: Mapping[str, Tensor]) -> Tokenized:
        if "neighborhoods" not in given:
            return self.trunk.tokenize(given["points"])
        centers = given["centers"]
        # Who looks at points that did not come along gets no number, see _check_patches.
        unknown = centers.new_full((centers.shape[0], self.num_points, 3), torch.nan)
        points = given.get("points", unknown)
        return self.trunk.tokenize_patches(points, given["neighborhoods"], centers)


def trace(model: Exportable) -> torch.export.ExportedProgram:
    """The graph of a model, for any number of clouds.

    Raises:
        ConfigError: Python code of the model, such as that of a method of your own, depends on
            values; or patches come from outside, and it looks at the points beside them.
    """
    example = model.example()
    clouds = torch.export.Dim("clouds", min=1)
    shapes = tuple({0: clouds} for _ in example)
    try:
        with torch.no_grad():
            if model.outside:
                _check_patches(model)
            model(*example)  # an adapter that is not fitted says so
            with silent():
                return torch.export.export(model, example, dynamic_shapes=(shapes,), strict=False)
    except ConfigError:
        raise
    except Exception as error:  # whatever a tracer gives
        raise ConfigError(f"{described(model)} cannot be traced: {first_line(error)}") from error


def _check_patches(model: Exportable) -> None:
    """Refuse a model that gives something else of patches than of the clouds they were cut from."""
    given = model.named_example()
    whole = {name: value for name, value in given.items() if name not in Patches._fields}
    expected = model.run(whole)
    try:
        found = model(*model.example())
    except ValueError:  # points that did not come along are no numbers
        found = expected.new_full((), torch.nan)
    if not torch.allclose(found, expected, rtol=_SAME, atol=_SAME):
        raise ConfigError(
            f"`sampling` outside: {described(model)} looks at the points beside their patches, so "
            "they must be inside: leave `sampling` out"
        )


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
