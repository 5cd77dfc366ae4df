"""A small memory of the training shapes beside an adapter, by which new shapes are judged."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pointpeft.errors import CheckpointError
from pointpeft.locations import TRAINING_FEATURES, anonymous
from pointpeft.models.safetensors_files import read_safetensors, write_safetensors
from pointpeft.peft.bank import MemoryBank
from pointpeft.peft.saving import WEIGHTS_HASH, read_adapter_config

__all__ = [
    "MOST_SHAPES",
    "draw_by_class",
    "read_training_features",
    "write_training_features",
]

MOST_SHAPES = 2000
"""Shapes that an adapter remembers at most: with 384 channels they take 1.5 MB."""


def draw_by_class(labels: NDArray, most: int = MOST_SHAPES, seed: int = 0) -> NDArray[np.int64]:
    """Places of at most ``most`` shapes, drawn by class: small classes are kept whole.

    Args:
        labels: ``(S,)``.
        most: how many there may be.
        seed: of the draw.

    Returns:
        Places in ascending order; all of them where there are no more.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # of a shape among those of its class
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        rank[of_class] = np.arange(len(of_class))
    in_turns = order[np.argsort(rank[order], kind="stable")]
    return np.sort(in_turns[:most])


def write_training_features(
    folder: str | Path,
    features: NDArray,
    labels: NDArray,
    ids: Sequence[str],
    encoder_hash: str,
) -> None:
    """Write ``training_features.safetensors`` into an adapter folder.

    Args:
        folder: of the adapter.
        features: what the frozen encoder makes of training shapes, ``(S, C)``.
        labels: ``(S,)``.
        ids: what the shapes are known by; names are written as hashes, see :func:`anonymous`.
        encoder_hash: identity of the encoder.
    """
    columns = F.normalize(torch.from_numpy(features), dim=1).T.contiguous().half()
    state = {"features": columns, "labels": torch.from_numpy(np.asarray(labels)).long()}
    notes = {
        "ids": [anonymous(name) for name in ids],
        "encoder_hash": encoder_hash,
        WEIGHTS_HASH: read_adapter_config(folder).get(WEIGHTS_HASH),
    }
    write_safetensors(Path(folder) / TRAINING_FEATURES, state, notes)


def read_training_features(
    folder: str | Path, encoder_hash: str, num_classes: int
) -> MemoryBank | None:
    """What :func:`write_training_features` wrote; None where there is none.

    Args:
        folder: of the adapter.
        encoder_hash: identity of its encoder.
        num_classes: classes that it knows.

    Raises:
        CheckpointError: the file is damaged, or of another adapter.
    """
    path = Path(folder) / TRAINING_FEATURES
    if not path.is_file():
        return None
    state, notes = read_safetensors(path)
    try:
        bank = MemoryBank(state["features"], state["labels"], notes["ids"])
        fits = notes["encoder_hash"] == encoder_hash
        fits &= notes[WEIGHTS_HASH] == read_adapter_config(folder).get(WEIGHTS_HASH)
        fits &= int(bank.labels.min()) >= 0 and int(bank.labels.max()) < num_classes
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; remove it to do without") from error
    if not fits:
        raise CheckpointError(f"{path} is of another adapter; remove it to do without")
    bank.encoder_hash = encoder_hash
    return bank
