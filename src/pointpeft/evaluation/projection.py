"""Features of many channels as points in a plane."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["project"]

_FEWEST_FOR_TSNE = 10  # items; with fewer there are no neighbourhoods to keep
_PERPLEXITY = 30.0  # neighbours whose order a map keeps, the usual value
_DECIMALS = 3


def project(features: NDArray, seed: int = 0) -> tuple[NDArray[np.float64], str]:
    """A map of ``features (S, C)``, and how it was made: "t-SNE" or, of a few items, "PCA".

    t-SNE compares directions (cosine), starts from the first two principal components and runs on
    one thread: the same features give the same map.

    Returns:
        Places ``(S, 2)`` without a unit, rounded.
    """
    plane, method = _principal_plane(features), "PCA"
    if len(features) >= _FEWEST_FOR_TSNE and plane.any():
        from openTSNE import TSNE  # takes a second, and only reports need it

        perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
        tsne = TSNE(
            perplexity=perplexity, metric="cosine", initialization=_small(plane), n_jobs=1,
            random_state=seed,
        )  # fmt: skip
        places = np.asarray(tsne.fit(features.astype(np.float64)))
        if np.isfinite(places).all():
            plane, method = places, "t-SNE"
    return plane.round(_DECIMALS), method


def _principal_plane(features: NDArray) -> NDArray[np.float64]:
    """Scores ``(S, 2)`` on the first two principal components; zeros where there are none."""
    plane = np.zeros((len(features), 2))
    if len(features) > 1:
        centered = features.astype(np.float64)
        centered -= centered.mean(axis=0)
        left, singular, _ = np.linalg.svd(centered, full_matrices=False)
        scores = left[:, :2] * singular[:2]
        extremes = np.take_along_axis(scores, np.abs(scores).argmax(axis=0)[None], axis=0)
        plane[:, : scores.shape[1]] = scores * np.where(extremes < 0, -1.0, 1.0)  # sign is free
    return plane


def _small(plane: NDArray) -> NDArray[np.float64]:
    """The scale from which t-SNE is to start."""
    return plane / plane[:, 0].std() * 1e-4
