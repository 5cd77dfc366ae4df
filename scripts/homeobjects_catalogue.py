"""Reading the ``.sh3f`` furniture libraries: models, their makers and their licences.

A library is a zip archive with a Java properties file (entries ``key#number=value``) and one
folder for every model, which may hold the licence under which its author published it.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from homeobjects_geometry import FloatArray, Mesh, read_obj

PROPERTIES = "PluginFurnitureCatalog.properties"

CC_BY, CC_BY_US, CC0 = "CC BY 3.0", "CC BY 3.0 US", "CC0 1.0"

LICENCE_LINKS = {
    CC_BY: "https://creativecommons.org/licenses/by/3.0/",
    CC_BY_US: "https://creativecommons.org/licenses/by/3.0/us/",
    CC0: "https://creativecommons.org/publicdomain/zero/1.0/",
}

# Text that states a licence, the most demanding first. None is any licence that the data set
# does not accept.
LICENCE_STATEMENTS: tuple[tuple[str | None, str], ...] = (
    (
        None,
        r"licenses/(by-|nc|nd|sa)|share.?alike|non.?commercial|no.?derivatives"
        r"|\bGPL\b|General Public Licen|Free Art Licen|artlibre",
    ),
    (CC_BY_US, r"licenses/by/3\.0/us|Attribution 3\.0 United States"),
    (CC_BY, r"licenses/by/3\.0|Attribution 3\.0"),
    (CC0, r"publicdomain/|Creative Commons Zero|choose/zero"),
)

# Where the notes of a model give the title and the maker of the work; the first group counts.
WORK_TITLES = (
    r'downloading "(.*)" by ',
    r"<title>(.*) by .* - \d+ - Creative Commons License",
    r"<title>\d+ - (.*) - Downloaded from Blend Swap",
)
WORK_MAKERS = (
    r'downloading ".*" by (.+)',
    r"<title>.* by (.*) - \d+ - Creative Commons License",
    r"^Created by (.+?)(?: from)?$",
)


@dataclass(frozen=True)
class Library:
    """One furniture library: its file, the licence of its models, and how it wants to be named."""

    file: str
    licence: str
    credit: str


LIBRARIES = (
    Library(
        "Scopia.sh3f",
        CC_BY,
        "© 2006-2020 Scopia Visual Interfaces Systems, s.l. (http://www.scopia.es) and "
        "© 2014-2020 Emmanuel PUYBARET / eTeks <info@eteks.com>",
    ),
    Library("KatorLegaz.sh3f", CC_BY_US, "© 2003-2008 Andrew Kator & Jennifer Legaz"),
    Library("Reallusion.sh3f", CC_BY_US, "© 2008-2016 Reallusion (http://www.reallusion.com)"),
    Library(
        "BlendSwap-CC-0.sh3f",
        CC0,
        "Blend Swap contributors (http://www.blendswap.com), cleaned and converted to OBJ by "
        "Emmanuel PUYBARET / eTeks <info@eteks.com>",
    ),
    Library(
        "BlendSwap-CC-BY.sh3f",
        CC_BY,
        "Blend Swap contributors (http://www.blendswap.com), cleaned and converted to OBJ by "
        "Emmanuel PUYBARET / eTeks <info@eteks.com>",
    ),
)


@dataclass(frozen=True)
class Model:
    """One catalogue entry with its mesh, turned upright: y up, front towards +z."""

    id: str
    title: str
    category: str
    author: str
    licence: str | None
    """A key of `LICENCE_LINKS`, or None for a licence that is not accepted."""
    work: str
    """Title of the work at its first publication, where the model's folder states one."""
    source: str
    """Address of that publication, or empty."""
    mesh: Mesh


def read_library(folder: Path, library: Library) -> Iterator[Model]:
    """Yield the models of one library in catalogue order."""
    with ZipFile(folder / library.file) as archive:
        texts = _texts_by_folder(archive)
        for entry in parse_properties(archive.read(PROPERTIES).decode("latin-1")):
            path = entry["model"].lstrip("/")
            obj = archive.read(path).decode("latin-1")
            # The folder's licence texts and the comments at the top of the OBJ file.
            notes = texts[path.rpartition("/")[0]] + _leading_comments(obj)
            work, source, maker = _publication(notes)
            yield Model(
                id=entry["id"],
                title=entry["name"],
                category=entry["category"],
                author=_authors(entry["creator"], maker),
                licence=_licence(notes, library.licence),
                work=work,
                source=source,
                mesh=_upright(read_obj(obj), entry.get("modelRotation")),
            )


def parse_properties(text: str) -> list[dict[str, str]]:
    """Parse the numbered entries of a catalogue, in order of their numbers."""
    entries: dict[int, dict[str, str]] = defaultdict(dict)
    for line in text.splitlines():
        if found := re.match(r"(\w+)#(\d+)=(.*)", line):
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), found[3])
            entries[int(found[2])][found[1]] = value.strip()
    return [entries[number] for number in sorted(entries)]


def _texts_by_folder(archive: ZipFile) -> defaultdict[str, str]:
    """Join the licence texts of every folder inside a library, without its own at the top."""
    texts: defaultdict[str, str] = defaultdict(str)
    for name in archive.namelist():
        folder = name.rpartition("/")[0]
        if folder and name.lower().endswith((".txt", ".html")):
            texts[folder] += archive.read(name).decode("utf-8", errors="replace") + "\n"
    return texts


def _leading_comments(obj: str) -> str:
    lines = []
    for line in obj.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return "\n".join(lines)


def _licence(notes: str, library_licence: str) -> str | None:
    """The most demanding of the library's licence and those stated in a model's own notes."""
    return next(
        licence
        for licence, pattern in LICENCE_STATEMENTS
        if licence == library_licence or re.search(pattern, notes, re.IGNORECASE)
    )


def _publication(notes: str) -> tuple[str, str, str]:
    """Title, address and maker of the first publication as far as the notes state them."""
    text = html.unescape(notes)
    address = re.search(r"https?://(?:www\.)?blendswap\.com/blends?/(?:view/)?\d+", text)
    return _first(WORK_TITLES, text), address[0] if address else "", _first(WORK_MAKERS, text)


def _first(patterns: tuple[str, ...], text: str) -> str:
    """The first group of the first pattern that is found, without punctuation at its end."""
    found = (re.search(pattern, text, re.MULTILINE) for pattern in patterns)
    return next((match[1].strip(" ,\r") for match in found if match), "")


def _authors(creator: str, maker: str) -> str:
    """Name the creator of the catalogue, and the maker where it is another spelling or person."""
    if not maker or maker.casefold() == creator.casefold():
        return creator
    return f"{maker} ({creator})"


def _upright(mesh: Mesh, rotation: str | None) -> Mesh:
    """Turn a mesh by the nine numbers of ``modelRotation``, row by row, if there are any."""
    if rotation is None:
        return mesh
    matrix: FloatArray = np.array(rotation.split(), dtype=np.float64).reshape(3, 3)
    return Mesh(mesh.vertices @ matrix.T, mesh.triangles)
