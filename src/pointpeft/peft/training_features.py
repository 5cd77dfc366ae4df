"""A small memory of the training shapes beside an adapter, by which new shapes are judged."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pointpeft.errors import CheckpointError
from pointpeft.locations import anonymous
from pointpeft.models.safetensors_files import read_safetensors, write_safetensors
from pointpeft.peft.bank import MemoryBank

__all__ = [
    "MOST_SHAPES",
    "WEIGHTS_HASH",
    "draw_by_class",
    "read_training_features",
    "training_features",
    "write_training_features",
]

WEIGHTS_HASH = "weights_sha256"
"""Where an adapter, and what it remembers, state the hash of its weights."""

_ROUNDED = 0.01
"""By how much features in float16 may be off unit length."""
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


def training_features(
    features: NDArray, labels: NDArray, ids: Sequence[str], encoder_hash: str
) -> MemoryBank:
    """What an adapter remembers of training shapes, on the CPU in float16.

    Args:
        features: what the frozen encoder makes of them, ``(S, C)``.
        labels: ``(S,)``.
        ids: what the shapes are known by; names become hashes, see :func:`anonymous`.
        encoder_hash: identity of the encoder.
    """
    columns = F.normalize(torch.from_numpy(features), dim=1).T.contiguous().half()
    known = MemoryBank(columns, torch.from_numpy(np.asarray(labels)), map(anonymous, ids))
    known.encoder_hash = encoder_hash
    return known


def write_training_features(path: Path, known: MemoryBank, weights_hash: str) -> None:
    """Write what an adapter remembers, with the hash of its weights that says whose it is."""
    state = {"features": known.features, "labels": known.labels}
    notes = {
        "ids": [anonymous(name) for name in known.ids],
        "encoder_hash": known.encoder_hash,
        WEIGHTS_HASH: weights_hash,
    }
    write_safetensors(path, state, notes)


def read_training_features(path: Path) -> tuple[MemoryBank, str | None]:
    """What :func:`write_training_features` wrote, and the hash of the weights.

    Raises:
        CheckpointError: the file is damaged.
    """
    state, notes = read_safetensors(path)
    try:
        known = MemoryBank(state["features"], state["labels"], notes["ids"])
        known.encoder_hash, weights_hash = notes["encoder_hash"], notes[WEIGHTS_HASH]
        norms = known.features.float().norm(dim=0)
        if not torch.allclose(norms, torch.ones(()), atol=_ROUNDED):
            raise ValueError("features are not of unit length")
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; remove it to do without") from error
    return known, weights_hash
