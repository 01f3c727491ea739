"""Beam search over existing IDs: histories of Instruments' lengths, 20 beams, float32.

Ours is `beam_search` as the evaluation calls it, 64 histories at once. Plain is Hugging Face
`generate` with `prefix_allowed_tokens_fn` over a dictionary of prefixes, padded to the longest of
its batch. Three rows: with the vocabulary of the field's code, a pre-trained T5's 32,100 words
and the codes, and as many histories at once; the same with four at once, with which `generate` is
faster; and with our compact vocabulary, same weights, where the same run checks that the
sequences are the same and the scores agree to 1e-5. The ceiling is the float32 matrix rate over
the operations that the search needs.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from benchmarks import instruments
from benchmarks.measure import Row, interleaved, matrix_rate, row
from benchmarks.operations import flops_of_history
from benchmarks.t5_training import GR
from macrec_core.recommender.decoding import Beams, beam_search, prepare
from macrec_core.recommender.frozen import freeze
from macrec_core.recommender.hugging_face import config_of, to_names
from macrec_core.recommender.t5 import END_ID, T5
from macrec_core.recommender.training import new_t5
from macrec_core.recommender.trie import build_trie
from macrec_core.runtime import generator

log = logging.getLogger(__name__)

_BEAMS = 20
_WORDS = 32_100  # of a pre-trained T5's vocabulary
_USERS, _PLAIN_USERS = 512, 64
_BATCH, _SMALL_BATCH = 64, 4  # users at once
_ROUNDS = 3


def run() -> list[Row]:
    """Three rows in histories a second."""
    search = _Ours()
    search()
    work = flops_of_history(
        search.lengths, GR, instruments.LEVELS, _BEAMS, instruments.VOCABULARY.size
    )
    ceiling = matrix_rate(torch.float32) * 1e9 / work
    rows = []
    for name, words, batch in (
        ("", _WORDS, _BATCH),
        (" plain four at once", _WORDS, _SMALL_BATCH),
        (" plain compact vocabulary", 0, _BATCH),
    ):
        plain = _Plain(search, words, batch)
        best_ours, best_plain = interleaved(search, plain, _ROUNDS)
        rate, plain_rate = _USERS / best_ours, _PLAIN_USERS / best_plain
        rows.append(row(f"constrained_decoding{name}", "histories/s", rate, plain_rate, ceiling))
        log.info("%.3f GFLOP a history, %.0f GFLOP/s", work / 1e9, rate * work / 1e9)
    _check_equal(search, plain)
    return rows


class _Ours:
    def __init__(self) -> None:
        data = instruments.training()
        self.model = _model()
        self._frozen = freeze(self.model)
        self.codes = instruments.make().codes["text"]
        self.offsets = torch.from_numpy(instruments.VOCABULARY.level_offsets("text"))
        self._trie = build_trie(self.codes)
        source = data.validation.source["text"]
        users = torch.randperm(len(source), generator=generator(0, "bench"))[:_USERS]
        self.users = users[torch.argsort(source.lengths[users], stable=True)]
        self.lengths = source.lengths[users]
        self.source = source
        self.ids = torch.from_numpy(self.codes).long()
        self.found: list[Beams] = []

    def __call__(self) -> None:
        self.found = [
            beam_search(
                self._frozen, prepare(self._frozen, self.source.packed(rows)), self._trie,
                self.offsets, _BEAMS,
            )
            for rows in self.users.split(_BATCH)
        ]  # fmt: skip


def _model() -> T5:
    """Random weights of a size that makes the distributions far from flat."""
    model = new_t5(instruments.VOCABULARY.size, GR, generator(0, "bench"))
    with torch.no_grad():
        model.embedding.mul_(3.0)
    return model


class _Plain:
    """`generate` on some users of `_Ours`.

    Args:
        ours: whose weights and histories.
        words: tokens that the vocabulary has beyond the compact one, with random weights.
        batch: users at once.
    """

    def __init__(self, ours: _Ours, words: int, batch: int) -> None:
        from transformers import T5Config, T5ForConditionalGeneration

        config = config_of(ours.model.shape)
        config["vocab_size"] += words
        self._model = T5ForConditionalGeneration(T5Config(**config)).eval()
        names = {name: weight.detach() for name, weight in to_names(ours.model).items()}
        added = torch.randn(words, GR.d_model, generator=generator(0, "words"))
        names["shared.weight"] = torch.cat([names["shared.weight"], added])
        missing = self._model.load_state_dict(names, strict=False).unexpected_keys
        assert not missing
        self._allowed = _allowed_after(ours.ids + ours.offsets)
        # Spread over all lengths, as the others are.
        self._users = ours.users[:: _USERS // _PLAIN_USERS].split(batch)
        self._source = ours.source
        self.sequences = self.scores = torch.empty(0)

    def __call__(self) -> None:
        found = [self._generate(users) for users in self._users]
        self.sequences, self.scores = (torch.cat(parts) for parts in zip(*found, strict=True))

    def _generate(self, users: Tensor) -> tuple[Tensor, Tensor]:
        source = self._source
        rows = [source.flat[source.offsets[u] : source.offsets[u + 1]].long() for u in users]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        out: Any = self._model.generate(
            input_ids=ids,
            attention_mask=(ids != 0).long(),
            num_beams=_BEAMS,
            num_return_sequences=_BEAMS,
            max_new_tokens=instruments.LEVELS + 1,
            prefix_allowed_tokens_fn=lambda _, prefix: self._allowed[tuple(prefix[1:].tolist())],
            return_dict_in_generate=True,
            output_scores=True,
        )
        shape = (len(users), _BEAMS)
        sequences = out.sequences[:, 1 : 1 + instruments.LEVELS].view(*shape, -1)
        return sequences, out.sequences_scores.view(shape)


def _allowed_after(tokens: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Tokens that may follow each prefix of an ID, and the end token after the last."""
    allowed: dict[tuple[int, ...], set[int]] = {}
    for ids in tokens.tolist():
        for place, token in enumerate([*ids, END_ID]):
            allowed.setdefault(tuple(ids[:place]), set()).add(token)
    return {prefix: sorted(following) for prefix, following in allowed.items()}


def _check_equal(ours: _Ours, plain: _Plain) -> None:
    """Raise if a sequence differs, or a score by more than 1e-5 of it."""
    step = _USERS // _PLAIN_USERS
    ids = torch.cat([beams.ids for beams in ours.found])[::step]
    scores = torch.cat([beams.log_probs for beams in ours.found])[::step]
    distinct = torch.unique(ours.ids, dim=0)  # in the order of the trie's numbers
    found = distinct[ids] + ours.offsets
    scores = scores / (instruments.LEVELS + 1)
    # Two beams whose scores agree to a rounding error may change places.
    tied = (scores[:, 1:] - scores[:, :-1]).abs() < 1e-6
    same = (found == plain.sequences).all(dim=2)
    excused = torch.nn.functional.pad(tied, (1, 0)) | torch.nn.functional.pad(tied, (0, 1))
    if not bool((same | excused).all()):
        raise ValueError("constrained_decoding: sequences differ from those of generate")
    torch.testing.assert_close(scores, plain.scores, rtol=1e-5, atol=0)
    log.info("%d of %d sequences the same, scores within 1e-5", int(same.sum()), same.numel())
