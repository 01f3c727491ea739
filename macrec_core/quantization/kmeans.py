"""Lloyd's k-means on a tensor, for codebook initialisation.

Pseudo-labels use scikit-learn; here the data are the residuals of one batch on the training
device, and the package stays free of other dependencies.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kmeans_centres(
    points: Tensor, count: int, iterations: int, generator: torch.Generator
) -> Tensor:
    """Cluster centres by k-means++ seeding and Lloyd's iterations.

    A cluster that loses all its points keeps its centre. With fewer points than centres the
    surplus centres are points drawn again, moved by a hundredth of the points' spread. Where
    points coincide, as all residuals do once a level explains every one, centres coincide too.

    Args:
        points: [n, d] float.
        count: number of centres.
        iterations: Lloyd iterations.
        generator: CPU generator; equal states give equal centres.

    Returns:
        [count, d] centres.
    """
    distinct = min(count, len(points))
    centres = seed_centres(points, distinct, generator)
    for _ in range(iterations):
        owner = torch.cdist(points, centres).argmin(dim=1)  # [n]
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        sizes = torch.bincount(owner, minlength=distinct).to(points.dtype)
        filled = sizes > 0
        centres = torch.where(filled[:, None], sums / sizes.clamp(min=1)[:, None], centres)
    if distinct < count:
        drawn = torch.randint(len(points), (count - distinct,), generator=generator)
        noise = torch.randn(count - distinct, points.shape[1], generator=generator)
        spread = 0.01 * points.std(unbiased=False)
        surplus = points[drawn.to(points.device)] + spread * noise.to(points)
        centres = torch.cat([centres, surplus])
    return centres


def seed_centres(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++: each next centre is drawn with probability proportional to squared distance."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    centres = [points[first]]
    nearest = (points - centres[0]).square().sum(dim=1)  # [n]
    for _ in range(count - 1):
        # Drawn on the CPU: one generator gives one sequence on every device. Where all points
        # coincide with a centre the weights are all zero and any point is as good.
        weights = nearest.double().cpu()
        if float(weights.sum()) <= 0:
            weights = torch.ones_like(weights)
        index = int(torch.multinomial(weights, 1, generator=generator))
        centres.append(points[index])
        nearest = torch.minimum(nearest, (points - points[index]).square().sum(dim=1))
    return torch.stack(centres)
