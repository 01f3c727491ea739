"""InfoNCE, shared by the quantizer's and the recommender's alignment terms."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Similarity = Literal["inner_product", "cosine"]


def info_nce(
    anchors: Tensor,
    candidates: Tensor,
    positives: Tensor,
    temperature: float,
    similarity: Similarity,
    left_out: Tensor | None = None,
) -> Tensor:
    """InfoNCE (van den Oord et al., 2018), the common form of Eqs. 4-5, 7-8 and 16-17.

    Args:
        anchors: [B, d].
        candidates: [C, d], all of them in the denominator.
        positives: [B] int64, the row of `candidates` that is positive for each anchor.
        temperature: tau.
        similarity: inner product as the equations write it, or cosine.
        left_out: [B] int64, a row of `candidates` that is no candidate for the anchor, if any.

    Returns:
        Mean over the anchors, a scalar.
    """
    logits = _logits(anchors, candidates, temperature, similarity)
    if left_out is not None:
        logits = logits.scatter(1, left_out[:, None], -torch.inf)
    return functional.cross_entropy(logits, positives)


def uniformity(points: Tensor, temperature: float, similarity: Similarity) -> Tensor:
    """The half of InfoNCE that pushes apart (Wang and Isola, 2020), of points among themselves.

    log sum exp over the *other* points of similarity / temperature: no point is drawn to any. A
    single point has no other and counts 0.

    Args:
        points: [B, d].
        temperature: tau.
        similarity: inner product or cosine.

    Returns:
        Mean over the points, a scalar.
    """
    if len(points) < 2:
        return points.sum() * 0.0
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    logits = _logits(points, points, temperature, similarity).masked_fill(itself, -torch.inf)
    return logits.logsumexp(dim=1).mean()


def _logits(
    anchors: Tensor, candidates: Tensor, temperature: float, similarity: Similarity
) -> Tensor:
    """Similarities [B, C] divided by the temperature, in float32."""
    if similarity == "cosine":
        anchors = functional.normalize(anchors, dim=1)
        candidates = functional.normalize(candidates, dim=1)
    return ((anchors / temperature) @ candidates.T).float()  # scaled while it is small
