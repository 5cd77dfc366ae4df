"""Shapes in 3D that a reader steps through."""

from collections.abc import Sequence
from typing import NamedTuple

from pointpeft.measure.report.figures import Figure

__all__ = ["Gallery", "Panel", "Scene"]


class Panel(NamedTuple):
    """A shape with what is written below it."""

    title: str
    lines: Sequence[str]
    cloud: str  # its key in the gallery


class Scene(NamedTuple):
    """Shapes that are seen at the same time.

    Attributes:
        name: by which it is chosen.
        words: pairs of plain text and text to stress, in their order.
        panels: shapes, beside each other.
        key: names and colours of the parts.
    """

    name: str
    words: Sequence[tuple[str, str]]
    panels: Sequence[Panel]
    key: Sequence[tuple[str, str]] = ()


class Gallery(NamedTuple):
    """Scenes under a title; scenes may share clouds."""

    title: str
    note: str
    scenes: Sequence[Scene]
    clouds: dict[str, Figure]
