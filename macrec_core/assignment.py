"""From a trained quantizer to unique semantic IDs."""

from __future__ import annotations

from torch import Tensor

from macrec_core.id_table import AssignedIds
from macrec_core.quantization.conflicts import make_unique
from macrec_core.quantization.measuring import encode_items
from macrec_core.quantization.rqvae import CrossModalRQVAE


def assign_ids(model: CrossModalRQVAE, modality: str, embeddings: Tensor) -> AssignedIds:
    """Nearest codes of embeddings [N, width] (Eq. 2), then conflict reassignment."""
    latents, nearest = encode_items(model, modality, embeddings)
    codebooks = model[modality].quantizer.codebooks.detach().numpy()
    unique = make_unique(latents.numpy(), codebooks, nearest.numpy())
    return AssignedIds(unique.codes, nearest.numpy(), unique.num_moved, unique.num_moved_above)
