"""The decoder's attention to the encoder's output, its products in the cheaper order.

The scores (x Wq^T)(e Wk^T)^T of decoder rows x and encoder rows e are (x Wq^T Wk) e^T as well,
and what is mixed follows the same rule with Wv and the output's weight. The first order makes
keys and values of every encoder row: right for decoding, where the beams of a history share
them. The second multiplies weights with each other and lets queries attend to the encoder's rows
themselves: with the few tokens that a target has it needs fewer operations, and no keys and
values are made, moved and split into heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.recommender.attention import attention, split_heads
from macrec_core.recommender.kernels import Dropout, to_slots
from macrec_core.recommender.packing import Layout, concatenated


class CrossWeights(Protocol):
    """Weights of one decoder layer.

    Attributes:
        cross_q: [H * w, d], of the queries; a module that multiplies by it in a frozen model.
        cross_kv: [2 * H * w, d], of keys and values.
        cross_out: [d, H * w], of the output; or a module likewise.
    """

    @property
    def cross_q(self) -> Tensor | nn.Module: ...
    @property
    def cross_kv(self) -> Tensor: ...
    @property
    def cross_out(self) -> Tensor | nn.Module: ...


class Attended(Protocol):
    """What one decoder layer attends to."""

    def attend(self, rows: Tensor, places: int, dropout: Dropout | None) -> Tensor:
        """What attention adds to decoder rows.

        Args:
            rows: [B * T, d], normed.
            places: T.
            dropout: of the attention weights; None for none.

        Returns:
            [B * T, d].
        """
        ...


@dataclass(frozen=True)
class KeysValues:
    """Keys and values of the encoder's rows.

    Attributes:
        weights: of the layer.
        chunks: keys and values [B, H, S, w], and mask [B, S] or None, of each chunk of sequences.
    """

    weights: CrossWeights
    chunks: Sequence[tuple[Tensor, Tensor, Tensor | None]]

    def attend(self, rows: Tensor, places: int, dropout: Dropout | None) -> Tensor:
        """See `Attended`."""
        counts = [len(keys) for keys, _, _ in self.chunks]
        parts = project(rows, self.weights.cross_q).split([count * places for count in counts])
        mixed = []
        for (keys, values, mask), count, part in zip(self.chunks, counts, parts, strict=True):
            (queries,) = split_heads(part, (count, places), 1, keys.shape[1])
            mixed.append(attention(queries, keys, values, None, mask, dropout))
        return project(concatenated(mixed), self.weights.cross_out)


@dataclass(frozen=True)
class EncoderRows:
    """The encoder's rows themselves; a query and head attends as one query of d features.

    Attributes:
        weights: of the layer.
        num_heads: H.
        chunks: rows [B, 1, S, d], and mask [B, S] or None, of each chunk of sequences.
    """

    weights: CrossWeights
    num_heads: int
    chunks: Sequence[tuple[Tensor, Tensor | None]]

    def attend(self, rows: Tensor, places: int, dropout: Dropout | None) -> Tensor:
        """See `Attended`."""
        d, heads, weights = rows.shape[1], self.num_heads, self.weights
        assert isinstance(weights.cross_q, Tensor)  # not frozen: the weights themselves are
        assert isinstance(weights.cross_out, Tensor)  # multiplied
        query = weights.cross_q.to(rows.dtype).view(heads, -1, d)
        key, value = weights.cross_kv.to(rows.dtype).view(2, heads, -1, d)
        out = weights.cross_out.to(rows.dtype).view(d, heads, -1)
        inward = (key.transpose(1, 2) @ query).reshape(heads * d, d)
        outward = (out.transpose(0, 1) @ value).transpose(0, 1).reshape(d, heads * d)
        parts = project(rows, inward).split([len(found) * places for found, _ in self.chunks])
        mixed = []
        for (found, mask), part in zip(self.chunks, parts, strict=True):
            queries = part.view(len(found), 1, places * heads, d)
            mixed.append(attention(queries, found, found, None, mask, dropout))
        return project(concatenated([part.view(-1, heads * d) for part in mixed]), outward)


def keys_values(
    layers: Sequence[CrossWeights], rows: Tensor, layout: Layout, num_heads: int
) -> list[KeysValues]:
    """Keys and values for every decoder layer.

    Args:
        layers: weights of the layers.
        rows: [rows, d], the encoder's output.
        layout: of the rows.
        num_heads: H.
    """
    # One product for all layers: they read the same rows.
    weights = torch.cat([layer.cross_kv for layer in layers])
    slots = project(to_slots(rows, layout), weights)
    chunks: list[list[tuple[Tensor, Tensor, Tensor | None]]] = [[] for _ in layers]
    for chunk, part in zip(layout.chunks, layout.parts(slots), strict=True):
        split = split_heads(part, (chunk.count, chunk.length), 2 * len(layers), num_heads)
        for layer, found in enumerate(chunks):
            found.append((split[2 * layer], split[2 * layer + 1], chunk.mask))
    return [KeysValues(*pair) for pair in zip(layers, chunks, strict=True)]


def encoder_rows(
    layers: Sequence[CrossWeights], rows: Tensor, layout: Layout, num_heads: int
) -> list[EncoderRows]:
    """The encoder's output for every decoder layer; arguments as of `keys_values`."""
    chunks = [
        (part.view(chunk.count, 1, chunk.length, -1), chunk.mask)
        for chunk, part in zip(layout.chunks, layout.parts(to_slots(rows, layout)), strict=True)
    ]
    return [EncoderRows(layer, num_heads, chunks) for layer in layers]


def rows_are_cheaper(layout: Layout, places: int, d_model: int, d_kv: int) -> bool:
    """Whether `encoder_rows` takes fewer multiplications than `keys_values`, forwards.

    Args:
        layout: of the encoder's rows.
        places: T, queries of a sequence.
        d_model: d.
        d_kv: w.
    """
    queries = layout.count * places
    slots = sum(chunk.slots for chunk in layout.chunks)
    # Of one head, halved: projections of the queries and of what is mixed, scores and mixing,
    # and here the weights with each other, there keys and values.
    by_rows = queries * d_model**2 + places * slots * d_model + d_kv * d_model**2
    by_keys = queries * d_model * d_kv + places * slots * d_kv + slots * d_model * d_kv
    return by_rows < by_keys


def project(rows: Tensor, weight: Tensor | nn.Module) -> Tensor:
    """Rows [T, in] times weight [out, in], in the rows' precision.

    Args:
        rows: what to project.
        weight: or a module that multiplies by one (`frozen`).
    """
    if isinstance(weight, nn.Module):
        product: Tensor = weight(rows)
        return product
    return functional.linear(rows, weight.to(rows.dtype))
