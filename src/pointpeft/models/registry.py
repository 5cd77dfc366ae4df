"""Models by name."""

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.models.entries import ENTRIES
from pointpeft.models.entry import ModelEntry, Preset, Task

__all__ = ["ModelEntry", "Preset", "Task", "get_entry", "list_models"]

_BY_NAME = {entry.name: entry for entry in ENTRIES}


def list_models() -> list[str]:
    """Names that :func:`pointpeft.create_model` accepts."""
    return sorted(_BY_NAME)


def get_entry(name: str) -> ModelEntry:
    """The registry entry called ``name``.

    Raises:
        ConfigError: the name is unknown; the message proposes the nearest ones.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    known = list_models()
    raise ConfigError(
        f"unknown model {name!r}: {nearest_hint(name, known)}known models: {', '.join(known)}"
    )
