"""Held-out values that choose the best epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration

from macrec_core.metrics import ndcg
from macrec_core.recommender.batches import Sequences
from macrec_core.recommender.decoding import beam_search
from macrec_core.recommender.fusion import expand_beams, target_ranks
from macrec_core.recommender.losses import next_token_loss
from macrec_core.recommender.trie import Trie
from macrec_core.runtime import Runtime

_BATCH = 512
_BEAMS = 10


@dataclass(frozen=True)
class Validation:
    """Validation histories of the recommending tasks.

    Attributes:
        source: per modality the users' histories.
        target: per modality [users, L + 1] token ids.
        target_items: [users] int64.
        tries: per modality the existing IDs.
        level_offsets: per modality [L] token id of code 0.
    """

    source: Mapping[str, Sequences]
    target: Mapping[str, Tensor]
    target_items: Tensor
    tries: Mapping[str, Trie]
    level_offsets: Mapping[str, Tensor]

    def to(self, device: torch.device) -> Validation:
        """The same on another device."""
        return Validation(
            {name: s.to(device) for name, s in self.source.items()},
            {name: t.to(device) for name, t in self.target.items()},
            self.target_items,
            {name: trie.to(device) for name, trie in self.tries.items()},
            self.level_offsets,
        )


@torch.no_grad()
def validation_loss(model: T5ForConditionalGeneration, data: Validation, runtime: Runtime) -> float:
    """Mean negative log-likelihood a token over all users and modalities."""
    model.eval()
    total, count = 0.0, 0
    for modality, source in data.source.items():
        for rows in _by_length(source):
            ids, mask = source.padded(rows)
            with torch.autocast(
                runtime.device.type, runtime.autocast, enabled=runtime.autocast is not None
            ):
                loss = next_token_loss(model, ids, mask, data.target[modality][rows].long(), 0.0)
            total += len(rows) * float(loss)
            count += len(rows)
    return total / count


@torch.no_grad()
def validation_ndcg(model: T5ForConditionalGeneration, data: Validation) -> float:
    """NDCG@10 of each modality's own list of 10 beams, averaged over modalities."""
    model.eval()
    values = []
    for modality, source in data.source.items():
        targets = data.target_items.numpy()
        ranks = np.zeros(len(targets), dtype=np.int64)
        trie, offsets = data.tries[modality], data.level_offsets[modality]
        for rows in _by_length(source):
            ids, mask = source.padded(rows)
            beams = beam_search(model, ids, mask, trie, offsets, _BEAMS, end_id=1)
            ranking = expand_beams(
                beams.ids.cpu().numpy(), beams.log_probs.cpu().numpy(), trie, len(offsets) + 1, 1.0
            )
            chosen = rows.cpu().numpy()
            ranks[chosen] = target_ranks(ranking, targets[chosen], "pessimistic")
        values.append(ndcg(ranks, 10))
    return float(np.mean(values))


def _by_length(source: Sequences) -> list[Tensor]:
    """All rows in parts of similar length."""
    return list(torch.argsort(source.lengths, stable=True).split(_BATCH))
