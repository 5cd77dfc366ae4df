"""Which columns of a table are coordinates and which one is a part label, by their names."""

import re
from collections.abc import Mapping, Sequence

from pointpeft.errors import DataError

__all__ = ["coordinate_columns", "is_column_word", "label_column", "says_label"]

_UNIT = re.compile(r"[\[({](?!\s*[xyzXYZ0-3]\s*[\])}])[^\])}]*[\])}]")
_WORD = re.compile(r"[A-Z]?[a-zäöü]+|[A-ZÄÖÜ]+(?![a-zäöü])|\d+")
_AXES = ("x", "y", "z")
_SYNONYMS = {
    "easting": "x", "east": "x", "rechtswert": "x", "e": "x",
    "northing": "y", "north": "y", "hochwert": "y", "n": "y",
    "height": "z", "elevation": "z", "elev": "z", "altitude": "z", "alt": "z", "up": "z",
    "hoehe": "z", "höhe": "z", "h": "z", "u": "z",
}  # fmt: skip
"""What surveyors call the axes."""
_OF_A_PLACE = frozenset({
    "p", "pt", "pts", "point", "points", "pos", "position", "positions", "coord", "coords",
    "coordinate", "coordinates", "loc", "location", "vertex", "vertices", "vert", "xyz",
    "cartesian", "world", "local", "global", "utm", "ecef", "lidar", "sensor", "scan", "scanner",
    "cloud", "pc", "m", "mm", "cm", "km", "meter", "meters", "metre", "metres", "axis",
})  # fmt: skip
"""Words that may stand beside an axis; any other one, such as in `normal_x`, is not of a place."""
_LABELS = frozenset({
    "label", "labels", "class", "classes", "classification", "seg", "segment", "segments",
    "segmentation", "part", "parts",
})  # fmt: skip
_BESIDE_LABELS = frozenset({
    "scalar", "field", "sf", "id", "ids", "index", "point", "vertex", "semantic", "sem",
    "instance", "gt", "true", "truth", "ground", "name", "number",
})  # fmt: skip
_MEASURED = frozenset({
    "intensity", "time", "gps", "gpstime", "return", "returns", "number", "distance", "curvature",
    "density", "roughness", "reflectance", "amplitude", "range", "angle", "scan", "x", "y", "z",
    "nx", "ny", "nz", "red", "green", "blue", "r", "g", "b", "dip", "direction", "distances", "c2c",
    "c2m", "signed",
})  # fmt: skip
"""What a `scalar_...` column may hold that is no label."""
_OTHER_COLUMNS = frozenset({
    "id", "index", "timestamp", "t", "tx", "ty", "tz", "qx", "qy", "qz", "qw", "lat", "lon", "long",
    "latitude", "longitude", "alt", "altitude", "temperature", "pressure", "velocity", "vx", "vy",
    "vz", "normal", "rgb", "rgba", "alpha", "a", "u", "v", "w", "azimuth", "ring", "code", "name",
    "error", "confidence", "score", "quality", "i",
})  # fmt: skip
"""More that columns are called beside coordinates."""


def coordinate_columns(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Places of x, y and z among the names of columns; None: they are not named.

    Single letters come before prefixed names (`pos_x`, `X(m)`), those before numbered ones
    (`Points:0`), and those before what surveyors say (`Easting`).

    Raises:
        DataError: Two columns have the name of one axis.
    """
    groups: dict[tuple[int, tuple[str, ...]], dict[str, list[int]]] = {}
    for place, name in enumerate(names):
        for rank, beside, axis in _readings(name):
            groups.setdefault((rank, beside), {}).setdefault(axis, []).append(place)
    _fill_up(groups)
    found = [
        (key[0], group, axes) for key, group in sorted(groups.items()) if (axes := _axes_of(group))
    ]
    if not found:
        return None
    rank, group, axes = found[0]
    if rank in (1, 2) and len(found) > 1 and found[1][0] == rank:
        sets = " and ".join(names[each[a][0]].strip() for _, each, (a, *_) in found[:2])
        raise DataError(f"two sets of columns are coordinates, from {sets} on; leave one of them")
    if twice := [names[group[axis][0]] for axis in axes if len(group[axis]) > 1]:
        raise DataError(f"more than one column is called {twice[0].strip()!r}")
    x, y, z = (group[axis][0] for axis in axes)
    return x, y, z


def is_column_word(name: str) -> bool:
    """Whether people call columns so that are no coordinates, such as `nx`, `time` or `label`."""
    words = _words(name)
    return bool(words) and set(words) <= _MEASURED | _LABELS | _OTHER_COLUMNS


def _words(name: str) -> list[str]:
    """The words of a name without its unit, in small letters."""
    return [word.lower() for word in _WORD.findall(_UNIT.sub(" ", name))]


def _axes_of(group: Mapping[str, Sequence[int]]) -> tuple[str, ...] | None:
    """The three axes that a group of columns names, as letters or as numbers from 0 or 1."""
    known = (_AXES, ("0", "1", "2"), ("1", "2", "3"))
    return next((axes for axes in known if set(axes) <= set(group)), None)


def _readings(name: str) -> list[tuple[int, tuple[str, ...], str]]:
    """What a name may mean: its rank, the words beside the axis, and the axis."""
    words = _words(name)
    said = [word for word in words if word not in _OF_A_PLACE]
    if len(said) == 1 and said[0] in _SYNONYMS:
        return [(3, (), _SYNONYMS[said[0]])]
    found = []
    for place, word in enumerate(words):
        beside = words[:place] + words[place + 1 :]
        for axis, glued in _split_axis(word):
            rest = tuple(sorted([*beside, *glued]))
            if set(rest) <= _OF_A_PLACE and (rest or not axis.isdecimal()):
                found.append((2 if axis.isdecimal() else 1 if rest else 0, rest, axis))
    return found


def _split_axis(word: str) -> list[tuple[str, tuple[str, ...]]]:
    """The axis that a word names, and what is glued to it, as in `posx`."""
    if word in _AXES or word in "0123":
        return [(word, ())]
    ends = [(word[-1], word[:-1]), (word[0], word[1:])]
    return [(axis, (rest,)) for axis, rest in ends if axis in _AXES and rest in _OF_A_PLACE]


def _fill_up(groups: dict[tuple[int, tuple[str, ...]], dict[str, list[int]]]) -> None:
    """Let letters and what surveyors say fill each other up, as in `X, Y, Elevation`, `E, N, Z`."""
    letters, said = groups.get((0, ()), {}), groups.get((3, ()), {})
    lacking, given = (letters, said) if {"x", "y"} <= set(letters) else (said, letters)
    for axis in set(_AXES) & set(given) - set(lacking):
        lacking[axis] = given[axis]


def says_label(name: str) -> bool:
    """Whether a name says by itself that it is of part labels, as `scalar_3` does not."""
    return not _LABELS.isdisjoint(_words(name))


def label_column(names: Sequence[str]) -> int | None:
    """The place of the part label among the names of columns; None: no column is called so.

    Raises:
        DataError: Several columns may be the label.
    """
    exact, longer, scalar = [], [], []
    for place, name in enumerate(names):
        words = _words(name)
        if len(words) == 1 and words[0] in _LABELS:
            exact.append(place)
        if _LABELS & set(words) and set(words) <= _LABELS | _BESIDE_LABELS:
            longer.append(place)
        if words[:1] == ["scalar"] and not _MEASURED & set(words):
            scalar.append(place)
    for places in (exact, longer, scalar):
        if len(places) > 1:
            several = ", ".join(names[place].strip() for place in places)
            raise DataError(f"several columns may be the part label: {several}; leave one of them")
        if places:
            return places[0]
    return None
