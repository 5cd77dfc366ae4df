"""Pages that need no other file and no network: template, style, script and Plotly in one."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointpeft.files import finite, replacing

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["as_json", "write_page", "write_text"]


def write_page(path: str | Path, template: str, **content: Any) -> Path:
    """Write a page.

    Args:
        path: the page.
        template: its file in this folder, which extends ``page.html``.
        content: what the template shows, ``title`` and ``summary`` among it.
    """
    from plotly.offline import get_plotlyjs  # slow to import, as is Jinja

    page = _templates().get_template(template)
    text = page.render(
        style=_part("report.css"), script=_part("report.js"), library=get_plotlyjs(), **content
    )
    write_text(path, text)
    return Path(path)


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FunctionLoader

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_part)
    )
    environment.policies |= {"json.dumps_function": as_json, "json.dumps_kwargs": {}}
    return environment


def as_json(value: object) -> str:
    """A value as short JSON; None stands for numbers that it does not have."""
    return json.dumps(finite(value), separators=(",", ":"), allow_nan=False)


def write_text(path: str | Path, text: str) -> None:
    """Write a file, whole or not at all; what UTF-8 does not have is replaced."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _part(name: str) -> str:
    return files("pointpeft.measure.report").joinpath(name).read_text(encoding="utf-8")
