"""Clusters of equally many codes, and the draw of another code of the same cluster."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.quantization.code_clusters import CodeClusters, balanced_kmeans, cluster_codebooks


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(2, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_clusters_differ_by_one_point_at_most(count, clusters, seed):
    clusters = min(clusters, count)
    points = torch.randn(count, 3, generator=stream(seed))
    labels = balanced_kmeans(points, clusters, stream(seed))
    sizes = torch.bincount(labels, minlength=clusters)
    assert len(sizes) == clusters
    assert int(sizes.max() - sizes.min()) == (1 if count % clusters else 0)


def test_groups_of_equal_size_are_found_wherever_seeding_begins():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = centres.repeat(4, 1) + 0.1 * torch.randn(12, 2, generator=stream(1))
    for seed in range(5):
        labels = balanced_kmeans(points, 3, stream(seed))
        assert {tuple(labels[i::3].unique().tolist()) for i in range(3)} == {(0,), (1,), (2,)}


def test_a_full_cluster_sends_the_farther_point_to_the_next():
    # Three points near 0 and one at 10: of the three, the one closest to 10 has to go there.
    points = torch.tensor([[0.0], [0.1], [3.0], [10.0]])
    labels = balanced_kmeans(points, 2, stream())
    assert labels[0] == labels[1] != labels[2] == labels[3]


def test_equal_points_are_shared_out():
    labels = balanced_kmeans(torch.ones(7, 2), 3, stream())
    assert sorted(torch.bincount(labels).tolist()) == [2, 2, 3]


def test_clusters_follow_the_generator_alone():
    points = torch.randn(30, 4, generator=stream(2))
    first, again = (balanced_kmeans(points, 4, stream(1)) for _ in range(2))
    assert torch.equal(first, again)


def test_a_partner_is_another_code_of_the_cluster_drawn_uniformly():
    labels = torch.tensor([1, 0, 1, 1, 0, 2, 2, 1])
    clusters = CodeClusters.of_labels(labels)
    codes = torch.arange(8).repeat(3000)
    partners = clusters.partners(codes, torch.rand(len(codes), generator=stream(5)))
    assert torch.equal(labels[partners], labels[codes])
    counts = torch.zeros(8, 8).index_put_(
        (codes, partners), torch.ones(len(codes)), accumulate=True
    )
    assert counts.diagonal().sum() == 0
    assert counts[1, 4] == counts[4, 1] == counts[5, 6] == 3000
    for code in (0, 2, 3, 7):
        others = [other for other in (0, 2, 3, 7) if other != code]
        # 99.9 % quantile of chi-square with 2 degrees of freedom.
        assert float(((counts[code, others] - 1000) ** 2 / 1000).sum()) < 13.8


@pytest.mark.parametrize("chance", [0.0, 1 - 2**-24])
def test_the_ends_of_chance_stay_in_the_cluster(chance):
    clusters = CodeClusters.of_labels(torch.tensor([0, 0, 0, 1, 1]))
    partners = clusters.partners(torch.arange(5), torch.full((5,), chance))
    assert partners.tolist() == ([1, 0, 0, 4, 3] if chance == 0 else [2, 2, 1, 4, 3])


def test_every_level_of_every_modality_is_clustered():
    books = {"text": torch.randn(2, 8, 3), "image": torch.randn(2, 8, 5)}
    found = cluster_codebooks(books, 4, {name: stream() for name in books})
    assert [len(levels) for levels in found.values()] == [2, 2]
    assert all((each.size == 2).all() for levels in found.values() for each in levels)
