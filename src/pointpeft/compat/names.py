"""Values of settings that ask for what published code does; light, for every command reads them."""

from typing import Any

__all__ = ["PROTOCOLS", "PUBLISHED", "RULES", "extra_epochs"]

PUBLISHED = "published"
PROTOCOLS = ("honest", PUBLISHED)
"""How models are selected and measured: on a validation split, or as the papers' code did."""
RULES = ("default", PUBLISHED)
"""Schedules of the learning rate, and which parameters are decayed."""


def extra_epochs(config: Any) -> int:
    """Epochs beyond ``trainer.epochs``: published loops run one, but for part segmentation.

    Args:
        config: of fine-tuning or pre-training.
    """
    parts = getattr(config, "task", None) == "part_segmentation"
    return int(config.protocol == PUBLISHED and not parts)
