"""Interest discovery: k-means of all items' vectors, whatever their modality."""

from __future__ import annotations

import torch
from torch import Tensor

# Distances at a time.
_DISTANCES = 2**24


def discover_interests(
    points: Tensor, count: int, iterations: int, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Lloyd's k-means from distinct points drawn at random.

    k-means++ would take as many passes as there are clusters, which are about as many as items,
    before each epoch. A cluster that loses all its points keeps its centre.

    Args:
        points: [n, d].
        count: clusters; at most n.
        iterations: Lloyd iterations.
        draws: CPU generator.

    Returns:
        Cluster [n] int64 of each point, and centres [count, d].
    """
    chosen = torch.randperm(len(points), generator=draws)[:count]
    centres = points[chosen.to(points.device)]
    owners = nearest(points, centres)
    for _ in range(iterations):
        sums = torch.zeros_like(centres).index_add_(0, owners, points)
        sizes = torch.bincount(owners, minlength=count).to(points)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        owners = nearest(points, centres)
    return owners, centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Index [n] of the closest centre to each point."""
    squares = centres.square().sum(dim=1)
    parts = points.split(max(1, _DISTANCES // len(centres)))
    # Less the point's own square, which changes no comparison.
    return torch.cat([(squares - 2 * part @ centres.T).argmin(dim=1) for part in parts])
