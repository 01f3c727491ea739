"""Residual quantization: one codebook a level, each quantizing what the last one left over.

The loop of Lee et al. (2022), Eqs. 2-3 of the paper. The trap is in the residual: it must be
computed with the *detached* code vector. With the straight-through vector instead, as in the
released code, the gradient of every residual beyond the first is exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from macrec_core.quantization.kmeans import kmeans_centres
from macrec_core.quantization.nearest import nearest_code


@dataclass(frozen=True)
class Quantized:
    """What residual quantization makes of a batch of latents.

    Attributes:
        codes: [B, L] int64, nearest code at each level (Eq. 2).
        residuals: [L, B, d], r_l before level l quantizes it; r_0 is the latent.
        vectors: [L, B, d], the chosen code vectors e_l.
        last_residual: [B, d], what is left after the last level.
    """

    codes: Tensor
    residuals: Tensor
    vectors: Tensor
    last_residual: Tensor

    @property
    def latent(self) -> Tensor:
        """The encoder's output [B, d]."""
        return self.residuals[0]

    @property
    def straight_through(self) -> Tensor:
        """Sum of the code vectors [B, d]; its gradient goes to the latent alone."""
        return self.latent + (self.vectors.sum(dim=0) - self.latent).detach()

    @property
    def shared_gradient(self) -> Tensor:
        """Sum of the code vectors [B, d]; its gradient goes to the latent and to the codes."""
        return self.vectors.sum(dim=0) + (self.latent - self.latent.detach())


class ResidualQuantizer(nn.Module):
    """L codebooks of M vectors applied one after another.

    Attributes:
        codebooks: [L, M, d] parameter.
    """

    def __init__(
        self,
        num_levels: int,
        codebook_size: int,
        dim: int,
        residual_gradient: Literal["flows", "blocked"],
    ) -> None:
        super().__init__()
        # Replaced by k-means before training; of this size so that an untrained model works.
        self.codebooks = nn.Parameter(torch.randn(num_levels, codebook_size, dim) * dim**-0.5)
        self.residual_gradient = residual_gradient

    def forward(self, latent: Tensor) -> Quantized:
        """Quantize latents [B, d] (Eqs. 2-3)."""
        residual = latent
        codes, residuals, vectors = [], [], []
        for codebook in self.codebooks:
            nearest = nearest_code(residual.detach(), codebook.detach())  # [B]
            # index_select, not codebook[nearest]: the backward of indexing is slower and, on a
            # GPU, not deterministic.
            vector = codebook.index_select(0, nearest)  # [B, d]
            codes.append(nearest)
            residuals.append(residual)
            vectors.append(vector)
            residual = self._next_residual(residual, vector)
        return Quantized(
            torch.stack(codes, dim=1), torch.stack(residuals), torch.stack(vectors), residual
        )

    @torch.no_grad()
    def initialise(self, latent: Tensor, iterations: int, generator: torch.Generator) -> None:
        """Start every codebook from k-means on the residuals of a batch [B, d]."""
        residual = latent
        for codebook in self.codebooks:
            centres = kmeans_centres(residual, len(codebook), iterations, generator)
            codebook.copy_(centres)
            residual = residual - centres[nearest_code(residual, centres)]

    def _next_residual(self, residual: Tensor, vector: Tensor) -> Tensor:
        if self.residual_gradient == "flows":
            return residual - vector.detach()
        # The released code's r - straight_through(r): same value, gradient zero.
        return residual - (residual + (vector - residual).detach())
