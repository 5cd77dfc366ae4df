"""Where weights and adapters lie; looked up without importing anything slow."""

from pathlib import Path

from pointpeft.errors import CheckpointError

__all__ = ["ADAPTER", "ADAPTER_CONFIG", "ENCODER", "existing_weights", "resolve_adapter"]

ENCODER = "backbone.safetensors"
"""Name of the encoder's file in the folder of a run."""
ADAPTER = "adapter"
"""Name of the adapter's folder there."""
ADAPTER_CONFIG = "adapter_config.json"
"""The file by which an adapter folder is known."""


def existing_weights(path: str | Path) -> Path:
    """The path of a weights file.

    Raises:
        CheckpointError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist; pass the path of a weights file")
    return path


def resolve_adapter(folder: str | Path) -> Path:
    """The adapter folder meant by ``folder``: itself, or ``folder/adapter`` of a run.

    Raises:
        CheckpointError: there is none.
    """
    for candidate in (Path(folder), Path(folder) / ADAPTER):
        if (candidate / ADAPTER_CONFIG).is_file():
            return candidate
    raise CheckpointError(
        f"{folder} holds no adapter: expected {ADAPTER_CONFIG} in it, or in its sub-folder "
        f"{ADAPTER!r}"
    )
