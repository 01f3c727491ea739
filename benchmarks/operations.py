"""Floating-point operations of the T5 works, by which ceilings are worked out; torch alone.

Two a multiplication, no padding counted, in the order in which T5 is written down.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from macrec_core.recommender.updates import Examples


class Network(Protocol):
    """Sizes of a T5, as section `gr` names them."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def d_kv(self) -> int:
        """Width of a head."""

    @property
    def d_ff(self) -> int:
        """Width of the feed-forward layer."""

    @property
    def num_layers(self) -> int:
        """Blocks of the encoder, and of the decoder."""

    @property
    def num_heads(self) -> int:
        """Heads of an attention."""


def flops_of_example(data: Examples, network: Network, vocabulary_size: int) -> float:
    """Mean operations of forward and backward pass."""
    length = data.source.lengths.double()
    tokens, square = float(length.mean()), float(length.square().mean())
    target = data.target.shape[1]
    inner, d = network.num_heads * network.d_kv, network.d_model
    own = target * (6 * d * inner + 2 * d * network.d_ff) + 2 * target * target * inner
    layer = _encoder(network, tokens, square) + own + 2 * target * tokens * inner
    # The backward pass multiplies twice as often as the forward pass.
    return 3 * 2 * (network.num_layers * layer + target * d * vocabulary_size)


def flops_of_history(
    lengths: Tensor, network: Network, num_levels: int, beams: int, vocabulary_size: int
) -> float:
    """Mean operations of one search: the encoder once, then each level's beams once.

    Args:
        lengths: tokens of each history.
        network: sizes.
        num_levels: codes of an ID.
        beams: of the search.
        vocabulary_size: tokens.
    """
    tokens, square = float(lengths.double().mean()), float(lengths.double().square().mean())
    inner, d = network.num_heads * network.d_kv, network.d_model
    places = 1 + num_levels * beams
    own = places * (6 * d * inner + 2 * d * network.d_ff + 2 * tokens * inner)
    layer = _encoder(network, tokens, square) + own
    return 2 * (network.num_layers * layer + places * d * vocabulary_size)


def _encoder(network: Network, tokens: float, square: float) -> float:
    """Multiplications of an encoder layer, and of a decoder layer's keys and values for it."""
    inner, d = network.num_heads * network.d_kv, network.d_model
    return tokens * (6 * d * inner + 2 * d * network.d_ff) + 2 * square * inner
