"""Few labelled shapes of each class, the same ones for whatever is trained on them."""

from collections.abc import Sequence

import numpy as np

from pointpeft.data.shape_data import ShapeSplit
from pointpeft.errors import DataError

__all__ = ["take_shots"]


def take_shots(
    train: ShapeSplit, shots: int, seed: int = 0, class_names: Sequence[str] = ()
) -> ShapeSplit:
    """The first shapes of each class in a random order, which hangs on the seed alone.

    So fewer shots are among more shots of the same seed. The shapes keep the order of ``train``.

    Args:
        train: labelled shapes.
        shots: of each class, at least 1.
        seed: of the order.
        class_names: of the labels, for messages.

    Raises:
        DataError: a class has fewer shapes.
    """
    if shots < 1:
        raise DataError(f"`shots` must be at least 1, got {shots}")
    generator, places = np.random.default_rng(seed), []
    for label in np.unique(train.labels[train.labels >= 0]).tolist():
        of_class = generator.permutation(np.flatnonzero(train.labels == label))
        if len(of_class) < shots:
            name = class_names[label] if class_names else f"class {label}"
            raise DataError(
                f"{name}: training shapes: {len(of_class)}, fewer than `shots` {shots}; take fewer "
                "shots, or all"
            )
        places.append(of_class[:shots])
    return train.subset(np.sort(np.concatenate(places)))
