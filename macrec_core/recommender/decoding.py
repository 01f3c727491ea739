"""Batched beam search over existing semantic IDs.

Gives the sequences and scores of Hugging Face `generate` with `prefix_allowed_tokens_fn`, but
runs the encoder once a history, projects the cross-attention's keys and values once a history
rather than once a beam, and takes one step a level on tensors alone, over existing children
only. Probabilities are normalised over the whole vocabulary, then disallowed codes are dropped,
as `generate` does: normalising over the allowed codes would change the ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from macrec_core.recommender.attention import merge_heads
from macrec_core.recommender.cross_attention import keys_values, project
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
        unseen: the same search without some IDs, which may find fewer; None where none were named.
    """

    ids: Tensor
    log_probs: Tensor
    unseen: Beams | None = None


class _Decoder:
    """T5's decoder one token at a time for U histories of b beams each, or twice b at last.

    Every token decoded so far keeps its slot, keys and values are never moved; which slots a
    beam descends from is a mask. A history's beams then attend in one matrix product.
    """

    def __init__(
        self, model: T5, encoded: Encoded, num_beams: int, num_levels: int, twice: bool
    ) -> None:
        self._model = model
        self._users = encoded.layout.count
        shape, heads = model.shape, model.shape.num_heads
        rows, layout = encoded.rows, encoded.layout
        # Shared by the beams of a history.
        self._cross = keys_values(model.decoder.layers, rows, layout, heads)
        # The start, a token a level, and of two searches as many again at the last level.
        slots = 1 + (num_levels + twice) * num_beams
        # Of each layer, for each history, head and slot.
        self._keys, self._values = (
            rows.new_empty(shape.num_layers, self._users, heads, slots, shape.d_kv)
            for _ in range(2)
        )
        # [H, tokens, tokens]
        self._bias = model.decoder.bias(num_levels + 1, bidirectional=False)
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
    source: Packed,
    trie: Trie,
    level_offsets: Tensor,
    num_beams: int,
    seen: Tensor | None = None,
) -> Beams:
    """The `num_beams` most probable existing IDs for each history.

    With IDs to leave out two searches share their work: they part only when a last code would
    complete such an ID.

    Args:
        model: T5.
        source: U histories.
        trie: existing IDs, on the same device.
        level_offsets: [L] token id of code 0 at each level.
        num_beams: b; the search keeps b prefixes at each level, however many exist.
        seen: [U, any number] IDs of the trie to leave out of `unseen`, ascending, filled up with
            numbers of no ID; None for no such search.
    """
    users, device = source.count, source.tokens.device
    decoder = _Decoder(model, model.encode(source), num_beams, len(trie.levels), seen is not None)
    tokens = torch.full((users, 1), START_ID, device=device)
    nodes = torch.zeros((users, 1), dtype=torch.long, device=device)
    scores = torch.zeros((users, 1), device=device)
    for depth, (level, offset) in enumerate(zip(trie.levels, level_offsets.tolist(), strict=True)):
        logits = model.logits(decoder.step(tokens))
        numbers, codes, exist = level.children(nodes)  # [U, b, children]
        chosen = logits.gather(1, codes.flatten(end_dim=1) + offset).view(codes.shape)
        total = logits.logsumexp(dim=1).view(users, -1, 1)
        candidates = (scores[:, :, None] + chosen - total).masked_fill(~exist, _DEAD).flatten(1)
        width = candidates.shape[1]
        scores, best = candidates.topk(min(num_beams, width), dim=1)
        if seen is not None and depth == len(trie.levels) - 1:
            candidates = candidates.masked_fill(_among(numbers.flatten(1), seen), _DEAD)
            unseen_scores, unseen = candidates.topk(min(num_beams, width), dim=1)
            scores, best = torch.cat([scores, unseen_scores], 1), torch.cat([best, unseen], 1)
        # Where fewer prefixes exist than beams, the rest are dead: no node, no probability.
        nodes = numbers.flatten(1).gather(1, best).masked_fill(scores == _DEAD, -1)
        tokens = codes.flatten(1).gather(1, best) + offset
        decoder.reorder(best // numbers.shape[2])
    logits = model.logits(decoder.step(tokens))
    scores = scores + (logits[:, END_ID] - logits.logsumexp(dim=1)).view(users, -1)
    if seen is None:
        return _sorted(nodes, scores, num_beams)
    half = scores.shape[1] // 2
    unseen_beams = _sorted(nodes[:, half:], scores[:, half:], num_beams)
    return _sorted(nodes[:, :half], scores[:, :half], num_beams, unseen_beams)


def _among(numbers: Tensor, sorted_rows: Tensor) -> Tensor:
    """Whether each number [U, n] is one of its row's [U, s], which ascend."""
    places = torch.searchsorted(sorted_rows, numbers).clamp(max=sorted_rows.shape[1] - 1)
    return sorted_rows.gather(1, places) == numbers


def _sorted(nodes: Tensor, scores: Tensor, num_beams: int, unseen: Beams | None = None) -> Beams:
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    missing = (0, num_beams - scores.shape[1])  # a tree with fewer prefixes than beams
    return Beams(
        functional.pad(nodes.gather(1, order), missing, value=-1),
        functional.pad(scores, missing, value=_DEAD),
        unseen,
    )
