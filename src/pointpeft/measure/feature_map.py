"""Features of many channels as points in a plane."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["project"]

_FEWEST_FOR_TSNE = 10  # items; with fewer there are no neighbourhoods to keep
_PERPLEXITY = 30.0  # neighbours whose order a map keeps, the usual value
_ITERATIONS = 750  # 250 of them exaggerated; more do not change what is near what
_DECIMALS = 3


def project(features: NDArray, seed: int = 0) -> tuple[NDArray[np.float64], str]:
    """A map of ``features (S, C)``, and how it was made: "t-SNE" or, of a few items, "PCA".

    t-SNE compares directions (cosine), starts from the first two principal components and runs on
    one thread: the same features give the same map.

    Returns:
        Places ``(S, 2)`` without a unit, rounded.
    """
    features = features.astype(np.float64)
    plane, method = _principal_plane(features, seed), "PCA"
    if len(features) >= _FEWEST_FOR_TSNE and plane.any():
        from sklearn.manifold import TSNE  # takes a second, and only reports need it
        from threadpoolctl import threadpool_limits

        tsne = TSNE(
            perplexity=min(_PERPLEXITY, (len(features) - 1) / 3), metric="cosine",
            init=plane / plane[:, 0].std() * 1e-4, max_iter=_ITERATIONS, random_state=seed,
        )  # fmt: skip
        with threadpool_limits(1):  # threads would add up forces in another order every time
            places = tsne.fit_transform(features)
        if np.isfinite(places).all():
            plane, method = places.astype(np.float64), "t-SNE"
    return plane.round(_DECIMALS), method


def _principal_plane(features: NDArray, seed: int) -> NDArray[np.float64]:
    """Scores ``(S, 2)`` on the first two principal components; zeros where there are none."""
    from sklearn.decomposition import PCA

    plane = np.zeros((len(features), 2))
    components = min(2, *features.shape)
    if len(features) > 1 and np.ptp(features, axis=0).any():
        plane[:, :components] = PCA(components, random_state=seed).fit_transform(features)
    return plane
