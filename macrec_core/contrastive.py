"""InfoNCE, shared by the quantizer's and the recommender's alignment terms."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

Similarity = Literal["inner_product", "cosine"]


def info_nce(
    anchors: Tensor,
    candidates: Tensor,
    positives: Tensor,
    temperature: float,
    similarity: Similarity,
) -> Tensor:
    """InfoNCE (van den Oord et al., 2018), the common form of Eqs. 4-5, 7-8 and 16-17.

    Args:
        anchors: [B, d].
        candidates: [C, d], all of them in the denominator.
        positives: [B] int64, the row of `candidates` that is positive for each anchor.
        temperature: tau.
        similarity: inner product as the equations write it, or cosine.

    Returns:
        Mean over the anchors, a scalar.
    """
    if similarity == "cosine":
        anchors = functional.normalize(anchors, dim=1)
        candidates = functional.normalize(candidates, dim=1)
    logits = (anchors / temperature) @ candidates.T  # [B, C]; scaled while it is small
    return functional.cross_entropy(logits.float(), positives)
