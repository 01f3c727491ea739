"""Nearest codes (Eq. 2): by a matrix product, and directly wherever its rounding could matter.

The distance of every residual to every code is a matrix product away, and no table of all of
them is ever needed. The trap is in near ties: the product rounds otherwise than the direct
formula, and otherwise for another batch size, so that the code of an item could depend on its
neighbours. Hence each residual whose two nearest codes lie within the rounding error of one
another is decided by the direct formula. The result is the direct formula's, always.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Rows a product: the table of distances to 256 codes stays in the processor's cache.
_ROWS = 4096


def nearest_code(residual: Tensor, codebook: Tensor) -> Tensor:
    """Index [B] int64 of the closest of M vectors [M, d] to each residual [B, d] (Eq. 2).

    The same index for the same residual, whatever the batch. Of equal distances the lowest
    index counts.
    """
    if residual.is_cuda:  # no bottleneck there, and which rows to decide again would be waited for
        return nearest_directly(residual, codebook)
    parts = [_nearest_on_cpu(rows, codebook) for rows in residual.split(_ROWS)]
    return torch.cat(parts) if parts else residual.new_zeros(0, dtype=torch.long)


def nearest_codes(latents: Tensor, codebooks: Tensor) -> Tensor:
    """Codes [N, L] int32 of latents [N, d], one codebook [L, M, d] after another (Eqs. 2-3)."""
    codes = torch.empty(len(latents), len(codebooks), dtype=torch.int32)
    for start in range(0, len(latents), _ROWS):
        residual = latents[start : start + _ROWS]
        for level, codebook in enumerate(codebooks):
            nearest = nearest_code(residual, codebook)
            codes[start : start + _ROWS, level] = nearest
            residual = residual - codebook.index_select(0, nearest)
    return codes


def nearest_directly(residual: Tensor, codebook: Tensor) -> Tensor:
    """What `nearest_code` computes, by the formula alone."""
    distances = torch.cdist(residual, codebook, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argmin(dim=1)


def squared_distances(residual: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances [B, M] less the residual's own square, by a matrix product, and margins.

    Returns:
        distances: [B, M] less |r|^2, which changes no comparison within a row.
        margins: [B]; two values of a row that differ by more are ordered as the direct
            formula orders them. Infinite or NaN where a value overflows.
    """
    squares = codebook.square().sum(dim=1)  # [M]
    distances = torch.addmm(squares, residual, codebook.T, alpha=-2)
    # Both formulas sum d products: each is off by less than (d + 4) half-ulps of the sum of
    # magnitudes, which (|r| + |e|)^2 bounds; twice for two values, twice for the two formulas,
    # and twice again for good measure. Numbers too small for a relative error add the rest.
    numbers = torch.finfo(residual.dtype)
    dim = residual.shape[1]
    reach = residual.norm(dim=1) + squares.max().sqrt()  # [B]
    return distances, 4 * (dim + 4) * (numbers.eps * reach.square() + numbers.tiny)


def _nearest_on_cpu(residual: Tensor, codebook: Tensor) -> Tensor:
    distances, margins = squared_distances(residual, codebook)
    least = distances.topk(min(2, len(codebook)), dim=1, largest=False)
    nearest = least.indices[:, 0].contiguous()
    # Written so that a NaN is unsure too.
    unsure = ~(least.values[:, -1] - least.values[:, 0] > margins)
    rows = unsure.nonzero()[:, 0]
    if len(rows):
        nearest[rows] = nearest_directly(residual[rows], codebook)
    return nearest
