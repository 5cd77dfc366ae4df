"""Models by name."""

import re

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
    raise ConfigError(
        f"unknown model {name!r}: {_proposal(name)}known models: {', '.join(list_models())}"
    )


def _proposal(name: str) -> str:
    """ "did you mean 'x'? " with the names that are spelled so, that hold it, or that resemble."""
    asked = _letters(name)
    found = [known for known in list_models() if asked and asked in _letters(known)]
    meant = [known for known in found if asked == _letters(known)] or found
    if meant:
        return f"did you mean {' or '.join(map(repr, meant))}? "
    return nearest_hint(name.lower(), list_models())


def _letters(name: str) -> str:
    """A name as it is compared: without case, hyphens and underscores."""
    return re.sub(r"[-_\s]", "", name.lower())
