"""Embeddings in two dimensions, to look at (Figure 1)."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from macrec_core.errors import MacrecError

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

# Distances in so many principal components are nearly those of the embeddings, and cheap
# (van der Maaten and Hinton 2008 use 30).
_COMPONENTS = 50


def project(vectors: Floats, perplexity: float, seed: int) -> Floats:
    """t-SNE of embeddings: [N, 2], a function of its arguments alone.

    Started from the first two principal components, so that the large-scale order is theirs.

    Args:
        vectors: [N, width].
        perplexity: about how many neighbours count; below N, else lowered and logged.
        seed: of scikit-learn's generator.

    Raises:
        MacrecError: fewer than four items.
    """
    if len(vectors) < 4:
        raise MacrecError(
            f"t-SNE of {len(vectors)} items: there is nothing to see below 4; use more data"
        )
    highest = (len(vectors) - 1) / 3
    if perplexity > highest:
        log.warning(
            "embedding_plot.perplexity=%g is too high for %d items; taking %g",
            perplexity, len(vectors), highest,
        )  # fmt: skip
    components = min(_COMPONENTS, *vectors.shape)
    # One thread: with more, sums are added in the order in which threads end.
    with threadpool_limits(limits=1):
        reduced = PCA(components, svd_solver="full").fit_transform(vectors.astype(np.float64))
        tsne = TSNE(2, perplexity=min(perplexity, highest), init="pca", random_state=seed, n_jobs=1)
        points: Floats = tsne.fit_transform(reduced).astype(np.float32)
    return points
