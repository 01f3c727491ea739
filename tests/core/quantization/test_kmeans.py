"""k-means for codebook initialisation: known clusters, determinism, degenerate inputs."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from macrec_core.quantization.kmeans import kmeans_centres


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def inertia(points, centres):
    return float(torch.cdist(points, centres).min(dim=1).values.square().sum())


@pytest.fixture
def groups():
    """Four far-apart groups of ten points, and their means."""
    corners = 50 * torch.eye(4)
    points = corners.repeat_interleave(10, dim=0) + torch.randn(40, 4, generator=stream(5))
    return points, points.reshape(4, 10, 4).mean(dim=1)


@pytest.mark.parametrize("seed", range(5))
def test_centres_are_the_means_of_obvious_clusters(groups, seed):
    points, means = groups
    centres = kmeans_centres(points, 4, 5, stream(seed))
    order = centres.argmax(dim=1).argsort()
    torch.testing.assert_close(centres[order], means)


def test_without_iterations_the_centres_are_points_of_different_clusters(groups):
    points, _ = groups
    centres = kmeans_centres(points, 4, 0, stream())
    assert all((points == centre).all(dim=1).any() for centre in centres)
    assert sorted(centres.argmax(dim=1).tolist()) == [0, 1, 2, 3]


def test_equal_generator_states_give_equal_centres_and_others_do_not():
    points = torch.randn(100, 3, generator=stream(9))
    first, again, other = (kmeans_centres(points, 7, 3, stream(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_iteration_lowers_the_inertia_until_it_stands():
    points = torch.randn(120, 3, generator=stream(9))
    values = [inertia(points, kmeans_centres(points, 8, i, stream(3))) for i in range(8)]
    assert all(after <= before + 1e-3 for before, after in pairwise(values))
    assert values[-1] < values[0]


def test_as_many_centres_as_points_are_the_points():
    points = torch.randn(6, 3, generator=stream(9))
    centres = kmeans_centres(points, 6, 4, stream())
    assert inertia(points, centres) < 1e-6


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_points_than_centres_repeat_points_with_a_small_shift(count):
    points = torch.randn(count, 4, generator=stream(9))
    centres = kmeans_centres(points, 8, 5, stream())
    assert centres.shape == (8, 4)
    assert len(torch.unique(centres, dim=0)) == 8
    assert inertia(points, centres) < 1e-6
    # Within a tenth of the spread (a hundredth is one standard deviation of the shift).
    nearest = torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    assert float(nearest.values.max()) < 0.1 * float(points.std(unbiased=False))


@pytest.mark.parametrize(("points", "count"), [(40, 5), (3, 5), (1, 2)])
def test_identical_points_give_finite_centres_at_that_point(points, count):
    point = torch.tensor([0.1, -3.0, 7.5])
    centres = kmeans_centres(point.repeat(points, 1), count, 5, stream())
    assert centres.shape == (count, 3)
    torch.testing.assert_close(centres, point.repeat(count, 1), atol=0.3, rtol=0)
    assert torch.isfinite(centres).all()


def test_points_that_are_all_zero_give_zero_centres():
    assert torch.equal(kmeans_centres(torch.zeros(4, 2), 7, 3, stream()), torch.zeros(7, 2))
