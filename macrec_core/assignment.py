"""From a trained quantizer to unique semantic IDs."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from macrec_core.errors import MacrecError
from macrec_core.id_table import AssignedIds
from macrec_core.metrics import id_keys
from macrec_core.quantization.conflicts import make_unique
from macrec_core.quantization.measuring import encode_items
from macrec_core.quantization.rqvae import CrossModalRQVAE

Conflicts = Literal["reassign", "extra_level"]


def assign_ids(
    model: CrossModalRQVAE, modality: str, embeddings: Tensor, conflicts: Conflicts
) -> AssignedIds:
    """Nearest codes of embeddings [N, width] (Eq. 2), made unique.

    Args:
        model: the quantizer.
        modality: of the embeddings.
        embeddings: of every item.
        conflicts: `reassign` moves items to free IDs (`quantization.conflicts`); `extra_level`
            keeps the codes and adds a level, as `numbered` does.

    Raises:
        MacrecError: more items than IDs.
    """
    latents, found = encode_items(model, modality, embeddings)
    codebooks, nearest = model[modality].quantizer.codebooks.detach().numpy(), found.numpy()
    if conflicts == "extra_level":
        return numbered(nearest, codebooks.shape[1])
    unique = make_unique(latents.numpy(), codebooks, nearest)
    return AssignedIds(unique.codes, nearest, unique.num_moved, unique.num_moved_above)


def numbered(nearest: NDArray[np.int32], codebook_size: int) -> AssignedIds:
    """Codes [N, L] with one level more, which counts the items of equal codes from 0 in id order.

    As Rajput et al. (2023) make TIGER's IDs unique. Items with a number above 0 count as moved.

    Raises:
        MacrecError: more items of equal codes than a level has codes.
    """
    keys = id_keys(nearest, codebook_size)
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    number = np.empty(len(keys), dtype=np.int32)
    number[order] = np.arange(len(keys)) - np.searchsorted(ranked, ranked)
    if number.max() >= codebook_size:
        codes = nearest[number.argmax()].tolist()
        raise MacrecError(
            f"{number.max() + 1} items have the codes {codes}, and a level has only "
            f"{codebook_size} to number them; raise quant.codebook_size or quant.num_levels, or "
            "set ids.conflicts to 'reassign'"
        )
    codes = np.concatenate([nearest, number[:, None]], axis=1)
    return AssignedIds(codes, nearest, int((number > 0).sum()), 0)
