"""Arrays of a glTF document: accessors over views of buffers, sparse, quantised or compressed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from pointpeft.errors import DataError

K = TypeVar("K")
V = TypeVar("V")

__all__ = ["Accessors", "entry_at"]

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


class Accessors:
    """Reads the accessors of a document by their number.

    Args:
        document: The JSON of the file.
        load_buffer: Gives the bytes of a buffer by its number; only those needed are asked for.
    """

    def __init__(self, document: Mapping[str, Any], load_buffer: Callable[[int], bytes]) -> None:
        self._accessors = document.get("accessors", [])
        self._views = document.get("bufferViews", [])
        self._load_buffer = load_buffer
        self._buffers: dict[int, bytes] = {}

    def has_data(self, number: int) -> bool:
        """Whether an accessor says where its values are."""
        return not {"bufferView", "sparse"}.isdisjoint(
            entry_at(self._accessors, int(number), "accessor")
        )

    def read(self, number: int) -> np.ndarray:
        """Values `(count, width)` float64 of an accessor.

        Integers that are marked as normalised lie in [-1, 1] or [0, 1].

        Raises:
            DataError: It has no data, reaches beyond its buffer, or is compressed.
        """
        accessor = entry_at(self._accessors, int(number), "accessor")
        if not self.has_data(number):
            raise DataError(f"accessor {number} has no data; the geometry may be compressed")
        count, width = int(accessor["count"]), _known(_WIDTHS, accessor["type"], "type")
        kind = np.dtype(_known(_COMPONENTS, accessor["componentType"], "component type"))
        if "bufferView" in accessor:
            values = self._values(accessor, count, width, kind).copy()
        elif count > 1000 * max(int(accessor["sparse"]["count"]), 1000):
            raise DataError(f"an accessor of {count:,} values, of which few are given")
        else:
            values = np.zeros((count, width), dtype=kind)
        if sparse := accessor.get("sparse"):
            self._replace(values, sparse)
        result = values.astype(np.float64)
        if accessor.get("normalized") and kind.kind in "iu":
            result = np.maximum(result / np.iinfo(kind).max, -1.0)
        return result

    def read_draco(self, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions `(N, 3)` float64 and vertex numbers `(3 F,)` of Draco-compressed geometry.

        Raises:
            DataError: DracoPy is not installed, or the data are damaged.
        """
        try:
            import DracoPy
        except ImportError:
            raise DataError(
                "its geometry is Draco-compressed; install what decodes it with "
                "'pip install pointpeft[draco]', or save the file uncompressed"
            ) from None
        entry = entry_at(self._views, view, "buffer view")
        content, start = self._bytes(entry)
        data = content[start : start + int(entry["byteLength"])]
        try:
            mesh = DracoPy.decode(data)
            points = np.asarray(mesh.points, dtype=np.float64).reshape(-1, 3)
            return points, np.asarray(mesh.faces, dtype=np.int64).ravel()
        except Exception as error:  # a decoder of its own, which fails in ways of its own
            raise DataError(f"its Draco-compressed geometry is damaged ({error})") from error

    def _replace(self, values: np.ndarray, sparse: Mapping[str, Any]) -> None:
        """Replace those of the values `(count, width)` that a sparse accessor gives by number."""
        number, indices = int(sparse["count"]), sparse["indices"]
        index_kind = np.dtype(_known(_COMPONENTS, indices["componentType"], "component type"))
        places = self._values(indices, number, 1, index_kind).ravel()
        if len(places) and places.max() >= len(values):
            raise DataError(f"a sparse accessor replaces value {places.max()} of {len(values)}")
        values[places] = self._values(sparse["values"], number, values.shape[1], values.dtype)

    def _values(
        self, place: Mapping[str, Any], count: int, width: int, kind: np.dtype
    ) -> np.ndarray:
        """Values `(count, width)` that lie in a view, possibly interleaved with others."""
        view = entry_at(self._views, int(place["bufferView"]), "buffer view")
        content, start = self._bytes(view)
        size = width * kind.itemsize
        stride = int(view.get("byteStride", 0)) or size
        first = start + int(place.get("byteOffset", 0))
        end = first + (count - 1) * stride + size if count > 0 else first
        if count < 0 or first < start or end > min(start + int(view["byteLength"]), len(content)):
            raise DataError(
                f"{count:,} values do not fit into their buffer view: the file is damaged or "
                "cut short"
            )
        return np.ndarray(
            (count, width), kind, content, offset=first, strides=(stride, kind.itemsize)
        )

    def _bytes(self, view: Mapping[str, Any]) -> tuple[bytes, int]:
        """The buffer of a view, and where the view begins in it."""
        number = int(view["buffer"])
        if number not in self._buffers:
            self._buffers[number] = self._load_buffer(number)
        return self._buffers[number], int(view.get("byteOffset", 0))


def _known(table: Mapping[K, V], key: K, name: str) -> V:
    if key not in table:
        raise DataError(f"{name} {key!r}: expected one of {', '.join(map(str, table))}")
    return table[key]


def entry_at(values: Sequence[dict[str, Any]], number: int, name: str) -> dict[str, Any]:
    """An entry of a list of the document, of the kind `name`.

    Raises:
        DataError: There is none of this number.
    """
    if not 0 <= number < len(values):
        raise DataError(f"{name} {number} is named, there are {len(values)}")
    return values[number]
