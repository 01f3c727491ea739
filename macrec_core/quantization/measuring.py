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

# Below these a modality counts as collapsed, and the log says so (method: a contrastive term
# that wins over the reconstruction leaves most of the variance unexplained).
_COLLAPSED_UNEXPLAINED = 0.7
_COLLAPSED_USE = 0.1


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


def warn_of_collapse(row: Mapping[str, float], modalities: list[str]) -> None:
    """Log a warning for each modality whose last measured values look like a collapse."""
    for name in modalities:
        unexplained, used = row[f"unexplained_{name}"], row[f"use_{name}_0"]
        if unexplained > _COLLAPSED_UNEXPLAINED or used < _COLLAPSED_USE:
            log.warning(
                "%s: the quantizer looks collapsed: %.0f %% of the variance unexplained, %.0f %% "
                "of the first codebook in use; lower quant.lambda_con or see quant.reduction",
                name, 100 * unexplained, 100 * used,
            )  # fmt: skip
