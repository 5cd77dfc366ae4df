"""One adapter: a method on a frozen model, what it trains, and what is stored of it."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError, check_choices
from pointpeft.models import ModelSpec
from pointpeft.models.heads import Classifier
from pointpeft.models.loadable import Loadable
from pointpeft.models.network import Network
from pointpeft.models.part_segmenters import PartSegmenter
from pointpeft.models.trunk import Tokenized, Trunk
from pointpeft.peft.all_blocks import DiscriminantHead, pooled_widths
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.method import PeftConfig, Tuner
from pointpeft.peft.registry import tuner_class
from pointpeft.peft.sharing import view

if TYPE_CHECKING:
    from pointpeft.data import InputTransform, PartTable

__all__ = ["Adapter"]

# Layers behind the encoder: `head` itself, or those that a segmenter has in its place.
_HEAD = re.compile(r"^model\.(?!backbone\.)(?=\w+\.)")


class Adapter(Loadable):
    """A method on a frozen classification or part-segmentation model.

    It has a view of the model: frozen parameters of the encoder are those of ``base`` itself, all
    that is trained, and all behind the encoder, is its own.

    Args:
        base: the model, frozen; it is left as it is.
        config: settings of the method.
        bank: memory bank, for methods that use one.
        base_hash: identity of the encoder, see :func:`pointpeft.models.state_hash`.

    Attributes:
        model: the view.
        tuner: the method.
        task: name of what it is for; by default that of the model.
        base_checkpoint: where the encoder's weights came from, as a hint for loading: "embedded",
            an absolute path, or one relative to the folder that the adapter is saved in. By default
            what ``create_model`` loaded.
        class_names: names of the classes in the order of the logits, or of the categories in the
            order of their numbers, when known.
        parts: names of the parts in the order of the logits and the parts of each category, as
            plain values, when known.
        input: how clouds were prepared for training, as plain values, when known.
        temperature: that logits are divided by, so that probabilities are as sure as they are
            right on validation shapes; 1 where there were none.
        license: under which the adapter is given away, such as "MIT"; None where it is not stated.
        data_license: of the data that it was trained on, likewise.
        training_features: features of the training shapes by the frozen encoder, where the adapter
            remembers some; they are saved with it, and new shapes are compared with them.
    """

    def __init__(
        self, base: Network, config: PeftConfig, bank: MemoryBank | None, base_hash: str
    ) -> None:
        super().__init__()
        trunk = base.backbone
        self.config = config = config.resolve(trunk)
        self.base_hash = base_hash
        if bank is not None and bank.encoder_hash not in (None, base_hash):
            raise ConfigError(
                "bank was built with another encoder than the model's: load the same checkpoint "
                "into both"
            )
        self.base_checkpoint: str | None = trunk.loaded_from
        self.class_names: tuple[str, ...] | None = None
        self.parts: dict[str, Any] | None = None
        self.input: dict[str, Any] | None = None
        self.temperature = 1.0
        self.license: str | None = None
        self.data_license: str | None = None
        self._remembered: tuple[MemoryBank, ...] = ()  # in a tuple: it is no part of the network

        kind = tuner_class(config)
        extra = [bank] if kind.takes_bank else []
        tuner = kind(base, config, *extra)
        added = tuple(f"backbone.{name}" for name in trunk.optional_state)
        self.model = view(base, lambda name: _is_own(name, tuner, added))
        self.tuner = tuner.to(next(trunk.parameters()).device)
        tuner.attach(self.model)
        self.task: str = base.task
        self._fit_head()
        self._trained = {n for n, _ in self.named_parameters() if tuner.trains(_role(n))}
        self.requires_grad_(False)
        self.ask_gradients(True)

        of_trunk = {id(p) for p in trunk.parameters()}
        self._shared = {name for name, p in self.named_parameters() if id(p) in of_trunk}
        self._base_buffers = {
            f"model.backbone.{name}": buffer.detach().clone().cpu()
            for name, buffer in trunk.named_buffers()
        }

    def ask_gradients(self, on: bool) -> None:
        """Have what this adapter trains receive gradients, or not, while another one is active."""
        for name, parameter in self.named_parameters():
            if name in self._trained:
                parameter.requires_grad_(on)

    def _fit_head(self) -> None:
        """Give a classifier a fresh head where that of the method has other shapes than its own."""
        model, tuner = self.model, self.tuner
        check_choices(self.config, ["head"], self.config.heads)
        if not isinstance(model, Classifier):
            if self.config.head == "lda":
                raise ConfigError(f"head=lda is for classification, not {model.task}")
            return
        on_blocks = self.config.head == "lda"
        widths = pooled_widths(model.backbone)
        model.num_features = sum(widths) if on_blocks else tuner.num_features(model)

        def fresh() -> nn.Module:
            if on_blocks:
                return DiscriminantHead(model.num_features, model.num_classes)
            return tuner.head(model, model.num_classes)

        with torch.device("meta"):  # draws no random numbers
            wanted = fresh()
        if _shapes(wanted) != _shapes(model.head):
            like = next(model.head.parameters())
            model.head = fresh().to(like)

    @property
    def mergeable(self) -> bool:
        """Whether a plain model can compute the same."""
        return self.tuner.mergeable and self.config.head != "lda"

    def forward(
        self,
        points: Tensor | Tokenized,
        query: Tensor | None = None,
        exclude: Tensor | None = None,
        category: Tensor | None = None,
        features: Tensor | Tokenized | None = None,
    ) -> Tensor:
        """Logits, see :meth:`pointpeft.PeftModel.forward`."""
        self._check_category(points, category)
        if features is not None:
            return self._of_features(features, category)
        exclude = exclude if self.training else None
        found = self.model.backbone.tokenize(points)
        with torch.autocast(found.points.device.type, enabled=False):  # retrieval in full precision
            context = {**found.known, **self.tuner.context(found, query, exclude)}
        given = () if category is None else (category,)
        return self.tuner.logits(self.model, found, context, *given)

    def _of_features(self, features: Tensor | Tokenized, category: Tensor | None) -> Tensor:
        """Logits of what the head is given."""
        if isinstance(features, Tensor) and isinstance(self.model, Classifier):
            return self.tuner.entered(self.model)(features)
        if isinstance(self.model, PartSegmenter) and isinstance(features, Tokenized):
            assert category is not None, "checked before"
            return self.model.decode(features, category)
        raise ConfigError(f"`features` are not what the head of a model for {self.task} is given")

    @property
    def core(self) -> Trunk:
        """The encoder, as the adapter sees it."""
        return self.model.backbone

    @property
    def base_spec(self) -> ModelSpec:
        """Architecture of the encoder.

        Raises:
            ConfigError: it was not made by ``create_model``.
        """
        return self.core.spec

    @property
    def classifier(self) -> Classifier:
        """The model, where it has a head.

        Raises:
            ConfigError: it finds parts.
        """
        if not isinstance(self.model, Classifier):
            raise ConfigError(f"a model for {self.task} has no head")
        return self.model

    @property
    def keeps_tokenizer(self) -> bool:
        """Whether clouds are tokenized as by the frozen encoder, so that adapters may share it."""
        moves = not self.tuner.freezes_statistics  # of norms, in the tokenizer too
        return not moves and not any(".tokenizer" in name for name in self._trained)

    def _check_category(self, points: Tensor | Tokenized, category: Tensor | None) -> None:
        if not isinstance(self.model, PartSegmenter):
            if category is not None:
                raise ConfigError("`category` is for part segmentation: leave it out")
            return
        count = self.model.num_categories
        if category is None or category.shape != (len(points),):
            raise ConfigError("`category` must be (B,), a category's number for each cloud")
        if not bool(((category >= 0) & (category < count)).all()):
            raise ConfigError(f"`category` must be numbers from 0 to {count - 1}")

    def train(self, mode: bool = True) -> "Adapter":
        """Train mode for what is trained; frozen modules stay in eval mode."""
        super().train(mode)
        if mode and self.tuner.freezes_statistics:
            _freeze_modes(self)
        return self

    @property
    def sizes(self) -> dict[str, int | None]:
        """Numbers of classes and parts from which the model can be built around its encoder.

        A part-segmentation model has ``num_classes`` categories; "num_parts" is None otherwise.
        """
        if isinstance(self.model, PartSegmenter):
            return {"num_classes": self.model.num_categories, "num_parts": self.model.num_parts}
        return {"num_classes": self.classifier.num_classes, "num_parts": None}

    @property
    def bank(self) -> MemoryBank | None:
        """The memory bank, for methods that use one."""
        return self.tuner.bank

    @property
    def training_features(self) -> MemoryBank | None:
        """What is remembered of the training shapes."""
        return self._remembered[0] if self._remembered else None

    def remember(self, known: MemoryBank | None) -> None:
        """Have :attr:`training_features`, see :mod:`pointpeft.peft.training_features`, or none."""
        self._remembered = () if known is None else (known,)

    def count_parameters(self) -> dict[str, int]:
        """Numbers of parameters: "total", "trainable", and both "_without_head"."""
        counts = dict.fromkeys(
            ("total", "trainable", "total_without_head", "trainable_without_head"), 0
        )
        for name, parameter in self.named_parameters():
            if self.tuner.is_rebuilt(name):
                continue
            for kind, counted in (("total", True), ("trainable", name in self._trained)):
                counts[kind] += counted * parameter.numel()
                if not _HEAD.match(name):
                    counts[f"{kind}_without_head"] += counted * parameter.numel()
        return counts

    def stored_state(self) -> dict[str, Tensor]:
        """What is stored: everything that the frozen encoder does not already hold.

        Trained tensors, class token and head, buffers that moved, and the bank.
        """
        own = self.own_state()
        return {name: tensor for name, tensor in own.items() if not self._unmoved(name, tensor)}

    def own_state(self) -> dict[str, Tensor]:
        """All tensors that are not the frozen encoder's: those stored, and buffers at rest.

        One that several layers share is there once, by its first name.
        """
        own = {
            name: tensor
            for name, tensor in self.state_dict().items()
            if name not in self._shared and not self.tuner.is_rebuilt(name)
        }
        first = {_place(tensor): name for name, tensor in reversed(own.items())}
        return {name: tensor for name, tensor in own.items() if first[_place(tensor)] == name}

    def wrong_entries(self, state: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """What keeps ``state`` from being the stored state of this adapter, by kind.

        A stored state may lack buffers of the encoder: they are stored if they moved.
        """
        own, needed = self.state_dict(), set(self.stored_state())
        return {
            "missing": sorted(needed - self._base_buffers.keys() - state.keys()),
            "surplus": sorted(state.keys() - needed - self._base_buffers.keys()),
            "of wrong shape": [
                f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
                for name, tensor in sorted(state.items())
                if name in own and tensor.shape != own[name].shape
            ],
        }

    def describe(
        self,
        class_names: Sequence[str] | None = None,
        input_transform: "InputTransform | None" = None,
        parts: "PartTable | None" = None,
    ) -> None:
        """Note what is needed to use the model, see :meth:`pointpeft.PeftModel.save_pretrained`.

        Raises:
            ConfigError: as there.
        """
        if parts is not None:
            class_names = tuple(parts.categories) if class_names is None else class_names
            self._check_parts(parts, class_names)
        names = self.class_names
        if class_names is not None:
            names = self._checked_names(class_names)
        elif names is not None and self.task == "classification":  # they may be set from outside
            names = self._checked_names(names)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature must be a positive number, got {self.temperature!r}")
        if input_transform is not None:
            if not hasattr(input_transform, "to_dict"):
                raise ConfigError(
                    f"input_transform: expected an InputTransform, got {input_transform!r}"
                )
            self.input = {**(self.input or {}), "transform": input_transform.to_dict()}
        self.class_names = names
        if parts is not None:
            self.parts = parts.to_dict()

    def _check_parts(self, parts: "PartTable", class_names: Sequence[str]) -> None:
        count = self.sizes["num_parts"]
        if len(parts.names) != count:
            raise ConfigError(
                f"parts: {len(parts.names)} are named, the model has {count or 'none'}"
            )
        if tuple(class_names) != tuple(parts.categories):
            raise ConfigError(
                f"parts: they are of {', '.join(parts.categories)}, class_names are "
                f"{', '.join(class_names)}; the same categories are needed in the same order"
            )

    def _checked_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        count = self.sizes["num_classes"]
        if isinstance(class_names, str) or not isinstance(class_names, Sequence | np.ndarray):
            raise ConfigError(
                "class_names: expected names in the order of the logits, such as a list, got "
                f"{class_names!r}"
            )
        names = tuple(map(str, class_names))
        if len(names) != count:
            raise ConfigError(
                f"class_names: the model has {count} classes, but {len(names)} names were given"
            )
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ConfigError(f"class_names: {', '.join(twice)} occurs more than once")
        return names

    def _unmoved(self, name: str, tensor: Tensor) -> bool:
        return name in self._base_buffers and torch.equal(tensor.cpu(), self._base_buffers[name])


def _place(tensor: Tensor) -> tuple[object, ...]:
    """What two names of one tensor have in common, and no two tensors."""
    storage = tensor.untyped_storage()._cdata
    return storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _is_own(name: str, tuner: Tuner, added: tuple[str, ...]) -> bool:
    """Whether an adapter has a parameter of the model for itself.

    These are the ones that it trains, all behind the encoder, and what the model has ``added`` to
    the encoder because it needs it.
    """
    in_encoder = name.startswith("backbone.") and not name.startswith(added)
    return not in_encoder or tuner.trains(_role(f"model.{name}"))


def _role(name: str) -> str:
    """What methods know a parameter as: the layers of a segmenter are in ``model.head`` to them."""
    return _HEAD.sub("model.head.", name)


def _freeze_modes(module: nn.Module) -> None:
    """Put every module whose parameters are all frozen into eval mode, its layers included."""
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        module.eval()
        return
    for child in module.children():
        _freeze_modes(child)
