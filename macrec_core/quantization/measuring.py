"""What a quantizer makes of the whole catalogue: codes, collisions, signs of collapse."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from macrec_core.metrics import codebook_use, collision_rate
from macrec_core.quantization.nearest import nearest_codes
from macrec_core.quantization.residual import Quantized
from macrec_core.quantization.rqvae import CrossModalRQVAE

if TYPE_CHECKING:
    from macrec_core.params.quantizer import QuantParams

log = logging.getLogger(__name__)

# Beyond it the log speaks of collapse: a contrastive term that wins over the reconstruction
# leaves most of the variance unexplained (.8 and more where it was seen).
_COLLAPSED_UNEXPLAINED = 0.7
# Items encoded at a time.
_ROWS = 8192
# A level that uses a smaller share of its codes is named in the log.
_LITTLE_USED = 0.5


def total_variance(standardised: Tensor) -> float:
    """Sum of squares of embeddings [N, width] about their mean."""
    return float((standardised - standardised.mean(dim=0)).double().square().sum())


@torch.no_grad()
def measure(
    model: CrossModalRQVAE,
    standardised: Mapping[str, Tensor],
    variances: Mapping[str, float],
    params: QuantParams,
    autocast: torch.dtype | None = None,
) -> dict[str, float]:
    """Collision rate, unexplained variance and codebook use over the whole catalogue.

    Codes are computed as assignment computes them, in float32 whatever training uses.

    Args:
        model: put into evaluation mode.
        standardised: per modality [N, width].
        variances: `total_variance` of each.
        params: of the model.
        autocast: type of the decoders' matrix products.
    """
    model.eval()
    values: dict[str, float] = {}
    for name, embeddings in standardised.items():
        errors, codes = 0.0, []
        for chunk in embeddings.split(_ROWS):
            quantized: Quantized = model[name].quantizer(model[name].encode(chunk))
            output = model[name].decode(quantized, autocast)
            errors += float((chunk - output).double().square().sum())
            codes.append(quantized.codes.cpu())
        array = torch.cat(codes).int().numpy()
        values[f"collision_rate_{name}"] = collision_rate(array)
        values[f"unexplained_{name}"] = errors / variances[name] if variances[name] else 0.0
        for level, used in enumerate(codebook_use(array, params.codebook_size)):
            values[f"use_{name}_{level}"] = used
    return values


@torch.no_grad()
def encode_items(
    model: CrossModalRQVAE, modality: str, embeddings: Tensor
) -> tuple[Tensor, Tensor]:
    """Latents [N, d] and nearest codes [N, L] int32 (Eq. 2) of raw embeddings [N, width]."""
    part = model[modality]
    # Filled in place: lists of parts would hold everything twice.
    latents = torch.empty(len(embeddings), part.quantizer.codebooks.shape[2])
    for start in range(0, len(embeddings), _ROWS):
        chunk = part.standardise(embeddings[start : start + _ROWS])
        latents[start : start + _ROWS] = part.encode(chunk)
    return latents, nearest_codes(latents, part.quantizer.codebooks)


def warn_of_collapse(row: Mapping[str, float], modalities: list[str], num_levels: int) -> None:
    """Log a warning for each modality whose last measured values look like a collapse."""
    for name in modalities:
        unexplained = row[f"unexplained_{name}"]
        idle = [
            f"level {level}: {100 * row[f'use_{name}_{level}']:.0f} %"
            for level in range(num_levels)
            if row[f"use_{name}_{level}"] < _LITTLE_USED
        ]
        if unexplained > _COLLAPSED_UNEXPLAINED:
            log.warning(
                "%s: the quantizer looks collapsed: %.0f %% of the variance unexplained; lower "
                "quant.lambda_con or see quant.reduction", name, 100 * unexplained,
            )  # fmt: skip
        if idle:
            log.warning(
                "%s: few codes in use (%s); lower quant.codebook_size, train longer or in "
                "smaller batches", name, ", ".join(idle),
            )  # fmt: skip
