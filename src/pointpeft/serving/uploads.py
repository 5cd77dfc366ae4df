"""A shape as it was sent."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote

__all__ = ["BESIDE_SUFFIXES", "Upload", "plain_name"]

BESIDE_SUFFIXES = frozenset(
    {".bin", ".mtl", ".png", ".jpg", ".jpeg", ".webp", ".ktx2", ".bmp", ".tga", ".gif"}
)
"""Endings of files that come with a shape: buffers of a glTF file, materials, pictures."""
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Upload:
    """A shape as it was sent.

    Attributes:
        name: what messages call it; it is never a path.
        suffix: that says how it is read, such as ".stl"; ".json" is ``{"points": [[x, y, z]]}``.
        content: of the file.
        beside: what came with it, by :func:`plain_name`: buffers that a glTF file names.
    """

    name: str
    suffix: str
    content: bytes = field(repr=False)
    beside: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def whole(self) -> bytes:
        """The content, with the buffers in it that it names, so that no name becomes a path."""
        if not self.beside:
            return self.content
        try:
            document = json.loads(self.content.decode("utf-8-sig"))
            for buffer in document["buffers"]:
                if (sent := self._sent(buffer.get("uri"))) is not None:
                    buffer["uri"] = "data:;base64," + base64.b64encode(sent).decode()
            return json.dumps(document).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return self.content  # whoever reads it says what is wrong

    def _sent(self, uri: object) -> bytes | None:
        return self.beside.get(plain_name(unquote(uri))) if isinstance(uri, str) else None


def plain_name(path: str) -> str:
    """The last part of a path, safe to show: one line, without what moves a cursor."""
    name = PurePosixPath(path.replace("\\", "/")).name
    return re.sub(r"[^\w .()+@,=-]", "_", name)[-_LONGEST_NAME:].strip()
