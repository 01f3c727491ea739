from __future__ import annotations

import torch

from macrec_core.baselines import interests
from macrec_core.baselines.interests import discover_interests, nearest


def clouds():
    """Three clouds of ten points far from one another."""
    draws = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    return centres.repeat_interleave(10, 0) + torch.randn(30, 2, generator=draws) * 0.1


def test_clouds_are_found_where_each_gives_a_first_centre():
    points = clouds()
    seed = next(
        s for s in range(50)
        if len({int(i) // 10 for i in torch.randperm(30, generator=draws_of(s))[:3]}) == 3
    )  # fmt: skip
    owners, centres = discover_interests(points, 3, 4, draws_of(seed))
    assert [len(set(part.tolist())) for part in owners.split(10)] == [1, 1, 1]
    assert len(set(owners.tolist())) == 3
    for cloud in range(3):
        mean = points[10 * cloud : 10 * cloud + 10].mean(dim=0)
        torch.testing.assert_close(centres[owners[10 * cloud]], mean)


def draws_of(seed):
    return torch.Generator().manual_seed(seed)


def test_as_many_clusters_as_points_are_the_points():
    points = clouds()
    owners, centres = discover_interests(points, 30, 3, draws_of(1))
    torch.testing.assert_close(centres[owners], points)


def test_a_cluster_without_points_keeps_its_centre():
    points = torch.zeros(4, 2)
    owners, centres = discover_interests(points, 3, 2, draws_of(0))
    assert owners.tolist() == [0] * 4
    assert centres.isfinite().all()


def test_nearest_is_the_smallest_distance_whatever_fits_at_a_time(monkeypatch):
    points, centres = torch.randn(2, 50, 7, generator=draws_of(2))
    expected = torch.cdist(points, centres).argmin(dim=1)
    monkeypatch.setattr(interests, "_DISTANCES", 150)
    assert torch.equal(nearest(points, centres), expected)
