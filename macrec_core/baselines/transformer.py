"""The transformer of the sequence models: post-norm blocks with GELU, as in BERT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_NORM_EPSILON = 1e-12
_INITIAL_STD = 0.02


@dataclass(frozen=True)
class Shape:
    """Sizes of a sequence model.

    Attributes:
        num_items: N.
        hidden_size: d.
        num_layers: blocks.
        inner_size: width of the feed-forward layer.
        dropout: of embeddings, attention and both sublayers' outputs.
        max_history: T, positions.
    """

    num_items: int
    hidden_size: int
    num_layers: int
    inner_size: int
    dropout: float
    max_history: int


class Block(nn.Module):
    """Self-attention and feed-forward layer, each added and normalised."""

    def __init__(self, shape: Shape, num_heads: int) -> None:
        super().__init__()
        width = shape.hidden_size
        self.num_heads, self.dropout = num_heads, shape.dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, _NORM_EPSILON)
        self.inner = nn.Linear(width, shape.inner_size)
        self.outer = nn.Linear(shape.inner_size, width)
        self.norm = nn.LayerNorm(width, _NORM_EPSILON)

    def forward(self, states: Tensor, closed: Tensor) -> Tensor:
        """States [B, T, d] after states [B, T, d].

        Args:
            states: of every place.
            closed: [B or 1, 1, T or 1, T] bool, whether a place (third) must not see another
                (last).
        """
        return self.fed(self.attended(states, closed))

    def attended(self, states: Tensor, closed: Tensor) -> Tensor:
        """The first half: after self-attention."""
        size, length, _ = states.shape
        heads = self.qkv(states).view(size, length, 3, self.num_heads, -1)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)  # [B, H, T, w]
        mixed = self.out(attend(queries, keys, values, closed, self.drop))
        output: Tensor = self.attention_norm(states + self.drop(mixed))
        return output

    def fed(self, states: Tensor) -> Tensor:
        """The second half: after the feed-forward layer."""
        inner = self.outer(functional.gelu(self.inner(states)))
        output: Tensor = self.norm(states + self.drop(inner))
        return output

    def drop(self, values: Tensor) -> Tensor:
        """Dropout, in training."""
        return functional.dropout(values, self.dropout, self.training)


class Transformer(nn.Module):
    """Positions, blocks and what precedes them."""

    def __init__(self, shape: Shape, num_heads: int, num_positions: int) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.positions = nn.Embedding(num_positions, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, _NORM_EPSILON)
        self.blocks = nn.ModuleList(Block(shape, num_heads) for _ in range(shape.num_layers))

    def forward(self, embedded: Tensor, closed: Tensor) -> Tensor:
        """States [B, T, d] of embedded items [B, T, d]; `closed` as in `Block`."""
        length = embedded.shape[1]
        states = self.norm(embedded + self.positions.weight[:length])
        states = functional.dropout(states, self.dropout, self.training)
        for block in self.blocks:
            states = block(states, closed)
        output: Tensor = states
        return output


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    closed: Tensor,
    drop: Callable[[Tensor], Tensor],
) -> Tensor:
    """[B, T, d]: values mixed by scaled dot products, heads side by side.

    Args:
        queries: [B, H, T, w].
        keys: [B, H, S, w].
        values: [B, H, S, w].
        closed: broadcasts to [B, H, T, S]; whether a query must not see a key.
        drop: dropout of the weights.
    """
    scores = queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5
    weights = scores.masked_fill(closed, -torch.inf).softmax(dim=-1)
    mixed = drop(weights) @ values
    size, _, length, _ = queries.shape
    return mixed.transpose(1, 2).reshape(size, length, -1)


def ended(lengths: Tensor, width: int) -> Tensor:
    """[B, 1, 1, T]: places after a history's end, closed to a model that looks both ways."""
    return (torch.arange(width, device=lengths.device) >= lengths[:, None])[:, None, None]


def causal(length: int, device: torch.device) -> Tensor:
    """[1, 1, T, T]: whether a place lies after another and must not be seen from it.

    Histories are filled up at their end, so that no real place sees the filler.
    """
    everything = torch.ones(length, length, dtype=torch.bool, device=device)
    return everything.triu(1)[None, None]


def initialise(module: nn.Module, draws: torch.Generator) -> None:
    """Weights from a normal distribution of deviation 0.02, biases zero, norms one."""
    for name, weights in sorted(module.named_parameters()):
        if name.endswith("norm.weight"):
            nn.init.ones_(weights)
        elif "bias" in name:
            nn.init.zeros_(weights)
        else:
            with torch.no_grad():
                weights.normal_(0.0, _INITIAL_STD, generator=draws)


def glorot(module: nn.Module, draws: torch.Generator) -> None:
    """Weights from a uniform distribution that keeps a signal's scale (Glorot and Bengio, 2010)."""
    for name, weights in sorted(module.named_parameters()):
        if "weight" in name:
            nn.init.xavier_uniform_(weights, generator=draws)
