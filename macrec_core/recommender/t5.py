"""T5 (Raffel et al., 2020) on plain tensors: the network of the paper, written for speed.

The same function of the same weights as Hugging Face's `T5ForConditionalGeneration` (relu, tied
embeddings), with what a small model on short sequences needs: token rows without padding, fused
projections, matrix products in `Mode.dtype` around a residual stream in float32, and dropout
whose random numbers do not cost more than the matrix products. The tokens of a batch stand one
after another as rows [tokens, d].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from macrec_core.recommender.attention import attention, split_heads
from macrec_core.recommender.cross_attention import (
    Attended,
    encoder_rows,
    keys_values,
    project,
    rows_are_cheaper,
)
from macrec_core.recommender.kernels import (
    Dropout,
    add_residual,
    feed_forward,
    rms_norm,
    to_rows,
    to_slots,
)
from macrec_core.recommender.packing import Layout, Packed
from macrec_core.recommender.positions import NUM_BUCKETS, places_ahead, position_buckets
from macrec_core.recommender.visual import ItemImages, VisualTokens

PAD_ID, END_ID = 0, 1
START_ID = PAD_ID  # decoding starts with padding, as in every T5


@dataclass(frozen=True)
class T5Shape:
    """Sizes of the network.

    Attributes:
        vocabulary_size: tokens.
        d_model: width of the residual stream.
        d_kv: width of a head.
        d_ff: width of the feed-forward layer.
        num_layers: blocks of the encoder, and of the decoder.
        num_heads: H.
        dropout: rate while training.
    """

    vocabulary_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    dropout: float

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.num_heads * self.d_kv


@dataclass(frozen=True)
class Mode:
    """How a pass is computed.

    Attributes:
        dtype: of matrix products and what they read; sums and norms are float32.
        dropout: None for evaluation.
    """

    dtype: torch.dtype = torch.float32
    dropout: Dropout | None = None


EVALUATION = Mode()


@dataclass(frozen=True)
class Encoded:
    """What the encoder makes of packed sequences.

    Attributes:
        rows: [rows, d_model], after the final norm.
        layout: of the rows.
    """

    rows: Tensor
    layout: Layout


class Block(nn.Module):
    """Weights of one layer; `cross` adds the decoder's attention to the encoder's output."""

    def __init__(self, shape: T5Shape, cross: bool) -> None:
        super().__init__()
        d, inner = shape.d_model, shape.inner
        self.norm = nn.Parameter(torch.ones(d))
        self.qkv = nn.Parameter(torch.empty(3 * inner, d))
        self.out = nn.Parameter(torch.empty(d, inner))
        if cross:
            self.cross_norm = nn.Parameter(torch.ones(d))
            self.cross_q = nn.Parameter(torch.empty(inner, d))
            self.cross_kv = nn.Parameter(torch.empty(2 * inner, d))
            self.cross_out = nn.Parameter(torch.empty(d, inner))
        self.ff_norm = nn.Parameter(torch.ones(d))
        self.ff_in = nn.Parameter(torch.empty(shape.d_ff, d))
        self.ff_out = nn.Parameter(torch.empty(d, shape.d_ff))

    def attend_self(self, state: Tensor, layout: Layout, bias: Tensor, mode: Mode) -> Tensor:
        """Rows [rows, d] with self-attention added.

        Args:
            state: rows.
            layout: of the rows.
            bias: [H, S, S] of the longest sequence; shorter ones take its first places.
            mode: precision and dropout.
        """
        # Put into slots while they are narrow.
        normed = to_slots(rms_norm(state, self.norm, mode.dtype), layout)
        slots = project(normed, self.qkv)
        mixed = []
        for chunk, part in zip(layout.chunks, layout.parts(slots), strict=True):
            size, length = (chunk.count, chunk.length), chunk.length
            queries, keys, values = split_heads(part, size, 3, bias.shape[0])
            own = bias[:, :length, :length]
            mixed.append(attention(queries, keys, values, own, chunk.mask, mode.dropout))
        attended = to_rows(project(layout.joined(mixed), self.out), layout)
        return add_residual(state, attended, mode.dropout)

    def attend_encoded(self, state: Tensor, attended: Attended, places: int, mode: Mode) -> Tensor:
        """Rows [B * places, d] with attention to the encoder's output added.

        Args:
            state: rows.
            attended: what this layer attends to.
            places: queries of each sequence.
            mode: precision and dropout.
        """
        normed = rms_norm(state, self.cross_norm, mode.dtype)
        return add_residual(state, attended.attend(normed, places, mode.dropout), mode.dropout)

    def feed_forward(self, state: Tensor, mode: Mode) -> Tensor:
        """Rows [T, d] with the feed-forward layer added."""
        normed = rms_norm(state, self.ff_norm, mode.dtype)
        first, second = self.ff_in, self.ff_out
        if isinstance(first, nn.Module):  # frozen
            return state + project(first(normed, "relu"), second)
        output = feed_forward(normed, first.to(mode.dtype), second.to(mode.dtype), mode.dropout)
        return add_residual(state, output, mode.dropout)


class Stack(nn.Module):
    """Weights of the encoder or the decoder."""

    def __init__(self, shape: T5Shape, cross: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(shape, cross) for _ in range(shape.num_layers))
        self.position_bias = nn.Parameter(torch.empty(NUM_BUCKETS, shape.num_heads))
        self.norm = nn.Parameter(torch.ones(shape.d_model))

    @property
    def layers(self) -> list[Block]:
        """The blocks, which torch types as modules of any kind."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def bias(self, length: int, bidirectional: bool) -> Tensor:
        """Position bias [H, length, length] of self-attention; -inf where a token is ahead."""
        device = self.position_bias.device
        buckets = position_buckets(length, bidirectional, device)
        bias = functional.embedding(buckets, self.position_bias).permute(2, 0, 1)
        return bias if bidirectional else bias.masked_fill(places_ahead(length, device), -torch.inf)


class T5(nn.Module):
    """Encoder, decoder and one embedding for both and for the output.

    Args:
        shape: sizes.
        images: of every item, for sources that hold visual tokens.
    """

    def __init__(self, shape: T5Shape, images: ItemImages | None = None) -> None:
        super().__init__()
        self.shape = shape
        # Of the inputs of both stacks and of the output.
        self.embedding = nn.Parameter(torch.empty(shape.vocabulary_size, shape.d_model))
        self.encoder = Stack(shape, cross=False)
        self.decoder = Stack(shape, cross=True)
        self.output: nn.Module | None = None  # of a frozen model, instead of the embedding
        # Last, so that weights without it are drawn as those with it.
        self.visual: nn.Module | None = None
        if images is not None:
            self.visual = VisualTokens(images, shape.d_model)

    @torch.no_grad()
    def initialise(self, draws: torch.Generator) -> None:
        """Random weights as T5 starts from: normal, of deviation width ** -0.5 of what they read.

        Queries are smaller by the width of a head, which is T5's substitute for scaling the
        attention; the embedding has deviation 1. Norms are left at one.

        Args:
            draws: CPU generator.
        """
        shape, width = self.shape, self.shape.d_model**-0.5
        deviations = {
            "position_bias": width,
            "cross_q": width * shape.d_kv**-0.5,
            "cross_kv": width,
            "out": shape.inner**-0.5,
            "cross_out": shape.inner**-0.5,
            "ff_in": width,
            "ff_out": shape.d_ff**-0.5,
            "embedding": 1.0,
            "qkv": width,
        }
        for path, weight in self.named_parameters():
            name = path.rsplit(".", 1)[-1]
            if name in deviations:
                weight.normal_(0.0, deviations[name], generator=draws)
            if name == "qkv":
                weight[: shape.inner] *= shape.d_kv**-0.5
        if isinstance(self.visual, VisualTokens):
            self.visual.initialise(draws)

    def input_rows(self) -> Tensor:
        """What ids of a source stand for: rows [vocabulary, d_model], then visual tokens'."""
        visual = self.visual
        return self.embedding if visual is None else torch.cat([self.embedding, visual()])

    def encode(self, source: Packed, mode: Mode = EVALUATION) -> Encoded:
        """Encode packed token ids."""
        layout = source.layout
        state = dropped(functional.embedding(source.tokens, self.input_rows()), mode)
        bias = self.encoder.bias(max(chunk.length for chunk in layout.chunks), bidirectional=True)
        for block in self.encoder.layers:
            state = block.attend_self(state, layout, bias, mode)
            state = block.feed_forward(state, mode)
        return Encoded(dropped(rms_norm(state, self.encoder.norm, mode.dtype), mode), layout)

    def decode(self, encoded: Encoded, tokens: Tensor, mode: Mode = EVALUATION) -> Tensor:
        """Logits [B * T, vocabulary] float32 after decoder inputs [B, T]."""
        layout = Layout.dense(*tokens.shape)
        state = dropped(functional.embedding(tokens.flatten(), self.embedding), mode)
        bias = self.decoder.bias(tokens.shape[1], bidirectional=False)
        places = tokens.shape[1]
        across = self._across(encoded, places)
        for block, attended in zip(self.decoder.layers, across, strict=True):
            state = block.attend_self(state, layout, bias, mode)
            state = block.attend_encoded(state, attended, places, mode)
            state = block.feed_forward(state, mode)
        return self.logits(dropped(rms_norm(state, self.decoder.norm, mode.dtype), mode))

    def _across(self, encoded: Encoded, places: int) -> Sequence[Attended]:
        """What each decoder layer attends to, with so many queries of each sequence."""
        shape, layers = self.shape, self.decoder.layers
        found = encoded.rows, encoded.layout, shape.num_heads
        # A frozen model has only what the weights are multiplied with left of them.
        frozen = self.output is not None
        if frozen or not rows_are_cheaper(encoded.layout, places, shape.d_model, shape.d_kv):
            return keys_values(layers, *found)
        return encoder_rows(layers, *found)

    def logits(self, rows: Tensor) -> Tensor:
        """Logits [T, vocabulary] float32 of final decoder rows [T, d_model]."""
        # With tied embeddings T5 scales down what it multiplies them by.
        weight = self.embedding if self.output is None else self.output
        logits: Tensor = project(rows * self.shape.d_model**-0.5, weight).float()
        return logits


def dropped(rows: Tensor, mode: Mode) -> Tensor:
    """Rows after dropout."""
    return rows if mode.dropout is None else mode.dropout.apply(rows)


def parameter_count(model: nn.Module) -> int:
    """Number of trained values, shared ones counted once."""
    return sum(p.numel() for p in model.parameters())
