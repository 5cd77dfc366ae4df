"""The page that names the author, title, licence and source of every model of ``homeobjects``."""

from __future__ import annotations

from collections.abc import Sequence

from homeobjects_catalogue import LIBRARIES, LICENCE_LINKS, Model

_HEADER = """\
# Attribution for homeobjects

The point clouds in `homeobjects.npz` are made from 3D models of the furniture libraries of
[Sweet Home 3D](http://www.sweethome3d.com/importModels.jsp), as packaged by Debian in
`sweethome3d-furniture` 1.8. Their licences hold for the point clouds too. The models come without
any warranty, and nobody named here endorses this data set or its use.

## Changes

Each model was turned upright as its catalogue says, and {num_points} points were drawn from its
surface, centred, scaled to the unit ball and rounded to 16 bits. Meshes, materials, textures and
sizes are not included. A class was assigned to some of the models. The file is written by
`scripts/build_homeobjects.py`.

## Licences

{licences}

Where a library and the files of a model name different licences, the one with more conditions is
given here. No model under any other licence is included{refused}.

## Libraries

{libraries}

## Models

Every row: id in the library, title in the catalogue, author (in brackets the catalogue's spelling
where it differs), title and address of the first publication where known, licence.

| Id | Title | Author | First published | Licence |
| --- | --- | --- | --- | --- |
"""


def attribution(models: Sequence[Model], num_points: int, refused: Sequence[Model] = ()) -> str:
    """Return the attribution page, in Markdown, for `models`; `refused` are named as left out."""
    header = _HEADER.format(
        num_points=f"{num_points:,}",
        licences="\n".join(f"- {name}: <{link}>" for name, link in LICENCE_LINKS.items()),
        refused=f"; left out: {', '.join(model.id for model in refused)}" if refused else "",
        libraries="\n".join(f"- `{lib.file}`, {lib.licence}: {lib.credit}" for lib in LIBRARIES),
    )
    return header + "".join(_row(model) for model in models)


def _row(model: Model) -> str:
    work = _cell(model.work or model.title)
    published = f"[{work}]({model.source})" if model.source else ""
    cells = (f"`{model.id}`", _cell(model.title), _cell(model.author), published, model.licence)
    return "| " + " | ".join(map(str, cells)) + " |\n"


def _cell(text: str) -> str:
    """Escape what would end a cell or a link text."""
    for sign in "|[]":
        text = text.replace(sign, "\\" + sign)
    return text
