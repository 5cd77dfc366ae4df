"""Data and weights of a run that are not there: refused before anything slow is imported."""

from pathlib import Path

from pointpeft.data.shapes import PROCEDURAL, check_source
from pointpeft.locations import existing_weights, is_on_hub, names_embedded, resolve_checkpoint
from pointpeft.training.config import VerbConfig

__all__ = ["PASSED", "RANDOM", "check_sources"]

RANDOM = "random"
"""Value of ``checkpoint`` that asks for no weights."""
PASSED = "data passed in Python"
"""What is recorded as the source of data that does not say where it came from."""


def check_sources(config: VerbConfig) -> None:
    """Refuse a run whose data or weights are plainly not there; none of them is read.

    Weights on the hub are fetched.

    Args:
        config: of fine-tuning, pre-training or a linear SVM.

    Raises:
        DataError: there is no such data; the message shows what is expected.
        CheckpointError: there are no such weights.
    """
    for data in (config.data, getattr(config, "svm", None)):
        if data is not None and data.source not in (None, PROCEDURAL):
            check_source(data.source, data.variant)
    if config.checkpoint in (None, RANDOM) or names_embedded(config.checkpoint, config.model):
        return
    if is_on_hub(config.checkpoint):
        resolve_checkpoint(config.checkpoint)
    elif not Path(config.checkpoint).is_dir():
        existing_weights(config.checkpoint)
