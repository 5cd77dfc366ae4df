"""A model with a tuning method attached: training rules, counting, and what is stored."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError
from pointpeft.models import ModelSpec, state_hash
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.base import PeftConfig, tuner_class
from pointpeft.peft.saving import save_adapter

if TYPE_CHECKING:
    from pointpeft.data import InputTransform, PartTable

__all__ = ["PeftModel", "get_peft_model"]

# The frozen twin of the encoder is rebuilt from the base model, never stored or counted.
_REBUILT = "tuner.retriever."
# Layers behind the encoder: `head` itself, or those that a segmenter has in its place.
_HEAD = re.compile(r"^model\.(?!backbone\.)(?=\w+\.)")


class PeftModel(nn.Module):
    """A classification or part-segmentation model under a method; see :func:`get_peft_model`.

    Attributes:
        model: the model, changed in place by the method.
        config: settings of the method.
        base_spec: architecture of the encoder before the method was attached.
        base_hash: its identity, see :func:`pointpeft.models.state_hash`.
        base_checkpoint: where the encoder's weights came from, as a hint for loading: "embedded",
            an absolute path, or one relative to the folder that the adapter is saved in. By default
            what ``create_model`` loaded.
        class_names: names of the classes in the order of the logits, or of the categories in the
            order of their numbers, when known.
        parts: names of the parts in the order of the logits and the parts of each category, as
            plain values, when known.
        input: how clouds were prepared for training, as plain values, when known.
    """

    def __init__(self, model: Any, config: PeftConfig, bank: MemoryBank | None = None) -> None:
        super().__init__()
        if getattr(model, "task", None) not in ("classification", "part_segmentation"):
            raise ConfigError(
                "model must be a classification or part-segmentation model: "
                "create_model(..., num_classes=...) or create_model(..., num_parts=...)"
            )
        self.config = config = config.resolve(model.backbone)
        self.base_spec: ModelSpec = model.backbone.spec
        self.base_hash = state_hash(model.backbone)
        if bank is not None and bank.encoder_hash not in (None, self.base_hash):
            raise ConfigError(
                "bank was built with another encoder than the model's: load the same checkpoint "
                "into both, and build the bank before a method is attached"
            )
        self.base_checkpoint: str | None = getattr(model.backbone, "loaded_from", None)
        self.class_names: tuple[str, ...] | None = None
        self.parts: dict[str, Any] | None = None
        self.input: dict[str, Any] | None = None
        added = _may_lack(model.backbone)  # by what this model needs: stored, frozen or not
        base_parameters = {
            id(p) for name, p in model.backbone.named_parameters() if not name.startswith(added)
        }
        base_buffers = {id(b) for b in model.backbone.buffers()}

        self.model = model
        self.tuner = tuner_class(config.method)(model, config, bank)
        self._fit_head()
        model.backbone.adapted_by = config
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.tuner.trains(_role(name)))
        self._base_frozen = {
            name
            for name, parameter in self.named_parameters()
            if id(parameter) in base_parameters and not parameter.requires_grad
        }
        self._base_buffers = {
            name: buffer.detach().clone().cpu()
            for name, buffer in self.named_buffers()
            if id(buffer) in base_buffers
        }
        self.train(model.training)

    def _fit_head(self) -> None:
        """Give a classifier a fresh head where the method pools other channels than its own."""
        if self.task == "classification":
            features = self.tuner.num_features(self.model)
            if features != self.model.num_features:
                like = next(self.model.head.parameters())
                self.model.num_features = features
                self.model.reset_classifier(self.model.num_classes)
                self.model.head.to(like)

    def forward(
        self,
        points: Tensor,
        query: Tensor | None = None,
        exclude: Tensor | None = None,
        category: Tensor | None = None,
    ) -> Tensor:
        """Logits ``(B, classes)`` of ``points (B, N, 3)``, or part logits ``(B, N, parts)``.

        Args:
            points: clouds prepared like the training data.
            query: retrieval features ``(B, C)`` of the same clouds; computed by the frozen,
                un-adapted encoder when absent and needed.
            exclude: ``(B,)`` bank position of each cloud itself, -1 for none; used in training
                by methods that leave the item itself out of its own retrieval.
            category: numbers of the clouds' categories ``(B,)``, for part segmentation alone.
        """
        exclude = exclude if self.training else None
        with torch.autocast(points.device.type, enabled=False):  # retrieval in full precision
            context = self.tuner.context(points, query, exclude)
        if category is None:
            return self.model(points, self.tuner, context)
        return self.model(points, category, self.tuner, context)

    def train(self, mode: bool = True) -> "PeftModel":
        """Train mode for what is trained; frozen modules stay in eval mode."""
        super().train(mode)
        if mode and self.tuner.freezes_statistics:
            _freeze_modes(self)
        return self

    @property
    def task(self) -> str:
        """That of the model: "classification" or "part_segmentation"."""
        return self.model.task

    @property
    def sizes(self) -> dict[str, int | None]:
        """Numbers of classes and parts from which the model can be built around its encoder.

        A part-segmentation model has ``num_classes`` categories; "num_parts" is None otherwise.
        """
        if self.task == "part_segmentation":
            return {"num_classes": self.model.num_categories, "num_parts": self.model.num_parts}
        return {"num_classes": self.model.num_classes, "num_parts": None}

    @property
    def bank(self) -> MemoryBank | None:
        """The memory bank, for methods that use one."""
        return getattr(self.tuner, "bank", None)

    def set_bank(self, bank: MemoryBank, encoder: Any) -> None:
        """Give a model that was made without one, as of a published file, its memory bank.

        Args:
            bank: for instance ``MemoryBank.import_published(path)``.
            encoder: the frozen encoder that made the bank; it makes the queries.

        Raises:
            ConfigError: the method has no use for a bank, or the bank does not fit.
        """
        self.tuner.set_bank(bank, encoder)

    def count_parameters(self) -> dict[str, int]:
        """Numbers of parameters: "total", "trainable", and both "_without_head"."""
        counts = dict.fromkeys(
            ("total", "trainable", "total_without_head", "trainable_without_head"), 0
        )
        for name, parameter in self.named_parameters():
            if name.startswith(_REBUILT):
                continue
            for kind, counted in (("total", True), ("trainable", parameter.requires_grad)):
                counts[kind] += counted * parameter.numel()
                if not _HEAD.match(name):
                    counts[f"{kind}_without_head"] += counted * parameter.numel()
        return counts

    def print_trainable_parameters(self) -> None:
        """Print how much is trained, with and without the head."""
        c = self.count_parameters()
        print(
            f"trainable parameters: {c['trainable']:,} of {c['total']:,} "
            f"({100 * c['trainable'] / c['total']:.2f} %); "
            f"without the head: {c['trainable_without_head']:,}"
        )

    def adapter_state(self) -> dict[str, Tensor]:
        """What an adapter stores: everything that the base encoder does not already hold.

        Trained tensors, class token and head, buffers that moved, and the bank.
        """
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith(_REBUILT)
            and name not in self._base_frozen
            and not self._unmoved(name, tensor)
        }

    def optional_names(self) -> set[str]:
        """Names that an adapter may lack: buffers of the base encoder, stored if they moved."""
        return set(self._base_buffers)

    def save_pretrained(
        self,
        folder: str | Path,
        class_names: Sequence[str] | None = None,
        input_transform: "InputTransform | None" = None,
        parts: "PartTable | None" = None,
    ) -> None:
        """Write the adapter folder; see :func:`pointpeft.peft.saving.save_adapter`.

        With names and input transform, :class:`pointpeft.Predictor` and the command line can use
        the folder as it is.

        Args:
            folder: an adapter there is replaced in one step.
            class_names: names of the classes in the order of the logits, or of the categories.
                None: :attr:`class_names`.
            input_transform: how clouds were prepared, for instance
                ``InputTransform(num_points=1024, normalize="unit_ball", up_axis="y")``, or the
                ``transform`` of what :func:`pointpeft.load_shapes` returned. None: as in
                :attr:`input`.
            parts: names and categories of the parts, for part segmentation, which also name the
                categories. None: :attr:`parts`.

        Raises:
            ConfigError: there are more or fewer names than classes or parts, or a name occurs
                twice.

        Example:
            >>> model.save_pretrained("my_adapter", data.class_names, data.transform)
        """
        self.describe(class_names, input_transform, parts)
        save_adapter(self, folder)

    def describe(
        self,
        class_names: Sequence[str] | None = None,
        input_transform: "InputTransform | None" = None,
        parts: "PartTable | None" = None,
    ) -> None:
        """Note what is needed to use the model; arguments are those of :meth:`save_pretrained`.

        Raises:
            ConfigError: as there.
        """
        if parts is not None:
            class_names = tuple(parts.categories) if class_names is None else class_names
            self._check_parts(parts, class_names)
        if class_names is not None:
            self.class_names = self._checked_names(class_names)
        if input_transform is not None:
            self.input = {**(self.input or {}), "transform": input_transform.to_dict()}
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
        names, count = tuple(map(str, class_names)), self.sizes["num_classes"]
        if len(names) != count or isinstance(class_names, str):
            raise ConfigError(
                f"class_names: the model has {count} classes, but {len(names)} names were given"
            )
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ConfigError(f"class_names: {', '.join(twice)} occurs more than once")
        return names

    def _unmoved(self, name: str, tensor: Tensor) -> bool:
        return name in self._base_buffers and torch.equal(tensor.cpu(), self._base_buffers[name])


def get_peft_model(model: Any, config: PeftConfig, bank: MemoryBank | None = None) -> PeftModel:
    """Attach a tuning method to a classification or part-segmentation model, in place.

    Args:
        model: made by ``create_model`` with ``num_classes=...`` or ``num_parts=...``, weights
            already loaded.
        config: settings of the method, for instance ``PointPeftConfig(num_prompts=10)``.
        bank: memory bank built from the same encoder, for methods that use one; without it
            Point-PEFT learns its prompts alone.

    Returns:
        The model with its unfrozen parameters chosen; train it like any module.

    Raises:
        ConfigError: ``model`` is for another task or already carries a method.
    """
    encoder = getattr(getattr(model, "model", model), "backbone", None)
    carried = getattr(encoder, "adapted_by", None)
    if carried is not None:
        raise ConfigError(
            f"model already carries the method {carried.method!r}; create a fresh model"
        )
    return PeftModel(model, config, bank)


def _role(name: str) -> str:
    """What methods know a parameter as: the layers of a segmenter are in ``model.head`` to them."""
    return _HEAD.sub("model.head.", name)


def _may_lack(backbone: Any) -> tuple[str, ...]:
    """Prefixes of entries that an encoder has in some models and lacks in others."""
    return tuple(getattr(backbone, "optional_state", ()))


def _freeze_modes(module: nn.Module) -> None:
    """Put every module whose parameters are all frozen into eval mode, its layers included."""
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        module.eval()
        return
    for child in module.children():
        _freeze_modes(child)
