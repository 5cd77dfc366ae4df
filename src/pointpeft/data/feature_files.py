"""Files of features: `.npz` by NumPy, `.parquet` by Arrow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointpeft.data.npz import read_npz
from pointpeft.errors import ConfigError, DataError
from pointpeft.files import as_text, replacing
from pointpeft.optional import import_arrow

__all__ = [
    "StoredFeatures",
    "check_target",
    "existing_features",
    "read_features",
    "write_features",
]

_SUFFIXES = (".npz", ".parquet")
_KEY = b"pointpeft"
"""Of what a Parquet file says beside its table."""
_EXPECTED = "expected a file that `pointpeft embed` wrote"


@dataclass(frozen=True)
class StoredFeatures:
    """What a file holds.

    Attributes:
        features: ``(S, C)`` float16.
        ids: S names.
        labels: ``(S,)`` int64, places in the class names; -1 without a class.
        class_names: in label order.
        metadata: plain values for JSON.
    """

    features: NDArray[np.float16]
    ids: Sequence[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    metadata: Mapping[str, Any]


def check_target(path: str | Path) -> None:
    """Refuse a file that features cannot be written to, before they are computed.

    Raises:
        ConfigError: another suffix, pyarrow is missing, or there is such a file.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"`output` {path}: features are written to {' or '.join(_SUFFIXES)}")
    if path.exists():
        raise ConfigError(f"`output` {path} exists: name another file, or remove it")
    if path.suffix.lower() == ".parquet":
        _arrow()


def write_features(path: str | Path, stored: StoredFeatures) -> None:
    """Write a file; its suffix decides how.

    Raises:
        ConfigError: as for :func:`check_target`.
    """
    check_target(path)
    write = _write_parquet if Path(path).suffix.lower() == ".parquet" else _write_npz
    with replacing(path) as temporary:
        write(temporary, stored)


def existing_features(path: str | Path) -> Path:
    """The path of a file of features, which is not read.

    Raises:
        DataError: there is no such file, or it has another suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        seen = "another kind of file" if path.exists() else "no such file"
        seen = "a folder without shards of features" if path.is_dir() else seen
        raise DataError(f"{path}: {seen}; {_EXPECTED}, {' or '.join(_SUFFIXES)}, or such a folder")
    return path


def read_features(path: str | Path) -> StoredFeatures:
    """What :func:`write_features` wrote; the features of a large ``.npz`` stay in the file.

    Raises:
        DataError: no such file, another kind of file, or a damaged one.
        ConfigError: pyarrow is missing.
    """
    path = existing_features(path)
    try:
        read = _read_parquet if path.suffix.lower() == ".parquet" else _read_npz
        stored = read(path)
        _check(stored)
    except ConfigError:
        raise
    except (ValueError, TypeError, LookupError, OSError, AttributeError) as error:
        raise DataError(f"{path}: {error}; {_EXPECTED}") from error
    return stored


def _check(stored: StoredFeatures) -> None:
    features, labels = stored.features, stored.labels
    if features.ndim != 2 or features.dtype.kind != "f" or not features.size:
        raise DataError(f"features {features.shape} of {features.dtype}")
    if len(stored.ids) != len(features) or labels.shape != (len(features),):
        raise DataError(f"{len(features)} features, {len(stored.ids)} ids, {labels.size} labels")
    if labels.dtype.kind not in "iu" or labels.max() >= len(stored.class_names):
        raise DataError(f"labels up to {labels.max()} with {len(stored.class_names)} classes")
    if not isinstance(stored.metadata, dict):
        raise DataError("metadata that is no mapping")


def _write_npz(path: Path, stored: StoredFeatures) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            features=stored.features,
            ids=np.array(stored.ids, dtype=np.str_),
            labels=stored.labels,
            classes=np.array(stored.class_names, dtype=np.str_),
            metadata=np.array(json.dumps(stored.metadata)),
        )


def _read_npz(path: Path) -> StoredFeatures:
    arrays = read_npz(path)
    if lacking := {"features", "ids", "labels", "classes", "metadata"} - set(arrays):
        raise DataError(f"no array {' or '.join(sorted(lacking))} among {sorted(arrays)}")
    return StoredFeatures(
        arrays["features"],
        tuple(map(str, arrays["ids"].tolist())),
        arrays["labels"],
        tuple(map(str, arrays["classes"].tolist())),
        json.loads(str(arrays["metadata"])),
    )


def _write_parquet(path: Path, stored: StoredFeatures) -> None:
    arrow, parquet = _arrow()
    names = stored.class_names
    rows = arrow.FixedSizeListArray.from_arrays(
        arrow.array(np.ascontiguousarray(stored.features).ravel()), stored.features.shape[1]
    )
    table = arrow.table(
        {
            "id": arrow.array(as_text(list(stored.ids)), arrow.string()),
            "class": arrow.array(
                [names[label] if label >= 0 else None for label in stored.labels.tolist()],
                arrow.string(),
            ),
            "feature": rows,
        }
    )
    about = {"metadata": dict(stored.metadata), "classes": names}
    parquet.write_table(table.replace_schema_metadata({_KEY: json.dumps(about)}), path)


def _read_parquet(path: Path) -> StoredFeatures:
    arrow, parquet = _arrow()
    try:
        table = parquet.read_table(path, memory_map=True)
    except arrow.ArrowException as error:
        raise DataError(f"cannot be read as parquet: {error}") from error
    if _KEY not in (table.schema.metadata or {}):
        raise DataError(f"columns {table.column_names} without what made them")
    about = json.loads(table.schema.metadata[_KEY])
    names = tuple(about["classes"])
    number: dict[str | None, int] = {name: label for label, name in enumerate(names)}
    chunks = table["feature"].chunks
    values = np.concatenate([chunk.flatten().to_numpy() for chunk in chunks])
    return StoredFeatures(
        values.reshape(len(table), -1),
        tuple(table["id"].to_pylist()),
        np.array([number.get(name, -1) for name in table["class"].to_pylist()], dtype=np.int64),
        names,
        about["metadata"],
    )


def _arrow() -> tuple[ModuleType, ModuleType]:
    return import_arrow("Parquet files", "name a .npz file")
