"""The terms of the quantizer's objective, one function an equation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from macrec_core.contrastive import Similarity, info_nce, uniformity

Reduction = Literal["sum", "mean"]


def draw_positives(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each item another item of the batch with the same pseudo-label, drawn uniformly.

    Args:
        labels: [B] int64 pseudo-labels of the *other* modality.
        generator: CPU generator.

    Returns:
        positives: [B] int64 batch rows; an item that has no partner is its own positive.
        found: [B] bool, whether it has one.
    """
    device, labels = labels.device, labels.cpu()
    size = len(labels)
    order = torch.argsort(labels, stable=True)
    _, counts = torch.unique_consecutive(labels[order], return_counts=True)
    group_size = counts.repeat_interleave(counts)  # [B], in sorted order
    group_start = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.arange(size) - group_start
    # One of the other g - 1 members: draw a place among them and step over oneself.
    draw = (torch.rand(size, generator=generator) * (group_size - 1)).long()
    other = draw + (draw >= place).long()
    found_sorted = group_size > 1
    partner = torch.where(found_sorted, group_start + other, torch.arange(size))
    positives, found = torch.empty_like(order), torch.empty_like(found_sorted)
    positives[order] = order[partner]
    found[order] = found_sorted
    return positives.to(device), found.to(device)


def contrastive_loss(
    residuals: Tensor, positives: Tensor, temperature: float, similarity: Similarity
) -> Tensor:
    """L_con of one level and direction (Eq. 4 or 5).

    Args:
        residuals: [B, d], r_l of one modality, with gradient to its encoder.
        positives: [B] from `draw_positives` on the other modality's pseudo-labels.
        temperature: tau.
        similarity: see `info_nce`.
    """
    return info_nce(residuals, residuals, positives, temperature, similarity)


def uniformity_loss(residuals: Tensor, temperature: float, similarity: Similarity) -> Tensor:
    """L_con of one level and modality without attraction: merely pushing items apart.

    The control for what the pseudo-labels bring: same residuals, levels, weights and temperature,
    nothing to be drawn to. `positives: self` looks like the closer one, since only the positive's
    index changes, but with the inner product of Eqs. 4-5 its attraction is to the item's own
    norm: growing norms satisfy it without pushing anybody apart. So with inner products this is
    the cleaner control; what it lacks beside the attraction is the item itself in the
    denominator, which shrinks norms, so that only the reconstruction bounds them. With cosines an
    item's own similarity is constant, `self` is an increasing function of each item's term here,
    and both push alike.

    Args:
        residuals: [B, d], r_l of one modality, with gradient to its encoder.
        temperature: tau.
        similarity: see `info_nce`.
    """
    return uniformity(residuals, temperature, similarity)


def alignment_loss(
    first: Tensor, second: Tensor, temperature: float, similarity: Similarity
) -> Tensor:
    """L_align of one ordered pair of modalities (Eq. 7 or 8).

    Args:
        first: [B, d] quantized latents of the anchors' modality.
        second: [B, d] of the other modality, the same items in the same rows.
        temperature: tau.
        similarity: see `info_nce`.
    """
    same_item = torch.arange(len(first), device=first.device)
    return info_nce(first, second, same_item, temperature, similarity)


def collaborative_loss(
    quantized: Tensor, collaborative: Tensor, temperature: float, similarity: Similarity
) -> Tensor:
    """L_CF of LETTER (Wang et al., 2024): quantized latents against collaborative embeddings.

    Args:
        quantized: [B, d] quantized latents, the anchors.
        collaborative: [B, d] collaborative embeddings of the same items in the same rows; no
            layer maps them, so their width is the latent's, as in the paper.
        temperature: 1 in the paper, which has none.
        similarity: inner product in the paper.
    """
    same_item = torch.arange(len(quantized), device=quantized.device)
    return info_nce(quantized, collaborative, same_item, temperature, similarity)


def diversity_loss(
    codebook: Tensor,
    codes: Tensor,
    partners: Tensor,
    temperature: float,
    similarity: Similarity,
) -> Tensor:
    """L_Div of LETTER (Wang et al., 2024), of one level.

    Each item's code is drawn to a random code of its cluster and pushed from all others of the
    codebook but itself.

    Args:
        codebook: [M, d], with gradient.
        codes: [B] int64, the item's code.
        partners: [B] int64, another code of the code's cluster.
        temperature: 1 in the paper, which has none.
        similarity: inner product in the paper.
    """
    return info_nce(
        codebook.index_select(0, codes), codebook, partners, temperature, similarity, left_out=codes
    )


def reconstruction_loss(target: Tensor, output: Tensor, reduction: Reduction) -> Tensor:
    """L_recon (Eq. 10): squared norm of the error [B, width], averaged over the batch."""
    return _squared_error(target, output, reduction)


def codebook_loss(residuals: Tensor, vectors: Tensor, reduction: Reduction) -> Tensor:
    """First term of L_rq (Eq. 11), [L, B, d] each: moves the codes towards the residuals."""
    return _over_levels(residuals.detach(), vectors, reduction)


def commitment_loss(residuals: Tensor, vectors: Tensor, reduction: Reduction) -> Tensor:
    """Second term of L_rq (Eq. 11) without alpha: moves the latents towards the codes."""
    return _over_levels(residuals, vectors.detach(), reduction)


def _over_levels(residuals: Tensor, vectors: Tensor, reduction: Reduction) -> Tensor:
    levels = [_squared_error(r, e, reduction) for r, e in zip(residuals, vectors, strict=True)]
    return torch.stack(levels).sum()


def _squared_error(target: Tensor, output: Tensor, reduction: Reduction) -> Tensor:
    squares: Tensor = _SquaredNorms.apply(target, output)  # [B]
    return squares.mean() if reduction == "sum" else squares.mean() / target.shape[1]


class _SquaredNorms(torch.autograd.Function):
    """Squared norms [B] of the differences of rows [B, width].

    As `(target - output).square().sum(dim=1)`, but the difference is all that is ever written,
    forward and backward; at the width of an embedding that is a third of the memory traffic.
    """

    @staticmethod
    def forward(ctx: Any, target: Tensor, output: Tensor) -> Tensor:
        difference = output - target
        ctx.save_for_backward(difference)
        norms: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return norms.square()

    @staticmethod
    def backward(
        ctx: Any,
        gradient: Tensor,
    ) -> tuple[Tensor | None, Tensor | None]:
        (difference,) = ctx.saved_tensors
        by_output = difference * (2 * gradient)[:, None]
        needs_target, needs_output = ctx.needs_input_grad
        return -by_output if needs_target else None, by_output if needs_output else None
