"""Every setting with its default and its meaning, as the help and the docs list them.

The meaning is the comment at the field of the config class, so that there is one text for who reads
the code, the help or the docs.
"""

import ast
import functools
import inspect
import io
import json
import textwrap
import tokenize
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

__all__ = ["Setting", "list_settings", "written"]


@dataclass(frozen=True)
class Setting:
    """One key.

    Attributes:
        key: as it is given, such as ``optimizer.lr``.
        default: its value when it is not given, as it would be written.
        meaning: one line; "" where nothing is to be said.
    """

    key: str
    default: str
    meaning: str


def list_settings(config: Any, prefix: str = "") -> list[Setting]:
    """All settings of a config.

    Args:
        config: a config class that can be made without arguments, or an instance.
        prefix: of the keys, such as "peft.".
    """
    config = config() if isinstance(config, type) else config
    kind: Any = type(config)
    meanings, found = _comments(kind), []
    for field in fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        if is_dataclass(value):
            found += list_settings(value, f"{key}.")
        else:
            found.append(Setting(key, written(value), meanings.get(field.name, "")))
    return found


def written(value: object) -> str:
    """A value as it is written in ``key=value`` and in YAML."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@functools.cache
def _comments(kind: type) -> dict[str, str]:
    """The comments behind the fields of a dataclass, or in the lines right above them."""
    found: dict[str, str] = {}
    for base in kind.__bases__:
        found |= _comments(base) if is_dataclass(base) else {}
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except OSError:  # an installation without sources
        return found
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    last = 0
    for line in definition.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            end = line.end_lineno or line.lineno
            own = [comments[n] for n in range(line.lineno, end + 1) if n in comments]
            above = [comments[n] for n in range(last + 1, line.lineno) if n in comments]
            # Python's None is written null in YAML and on the command line.
            found[line.target.id] = " ".join(own or above).replace("None", "null")
        last = line.end_lineno or line.lineno
    return found
