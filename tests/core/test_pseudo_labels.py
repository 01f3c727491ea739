from __future__ import annotations

import logging

import numpy as np
import pytest

from macrec_core.errors import MacrecError
from macrec_core.params.data import PseudoLabelParams
from macrec_core.pseudo_labels import cluster


def section(num_clusters, seed=0):
    return PseudoLabelParams(num_clusters=num_clusters, n_init=10, seed=seed)


@pytest.fixture
def groups():
    """Five far-apart groups of 12 points in random order, and the group of each point."""
    rng = np.random.default_rng(3)
    owner = rng.permutation(np.repeat(np.arange(5), 12))
    centres = 20 * np.eye(5, 8)
    return (centres[owner] + rng.normal(size=(60, 8))).astype(np.float32), owner


def test_obvious_clusters_are_recovered(groups):
    vectors, owner = groups
    result = cluster(vectors, section(5))
    assert result.labels.dtype == np.int32
    # One label a group and one group a label.
    assert len(set(zip(owner.tolist(), result.labels.tolist(), strict=True))) == 5
    assert result.sizes.tolist() == [12] * 5


def test_inertia_is_the_sum_of_squared_distances_to_the_cluster_means(groups):
    vectors, owner = groups
    expected = sum(
        ((vectors[owner == g] - vectors[owner == g].mean(0)) ** 2).sum() for g in range(5)
    )
    assert cluster(vectors, section(5)).metrics()["inertia"] == pytest.approx(expected, rel=1e-4)


def test_the_same_seed_gives_the_same_labels_whatever_the_threads():
    from threadpoolctl import threadpool_limits

    vectors = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32)
    results = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            results.append(cluster(vectors, section(24)))
    assert np.array_equal(results[0].labels, results[1].labels)
    assert results[0].inertia == results[1].inertia
    assert not np.array_equal(results[0].labels, cluster(vectors, section(24, seed=1)).labels)


def test_more_clusters_than_items_is_an_error():
    with pytest.raises(MacrecError, match="num_clusters=9: there are only 8 items"):
        cluster(np.zeros((8, 2), np.float32), section(9))


def test_empty_clusters_are_counted_and_warned_of(caplog):
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    with caplog.at_level(logging.WARNING):
        result = cluster(vectors, section(5))
    assert result.metrics()["empty_clusters"] == 2
    assert len(result.sizes) == 5
    assert "2 of 5 clusters are empty" in caplog.text
