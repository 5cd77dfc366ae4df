"""What was found in an index, as pictures on a page."""

from collections.abc import Sequence
from pathlib import Path

from pointpeft.formats import counted
from pointpeft.measure.feature_index import Index, NearDuplicates
from pointpeft.measure.nearest import Matches
from pointpeft.measure.report.sheet import SheetRow, Tile, write_sheet

__all__ = ["write_duplicates_sheet", "write_search_sheet"]


def write_search_sheet(path: str | Path, queries: Index, index: Index, found: Matches) -> None:
    """A row for every query: the query, then the shapes nearest to it.

    Shapes are read again. In the place of one that is gone, the page says so.

    Args:
        path: the page.
        queries: what was searched for.
        index: what was searched.
        found: what ``index.search`` gave.
    """
    own = queries.source.find(queries.ids, queries.model.transform)
    near = _clouds(index, set(found.places.ravel().tolist()))
    rows = []
    for query, neighbours in zip(queries.ids, found.pairs(), strict=True):
        tiles = [Tile("Query", (query,), own[query], own=True)]
        tiles += [_tile(index, place, f"similarity {s:.4f}", near) for place, s in neighbours]
        rows.append(SheetRow(query, tiles))
    note = (
        f"{counted(len(queries), 'query', 'queries')} and the most similar of "
        f"{counted(len(index), 'shape')}, by cosine similarity of features of {index.model}."
    )
    write_sheet(path, "Nearest shapes", note, rows)


def write_duplicates_sheet(
    path: str | Path, index: Index, groups: Sequence[NearDuplicates], threshold: float
) -> None:
    """A row for every group of near-duplicates; arguments as for :func:`write_search_sheet`."""
    near = _clouds(index, {place for group in groups for place in group.places.tolist()})
    rows = []
    for number, group in enumerate(groups, start=1):
        tiles = [_tile(index, place, f"to the first {s:.4f}", near) for place, s in group.pairs()]
        rows.append(SheetRow(f"Group {number}: {counted(len(tiles), 'shape')}", tiles))
    note = (
        f"{counted(len(groups), 'group')} of near-duplicates among {counted(len(index), 'shape')}: "
        f"joined by cosine similarities of at least {threshold:g}, of features of {index.model}."
    )
    write_sheet(path, "Near-duplicates", note, rows)


def _clouds(index: Index, places: set[int]) -> dict:
    return index.source.find([index.ids[place] for place in sorted(places)], index.model.transform)


def _tile(index: Index, place: int, said: str, clouds: dict) -> Tile:
    id, name = index.ids[place], index.class_of(place)
    return Tile(name or id, (said, id) if name else (said,), clouds[id])
