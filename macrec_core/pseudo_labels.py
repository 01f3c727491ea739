"""Pseudo-labels: K-means clusters of each modality's embeddings (Eq. 1)."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from macrec_core.errors import MacrecError
from macrec_core.params.data import PseudoLabelParams

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clustering:
    """K-means of one modality.

    Attributes:
        labels: [N] int32, the cluster of each item.
        sizes: [K], items in each cluster.
        inertia: sum of squared distances of items to their centres.
        iterations: of the best of the `n_init` runs.
    """

    labels: np.ndarray
    sizes: np.ndarray
    inertia: float
    iterations: int

    def metrics(self) -> dict[str, float]:
        """Inertia, cluster sizes and the number of clusters without items."""
        return {
            "inertia": self.inertia,
            "iterations": self.iterations,
            "size_min": int(self.sizes.min()),
            "size_median": float(np.median(self.sizes)),
            "size_max": int(self.sizes.max()),
            "empty_clusters": int((self.sizes == 0).sum()),
            "clusters_of_one": int((self.sizes == 1).sum()),
        }


def cluster(vectors: np.ndarray, params: PseudoLabelParams) -> Clustering:
    """Partition items into K clusters by their embeddings (Eq. 1).

    Args:
        vectors: [N, width] float32.
        params: number of clusters, restarts and seed.

    Raises:
        MacrecError: fewer items than clusters.
    """
    if params.num_clusters > len(vectors):
        raise MacrecError(
            f"pseudo_labels.num_clusters={params.num_clusters}: there are only {len(vectors)} "
            "items; choose at most that many"
        )
    kmeans = KMeans(params.num_clusters, n_init=params.n_init, random_state=params.seed)
    # One thread: with more, scikit-learn adds up the centres in the order in which threads end.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Fewer distinct vectors than clusters: counted below as empty clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = kmeans.fit_predict(vectors).astype(np.int32)
    sizes = np.bincount(labels, minlength=params.num_clusters)
    result = Clustering(labels, sizes, float(kmeans.inertia_), int(kmeans.n_iter_))
    if not sizes.all():
        log.warning(
            "%d of %d clusters are empty: fewer distinct embeddings than clusters",
            (sizes == 0).sum(),
            params.num_clusters,
        )
    return result
