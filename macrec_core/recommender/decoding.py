"""Batched beam search over existing semantic IDs.

Gives the sequences and scores of Hugging Face `generate` with `prefix_allowed_tokens_fn`, but
runs the encoder once a history, projects the cross-attention's keys and values once a history
rather than once a beam, and takes one step a level on tensors alone. Probabilities are
normalised over the whole vocabulary, then disallowed codes are dropped, as `generate` does:
normalising over the allowed codes would change the ranking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

from macrec_core.recommender.model import encode, output_scale
from macrec_core.recommender.trie import Trie

# Up to this distance T5's one-sided relative position buckets are the distance itself, with the
# 32 buckets that every T5 has.
_EXACT_BUCKETS = 16


@dataclass(frozen=True)
class Beams:
    """The best IDs for each history, best first.

    Attributes:
        ids: [U, b] int64, index of a distinct ID of the trie; -1 where fewer than b IDs exist.
        log_probs: [U, b] float32, log-probability of the codes and the end token; -inf there.
    """

    ids: Tensor
    log_probs: Tensor


class _Decoder:
    """T5's decoder one token at a time for U histories of b beams each."""

    def __init__(self, model: T5ForConditionalGeneration, hidden: Tensor, mask: Tensor) -> None:
        self._decoder: Any = model.decoder
        self._lm_head = model.lm_head
        # Any: torch types every submodule as Tensor | Module.
        self._blocks: list[Any] = [block.layer for block in model.decoder.block]
        self._scale = output_scale(model)
        attention = self._blocks[0][0].SelfAttention
        self._heads, self._width = attention.n_heads, attention.key_value_proj_dim
        self._position_bias = attention.relative_attention_bias.weight  # [buckets, H]
        self._closed = ~mask[:, None, None, :]  # [U, 1, 1, S]
        users, length, _ = hidden.shape
        shape = (users, length, self._heads, self._width)
        # [U, H, S, w]: shared by the beams of a history.
        self._cross = [
            tuple(
                project(hidden).view(shape).transpose(1, 2)
                for project in (layers[1].EncDecAttention.k, layers[1].EncDecAttention.v)
            )
            for layers in self._blocks
        ]
        self._past: list[tuple[Tensor, Tensor]] = []

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [U, b, vocabulary] after tokens [U, b] at the next position."""
        state = self._decoder.embed_tokens(tokens)  # [U, b, d]
        past, self._past = self._past, []
        for index, layers in enumerate(self._blocks):
            attended = self._attend_self(layers[0], state, past[index] if past else None)
            state = state + attended
            state = state + self._attend_history(layers[1], state, self._cross[index])
            state = layers[2](state)
        state = self._decoder.final_layer_norm(state) * self._scale
        logits: Tensor = self._lm_head(state)
        return logits

    def reorder(self, beams: Tensor) -> None:
        """Let new beam j of a history go on from its old beam `beams[u, j]`: [U, b]."""
        index = beams[:, :, None, None, None]
        self._past = [
            (
                keys.gather(1, index.expand(-1, -1, *keys.shape[2:])),
                values.gather(1, index.expand(-1, -1, *values.shape[2:])),
            )
            for keys, values in self._past
        ]

    def _attend_self(
        self, layer: nn.Module, state: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        attention: Any = layer.SelfAttention
        normed = _normed(layer, state)
        shape = (*state.shape[:2], self._heads, 1, self._width)
        query = attention.q(normed).view(shape)  # [U, b, H, 1, w]
        keys, values = attention.k(normed).view(shape), attention.v(normed).view(shape)
        if past is not None:
            keys = torch.cat([past[0], keys], dim=3)  # [U, b, H, t, w]
            values = torch.cat([past[1], values], dim=3)
        self._past.append((keys, values))
        distance = torch.arange(keys.shape[3] - 1, -1, -1, device=keys.device)
        bias = self._position_bias[distance].T[:, None, :]  # [H, 1, t]
        weights = (query @ keys.transpose(3, 4) + bias).softmax(dim=-1)
        mixed: Tensor = attention.o((weights @ values).flatten(start_dim=2))
        return mixed

    def _attend_history(self, layer: nn.Module, state: Tensor, cross: tuple[Tensor, ...]) -> Tensor:
        attention: Any = layer.EncDecAttention
        keys, values = cross
        users, beams, _ = state.shape
        query = attention.q(_normed(layer, state))
        query = query.view(users, beams, self._heads, self._width).transpose(1, 2)
        scores = query @ keys.transpose(2, 3)  # [U, H, b, S]
        weights = scores.masked_fill(self._closed, -math.inf).softmax(dim=-1)
        mixed: Tensor = attention.o((weights @ values).transpose(1, 2).flatten(start_dim=2))
        return mixed


def _normed(layer: nn.Module, state: Tensor) -> Tensor:
    norm: Any = layer.layer_norm
    normed: Tensor = norm(state)
    return normed


@torch.no_grad()
def beam_search(
    model: T5ForConditionalGeneration,
    source: Tensor,
    mask: Tensor,
    trie: Trie,
    level_offsets: Tensor,
    num_beams: int,
    end_id: int,
) -> Beams:
    """The `num_beams` most probable existing IDs for each history.

    Args:
        model: in evaluation mode.
        source: [U, S] token ids.
        mask: [U, S] bool.
        trie: existing IDs, on the same device.
        level_offsets: [L] token id of code 0 at each level.
        num_beams: b; the search keeps b prefixes at each level, however many exist.
        end_id: token after the last code; its log-probability belongs to the score.
    """
    assert len(trie.children) < _EXACT_BUCKETS
    users, device = len(source), source.device
    decoder = _Decoder(model, encode(model, source, mask), mask)
    tokens = torch.full((users, 1), model.config.decoder_start_token_id, device=device)
    nodes = torch.zeros((users, 1), dtype=torch.long, device=device)
    scores = torch.zeros((users, 1), device=device)
    for level, children in enumerate(trie.children):
        log_probs = decoder.step(tokens).float().log_softmax(dim=-1)
        size = children.shape[1]
        first = int(level_offsets[level])
        following = children[nodes.clamp(min=0)]  # [U, b, M]
        allowed = (following >= 0) & (nodes >= 0)[:, :, None]
        candidates = scores[:, :, None] + log_probs[:, :, first : first + size]
        candidates = candidates.masked_fill(~allowed, -math.inf).flatten(start_dim=1)
        scores, chosen = candidates.topk(min(num_beams, candidates.shape[1]), dim=1)
        beams, codes = chosen // size, chosen % size
        nodes = following.flatten(start_dim=1).gather(1, chosen)
        # Where fewer prefixes exist than beams, the rest are dead: no node, no probability.
        nodes = nodes.masked_fill(scores == -math.inf, -1)
        tokens = codes + first
        decoder.reorder(beams)
    ends = decoder.step(tokens).float().log_softmax(dim=-1)[:, :, end_id]
    scores, order = (scores + ends).sort(dim=1, descending=True, stable=True)
    return Beams(nodes.gather(1, order), scores)
