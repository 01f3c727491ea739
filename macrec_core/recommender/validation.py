"""Held-out values that choose the best epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from macrec_core.fusion import target_ranks
from macrec_core.metrics import ndcg
from macrec_core.recommender.decoding import beam_search, prepare
from macrec_core.recommender.expansion import expand_beams
from macrec_core.recommender.frozen import freeze
from macrec_core.recommender.losses import next_token_loss
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.t5 import T5, Mode
from macrec_core.recommender.trie import Trie
from macrec_core.runtime import Runtime, sent

_BATCH, _GPU_BATCH = 512, 4096  # users at once
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
def validation_loss(model: T5, data: Validation, runtime: Runtime) -> float:
    """Mean negative log-likelihood a token over all users and modalities."""
    mode = Mode(runtime.autocast or torch.float32)
    total, count = torch.zeros((), dtype=torch.float64, device=runtime.device), 0
    for modality, source in data.source.items():
        for rows in _by_length(source, runtime):
            target = data.target[modality][sent(rows, runtime.device)].long()
            total += len(rows) * next_token_loss(model, source.packed(rows), target, 0.0, mode)
        count += len(source)
    runtime.processes.sum_([total])
    return float(total) / count


@torch.no_grad()
def validation_ndcg(model: T5, data: Validation, runtime: Runtime) -> float:
    """NDCG@10 of each modality's own list of 10 beams, averaged over modalities."""
    values = []
    model = freeze(model)
    for modality, source in data.source.items():
        targets = data.target_items.numpy()
        ranks = torch.zeros(len(targets), dtype=torch.long)
        trie, offsets = data.tries[modality], data.level_offsets[modality]
        for rows in _by_length(source, runtime):
            histories = prepare(model, source.packed(rows))
            beams = beam_search(model, histories, trie, offsets, _BEAMS)
            ranking = expand_beams(
                beams.ids.cpu().numpy(), beams.log_probs.cpu().numpy(), trie, len(offsets) + 1, 1.0
            )
            found = target_ranks(ranking, targets[rows.numpy()], "pessimistic")
            ranks[rows] = torch.from_numpy(found)
        # Each process knows its own users' ranks and holds zeros for the others.
        ranks = ranks.to(runtime.device)
        runtime.processes.sum_([ranks])
        values.append(ndcg(ranks.cpu().numpy(), 10))
    return float(np.mean(values))


def _by_length(source: Sequences, runtime: Runtime) -> list[Tensor]:
    """This process's rows in parts, longest first; none where others have them all."""
    by_length = torch.argsort(source.lengths, descending=True, stable=True)
    own = runtime.processes.share(by_length)
    size = _BATCH if runtime.device.type == "cpu" else _GPU_BATCH
    return list(own.split(size)) if len(own) else []
