"""Batched beam search over existing semantic IDs.

Gives the sequences and scores of Hugging Face `generate` with `prefix_allowed_tokens_fn`, but
runs the encoder once a history, projects the cross-attention's keys and values once a history
rather than once a beam, and takes one step a level on tensors alone, over existing children
only. Probabilities are normalised over the whole vocabulary, then disallowed codes are dropped,
as `generate` does: normalising over the allowed codes would change the ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from macrec_core.recommender.attention import merge_heads
from macrec_core.recommender.cross_attention import Attended, keys_values, project
from macrec_core.recommender.kernels import rms_norm
from macrec_core.recommender.packing import Packed
from macrec_core.recommender.t5 import (
    END_ID,
    EVALUATION,
    START_ID,
    T5,
    Block,
    Encoded,
)
from macrec_core.recommender.trie import Trie

_DEAD = -torch.inf


@dataclass(frozen=True)
class Beams:
    """The best IDs for each history, best first.

    Attributes:
        ids: [U, b] int64, index of a distinct ID of the trie; -1 where fewer than b IDs exist.
        log_probs: [U, b] float32, log-probability of the codes and the end token; -inf there.
    """

    ids: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class Prepared:
    """Encoded histories with what all searches over them share.

    Attributes:
        encoded: rows of U histories.
        cross: of each decoder layer, what its attention to them needs.
    """

    encoded: Encoded
    cross: Sequence[Attended]


@torch.no_grad()
def prepare(model: T5, source: Packed) -> Prepared:
    """Encode U histories, once for however many beams and searches."""
    encoded = model.encode(source)
    cross = keys_values(model.decoder.layers, encoded.rows, encoded.layout, model.shape.num_heads)
    return Prepared(encoded, cross)


class _Decoder:
    """T5's decoder one token at a time for U histories of b beams each.

    Every token decoded so far keeps its slot, keys and values are never moved; which slots a
    beam descends from is a mask. A history's beams then attend in one matrix product.
    """

    def __init__(self, model: T5, source: Prepared, num_beams: int, num_tokens: int) -> None:
        self._model = model
        self._users = source.encoded.layout.count
        shape, heads = model.shape, model.shape.num_heads
        rows = source.encoded.rows
        self._cross = source.cross
        slots = 1 + (num_tokens - 1) * num_beams
        # Of each layer, for each history, head and slot.
        self._keys, self._values = (
            rows.new_empty(shape.num_layers, self._users, heads, slots, shape.d_kv)
            for _ in range(2)
        )
        self._bias = model.decoder.bias(num_tokens, bidirectional=False)  # [H, tokens, tokens]
        self._places = torch.zeros(slots, dtype=torch.long, device=rows.device)  # of each slot
        self._reached = torch.ones(self._users, 1, 0, dtype=torch.bool, device=rows.device)
        self._step = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Final rows [U * b, d] after tokens [U, b] at the next place."""
        beams = tokens.shape[1]
        first, end = self._reached.shape[2], self._reached.shape[2] + beams
        self._places[first:end] = self._step
        own = torch.eye(beams, dtype=torch.bool, device=tokens.device).expand(self._users, -1, -1)
        self._reached = torch.cat([self._reached, own], dim=2)  # [U, b, slots so far]
        bias = self._bias[:, self._step, self._places[:end]]  # [H, slots so far]
        self._step += 1
        closed = torch.where(self._reached[:, None], bias[:, None], _DEAD)  # [U, H, b, slots]
        state = functional.embedding(tokens.flatten(), self._model.embedding)
        for index, block in enumerate(self._model.decoder.layers):
            state = self._attend_self(index, block, state, closed, first, end)
            # A history's beams are, to its keys, queries at as many places.
            state = block.attend_encoded(state, self._cross[index], beams, EVALUATION)
            state = block.feed_forward(state, EVALUATION)
        return rms_norm(state, self._model.decoder.norm, state.dtype)

    def reorder(self, beams: Tensor) -> None:
        """Let new beam j of a history go on from its old beam `beams[u, j]`: [U, b]."""
        index = beams[:, :, None].expand(-1, -1, self._reached.shape[2])
        self._reached = self._reached.gather(1, index)

    def _attend_self(
        self, index: int, block: Block, state: Tensor, bias: Tensor, first: int, end: int
    ) -> Tensor:
        projected = project(rms_norm(state, block.norm, state.dtype), block.qkv)
        heads = projected.view(self._users, end - first, 3, -1, self._model.shape.d_kv)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)  # [U, H, b, w]
        self._keys[index, :, :, first:end] = keys
        self._values[index, :, :, first:end] = values
        scores = queries @ self._keys[index, :, :, :end].transpose(2, 3)  # [U, H, b, slots]
        weights = scores.add_(bias).softmax(dim=-1)
        mixed = weights @ self._values[index, :, :, :end]
        return state + project(merge_heads(mixed), block.out)


@torch.no_grad()
def beam_search(
    model: T5,
    source: Prepared,
    trie: Trie,
    level_offsets: Tensor,
    num_beams: int,
    exhausted: Sequence[Tensor] | None = None,
) -> Beams:
    """The `num_beams` most probable existing IDs for each history.

    Args:
        model: T5.
        source: U histories, from `prepare`.
        trie: existing IDs, on the same device.
        level_offsets: [L] token id of code 0 at each level.
        num_beams: b; the search keeps b prefixes at each level, however many exist.
        exhausted: nodes that each history leaves out at each level, as `Trie.exhausted` gives
            them; the search is then that of a tree without them.
    """
    users, device = source.encoded.layout.count, source.encoded.rows.device
    decoder = _Decoder(model, source, num_beams, len(trie.levels) + 1)
    tokens = torch.full((users, 1), START_ID, device=device)
    nodes = torch.zeros((users, 1), dtype=torch.long, device=device)
    scores = torch.zeros((users, 1), device=device)
    for depth, (level, offset) in enumerate(zip(trie.levels, level_offsets.tolist(), strict=True)):
        logits = model.logits(decoder.step(tokens))
        numbers, codes, exist = level.children(nodes)  # [U, b, children]
        if exhausted is not None:
            exist &= ~_among(numbers, exhausted[depth])
        chosen = logits.gather(1, codes.flatten(end_dim=1) + offset).view(codes.shape)
        total = logits.logsumexp(dim=1).view(users, -1, 1)
        candidates = (scores[:, :, None] + chosen - total).masked_fill(~exist, _DEAD)
        width = candidates.shape[1] * candidates.shape[2]
        scores, best = candidates.view(users, width).topk(min(num_beams, width), dim=1)
        # Where fewer prefixes exist than beams, the rest are dead: no node, no probability.
        nodes = numbers.view(users, width).gather(1, best).masked_fill(scores == _DEAD, -1)
        tokens = codes.view(users, width).gather(1, best) + offset
        decoder.reorder(best // candidates.shape[2])
    logits = model.logits(decoder.step(tokens))
    scores = scores + (logits[:, END_ID] - logits.logsumexp(dim=1)).view(users, -1)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    missing = (0, num_beams - scores.shape[1])  # a tree with fewer prefixes than beams
    return Beams(
        functional.pad(nodes.gather(1, order), missing, value=-1),
        functional.pad(scores, missing, value=_DEAD),
    )


def _among(numbers: Tensor, sorted_rows: Tensor) -> Tensor:
    """Whether each number [U, b, n] is one of its row's [U, s], which ascend."""
    flat = numbers.flatten(1)
    places = torch.searchsorted(sorted_rows, flat).clamp(max=sorted_rows.shape[1] - 1)
    return (sorted_rows.gather(1, places) == flat).view(numbers.shape)
