"""A model with a tuning method attached: training rules, counting, and what is stored."""

from typing import Any

import torch
from torch import Tensor, nn

from pointpeft.errors import ConfigError
from pointpeft.models import ModelSpec, state_hash
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.base import PeftConfig, tuner_class

__all__ = ["PeftModel", "get_peft_model"]

# The frozen twin of the encoder is rebuilt from the base model, never stored or counted.
_REBUILT = "tuner.retriever."


class PeftModel(nn.Module):
    """A classification model under a tuning method; made by :func:`get_peft_model`.

    Attributes:
        model: the classification model, changed in place by the method.
        config: settings of the method.
        base_spec: architecture of the encoder before the method was attached.
        base_hash: its identity, see :func:`pointpeft.models.state_hash`.
        base_checkpoint: where the encoder's weights came from, as a hint for loading.
        class_names: names of the classes in the order of the logits, when known.
        input: how clouds were prepared for training, as plain values, when known.
    """

    def __init__(self, model: Any, config: PeftConfig, bank: MemoryBank | None = None) -> None:
        super().__init__()
        if not hasattr(model, "backbone") or not hasattr(model, "head"):
            raise ConfigError(
                "model must be a classification model: create_model(..., num_classes=...)"
            )
        self.config = config
        self.base_spec: ModelSpec = model.backbone.spec
        self.base_hash = state_hash(model.backbone)
        if bank is not None and bank.encoder_hash not in (None, self.base_hash):
            raise ConfigError(
                "bank was built with another encoder than the model's: load the same checkpoint "
                "into both, and build the bank before a method is attached"
            )
        self.base_checkpoint: str | None = None
        self.class_names: tuple[str, ...] | None = None
        self.input: dict[str, Any] | None = None
        base_parameters = {id(p) for p in model.backbone.parameters()}
        base_buffers = {id(b) for b in model.backbone.buffers()}

        self.model = model
        self.tuner = tuner_class(config.method)(model, config, bank)
        model.backbone.adapted_by = config
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.tuner.trains(name))
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

    def forward(
        self, points: Tensor, query: Tensor | None = None, exclude: Tensor | None = None
    ) -> Tensor:
        """Logits ``(B, classes)`` of ``points (B, N, 3)``.

        Args:
            points: clouds prepared like the training data.
            query: retrieval features ``(B, C)`` of the same clouds; computed by the frozen,
                un-adapted encoder when absent and needed.
            exclude: ``(B,)`` bank position of each cloud itself, -1 for none; used in training
                by methods that leave the item itself out of its own retrieval.
        """
        exclude = exclude if self.training else None
        with torch.autocast(points.device.type, enabled=False):  # retrieval in full precision
            context = self.tuner.context(points, query, exclude)
        return self.model(points, context=context)

    def train(self, mode: bool = True) -> "PeftModel":
        """Train mode for what is trained; frozen modules stay in eval mode."""
        super().train(mode)
        if mode and self.tuner.freezes_statistics:
            _freeze_modes(self)
        return self

    @property
    def bank(self) -> MemoryBank | None:
        """The memory bank, for methods that use one."""
        return getattr(self.tuner, "bank", None)

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
                if not name.startswith("model.head."):
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

    def save_pretrained(self, folder: Any) -> None:
        """Write the adapter folder; see :func:`pointpeft.peft.saving.save_adapter`."""
        from pointpeft.peft.saving import save_adapter

        save_adapter(self, folder)

    def _unmoved(self, name: str, tensor: Tensor) -> bool:
        return name in self._base_buffers and torch.equal(tensor.cpu(), self._base_buffers[name])


def get_peft_model(model: Any, config: PeftConfig, bank: MemoryBank | None = None) -> PeftModel:
    """Attach a tuning method to a classification model, in place.

    Args:
        model: made by ``create_model(..., num_classes=...)``, weights already loaded.
        config: settings of the method, for instance ``PointPeftConfig(num_prompts=10)``.
        bank: memory bank built from the same encoder, for methods that use one; without it
            Point-PEFT learns its prompts alone.

    Returns:
        The model with its unfrozen parameters chosen; train it like any module.

    Raises:
        ConfigError: ``model`` is no classification model or already carries a method.
    """
    encoder = getattr(getattr(model, "model", model), "backbone", None)
    carried = getattr(encoder, "adapted_by", None)
    if carried is not None:
        raise ConfigError(
            f"model already carries the method {carried.method!r}; create a fresh model"
        )
    return PeftModel(model, config, bank)


def _freeze_modes(module: nn.Module) -> None:
    """Put every module whose parameters are all frozen into eval mode, its layers included."""
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        module.eval()
        return
    for child in module.children():
        _freeze_modes(child)
