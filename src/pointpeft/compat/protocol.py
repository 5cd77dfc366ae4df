"""What the published protocol settles in the config of a run."""

from dataclasses import replace
from typing import Any, TypeVar

from pointpeft.models import get_entry
from pointpeft.peft import find_method
from pointpeft.training.config import FinetuneConfig, PretrainConfig

__all__ = ["as_published"]

Run = TypeVar("Run", FinetuneConfig, PretrainConfig)


def as_published(config: Run) -> Run:
    """A config under ``protocol="published"`` as the published code would run it.

    Rates and decay follow the published rule, and what has a ``reference_compat`` of its own,
    Point-PEFT and most pre-training, is computed as published, faults included. A
    ``peft.reference_compat`` or ``pretraining.reference_compat`` that is stated stays. Honest
    configs are returned as they are.

    Args:
        config: of a fine-tuning run, its method chosen, or of a pre-training run.

    Raises:
        ConfigError: the model or the method is unknown.
    """
    if config.protocol != "published":
        return config
    config = replace(config, optimizer=replace(config.optimizer, rule="published"))
    if isinstance(config, PretrainConfig):
        objective = get_entry(config.model).pretraining_config
        config.pretraining = _with_faults(config.pretraining, objective)
    else:
        assert config.method is not None, "chosen by whoever knows the task"
        config.peft = _with_faults(config.peft, find_method(config.method))
    return config


def _with_faults(stated: dict[str, Any], settings: Any) -> dict[str, Any]:
    """Settings with the faults of the published code, where it has some, unless stated."""
    return {"reference_compat": True, **stated} if hasattr(settings, "reference_compat") else stated
