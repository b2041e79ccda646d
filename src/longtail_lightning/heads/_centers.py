"""Several prototypes for one class: k-means on the sphere."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 25


def centers_of(features: Tensor, number: int) -> Tensor:
    """Up to so many directions that the features of a class lie around; the same whichever other classes there are.

    Args:
        features: `(n, F)` of norm 1.
        number: how many centers.

    Returns:
        `(min(n, number), F)`, float64.
    """
    if len(features) <= number:
        return features.double()
    import faiss

    means = faiss.Kmeans(
        features.shape[1], number, niter=_ROUNDS, spherical=True, seed=0, min_points_per_centroid=1, verbose=False
    )
    means.train(features.float().cpu().numpy())
    return torch.from_numpy(means.centroids).double()
