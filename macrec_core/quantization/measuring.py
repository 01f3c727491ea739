"""What a quantizer makes of the whole catalogue: codes, collisions, signs of collapse."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from macrec_core.metrics import codebook_use, collision_rate
from macrec_core.quantization.residual import Quantized
from macrec_core.quantization.rqvae import CrossModalRQVAE

if TYPE_CHECKING:
    from macrec_core.params import QuantParams

log = logging.getLogger(__name__)

# Beyond it the log speaks of collapse: a contrastive term that wins over the reconstruction
# leaves most of the variance unexplained (.8 and more where it was seen).
_COLLAPSED_UNEXPLAINED = 0.7
# A level that uses a smaller share of its codes is named in the log.
_LITTLE_USED = 0.5


@torch.no_grad()
def measure(
    model: CrossModalRQVAE, standardised: Mapping[str, Tensor], params: QuantParams
) -> dict[str, float]:
    """Collision rate, unexplained variance and codebook use over the whole catalogue."""
    model.eval()
    values: dict[str, float] = {}
    for name, embeddings in standardised.items():
        errors, codes = 0.0, []
        for chunk in embeddings.split(8192):
            quantized, output = model[name](chunk)
            errors += float((chunk - output).double().square().sum())
            codes.append(quantized.codes.cpu())
        centred = embeddings - embeddings.mean(dim=0)
        variance = float(centred.double().square().sum())
        array = torch.cat(codes).int().numpy()
        values[f"collision_rate_{name}"] = collision_rate(array)
        values[f"unexplained_{name}"] = errors / variance if variance else 0.0
        for level, used in enumerate(codebook_use(array, params.codebook_size)):
            values[f"use_{name}_{level}"] = used
    return values


@torch.no_grad()
def encode_items(
    model: CrossModalRQVAE, modality: str, embeddings: Tensor
) -> tuple[Tensor, Tensor]:
    """Latents [N, d] and nearest codes [N, L] (Eq. 2) of raw embeddings [N, width]."""
    part = model[modality]
    latents, codes = [], []
    for chunk in embeddings.split(8192):
        quantized: Quantized = part.quantizer(part.encode(part.standardise(chunk)))
        latents.append(quantized.latent)
        codes.append(quantized.codes)
    return torch.cat(latents), torch.cat(codes)


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
