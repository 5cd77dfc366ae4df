"""How many clouds at a time an adapter is measured with."""

from pathlib import Path

import yaml

from pointpeft.errors import CheckpointError
from pointpeft.locations import resolve_adapter
from pointpeft.training.config import VALIDATION_BATCH

__all__ = ["MEASURED_AT_A_TIME", "batch_of_run"]

MEASURED_AT_A_TIME = 64
"""Clouds where no run says otherwise."""


def batch_of_run(adapter: str | Path) -> int:
    """As many clouds as the run of an adapter was measured with, so that the result is the same.

    Published Point-PEFT makes something else of a cloud in another batch. An adapter that lies in
    no folder of a run has :data:`MEASURED_AT_A_TIME`.

    Args:
        adapter: adapter or run folder.
    """
    try:
        text = (resolve_adapter(adapter).parent / "config.yaml").read_text(encoding="utf-8")
        return VALIDATION_BATCH * int(yaml.safe_load(text)["trainer"]["batch_size"])
    except (CheckpointError, OSError, yaml.YAMLError, LookupError, TypeError, ValueError):
        return MEASURED_AT_A_TIME
