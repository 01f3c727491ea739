"""T5's attention and the forms that it takes its inputs in.

Products, and so the scores, are of the inputs' precision; bias and softmax are float32. What the
backward pass reads and writes, the attention weights among it, is of the inputs' precision again.
It is one function because written out in single operations it makes many passes over memory:
that cost a tenth of a training step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from macrec_core.recommender.kernels import Dropout


class _SplitHeads(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        size: tuple[int, int],
        parts: int,
        num_heads: int,
    ) -> tuple[Tensor, ...]:
        ctx.shape = (*size, parts, num_heads, rows.shape[1] // (parts * num_heads))
        split = rows.view(ctx.shape).permute(2, 0, 3, 1, 4)  # [parts, B, H, S, w]
        return tuple(part.contiguous() for part in split)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        # Straight to its place: autograd would first stack the parts, then transpose them.
        rows = gradients[0].new_empty(ctx.shape)
        for part, gradient in enumerate(gradients):
            rows[:, :, part] = gradient.transpose(1, 2)
        return rows.view(ctx.shape[0] * ctx.shape[1], -1), None, None, None


def split_heads(
    rows: Tensor, size: tuple[int, int], parts: int, num_heads: int
) -> tuple[Tensor, ...]:
    """Rows [B * S, parts * H * w] as `parts` tensors [B, H, S, w].

    Args:
        rows: projections side by side.
        size: (B, S).
        parts: projections.
        num_heads: H.
    """
    split: tuple[Tensor, ...] = _SplitHeads.apply(rows, size, parts, num_heads)
    return split


def merge_heads(mixed: Tensor) -> Tensor:
    """[B, H, S, w] as rows [B * S, H * w]."""
    batch, heads, length, width = mixed.shape
    return mixed.transpose(1, 2).reshape(batch * length, heads * width)


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        dropout: Dropout | None,
    ) -> Tensor:
        scores = (queries @ keys.transpose(2, 3)).float()  # [B, H, T, S]
        if bias is not None:
            scores += bias
        if mask is not None:
            scores.masked_fill_(~mask[:, None, None, :], -torch.inf)
        weights = scores.softmax(dim=-1).to(values.dtype)
        kept, drawn, ctx.scale = weights, None, 1.0
        if dropout is not None:
            drawn, ctx.scale = dropout.mask(weights.shape, weights.dtype), dropout.scale
            kept = weights * drawn
        mixed = kept @ values
        ctx.biased = bias is not None
        ctx.save_for_backward(queries, keys, values, weights, kept, drawn)
        return merge_heads(mixed if dropout is None else mixed.mul_(ctx.scale))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights, kept, drawn = ctx.saved_tensors
        batch, heads, places, _ = queries.shape
        back = gradient.view(batch, places, heads, -1).transpose(1, 2)  # [B, H, T, w]
        back = back.contiguous() if drawn is None else back * ctx.scale
        for_values = kept.transpose(2, 3) @ back
        for_weights = back @ values.transpose(2, 3)
        if drawn is not None:
            for_weights *= drawn
        for_scores = torch.ops.aten._softmax_backward_data(for_weights, weights, -1, weights.dtype)
        return (
            for_scores @ keys,
            for_scores.transpose(2, 3) @ queries,
            for_values,
            for_scores.sum(dim=0, dtype=torch.float32) if ctx.biased else None,
            None,
            None,
        )


def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    dropout: Dropout | None,
) -> Tensor:
    """T5's attention, which does not scale by the width of a head.

    Args:
        queries: [B, H, T, w].
        keys: [B, H, S, w].
        values: [B, H, S, w].
        bias: [H, T, S] float32, or None.
        mask: [B, S] bool, False where a key is padding; None for no padding.
        dropout: of the attention weights; None for none.

    Returns:
        Rows [B * T, H * w].
    """
    mixed: Tensor = _Attention.apply(queries, keys, values, bias, mask, dropout)
    return mixed
