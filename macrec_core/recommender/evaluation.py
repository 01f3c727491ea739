"""Full-ranking evaluation: beam search a modality, ensemble, ranks of every user's target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macrec_core.fusion import fuse, target_ranks
from macrec_core.memory import out_of_memory_names
from macrec_core.ranking import ENSEMBLE, Cases, Evaluation, Ranking, without_seen
from macrec_core.recommender.decoding import beam_search, prepare
from macrec_core.recommender.expansion import expand_beams
from macrec_core.recommender.frozen import freeze
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.t5 import T5
from macrec_core.recommender.trie import Trie
from macrec_core.runtime import Runtime, sent

if TYPE_CHECKING:
    from macrec_core.params.evaluation import EvalParams
    from macrec_core.progress import Progress


@dataclass(frozen=True)
class Decodable:
    """What one modality needs to be decoded.

    Attributes:
        source: the users' histories as token sequences.
        trie: existing IDs.
        level_offsets: [L] token id of code 0 at each level.
    """

    source: Sequences
    trie: Trie
    level_offsets: Tensor


def evaluate_recommender(
    model: T5,
    modalities: Mapping[str, Decodable],
    targets: NDArray[np.int64],
    params: EvalParams,
    runtime: Runtime,
    progress: Progress,
    cases: Cases | None = None,
) -> Evaluation:
    """Rank items for every user; each user is decoded once a modality and counted.

    Args:
        model: T5.
        modalities: per modality histories of the same users in the same order.
        targets: [users] item ids.
        params: beams, penalty, fusion, ambiguity, batch.
        runtime: where to decode, and the processes that share the users.
        progress: counts users times modalities, this process's share of them.
        cases: the same users and targets with their whole histories, for lists without what
            they have bought before; None for no such lists.
    """
    model = freeze(model.to(runtime.device))
    own = len(runtime.processes.share(torch.arange(len(targets))))
    progress.start("histories decoded", own * len(modalities))
    found, unseen = {}, {}
    for name, part in modalities.items():
        found[name], without = _decode(model, part, cases, params, runtime, progress)
        if cases is not None and without is not None:
            # Of an ambiguous ID some items may be left.
            unseen[name] = without_seen(without, cases)
    return _evaluated(
        found, targets, params, _evaluated(unseen, targets, params) if unseen else None
    )


def _evaluated(
    rankings: dict[str, Ranking],
    targets: NDArray[np.int64],
    params: EvalParams,
    unseen: Evaluation | None = None,
) -> Evaluation:
    """Add the ensemble of all lists, and the targets' ranks."""
    rankings = {**rankings, ENSEMBLE: fuse(list(rankings.values()), params.fusion)}
    ranks = {
        name: target_ranks(ranking, targets, params.ambiguous_ids)
        for name, ranking in rankings.items()
    }
    return Evaluation(rankings, ranks, unseen)


def _decode(
    model: T5,
    part: Decodable,
    cases: Cases | None,
    params: EvalParams,
    runtime: Runtime,
    progress: Progress,
) -> tuple[Ranking, Ranking | None]:
    """A modality's list, and that of a search without IDs all of whose items were bought."""
    source, trie = part.source.to(runtime.device), part.trie.to(runtime.device)
    count, device = len(source), runtime.device
    exhausted = () if cases is None else part.trie.exhausted(cases)
    exhausted = tuple(nodes.to(device) for nodes in exhausted)
    # Longest first, so that little is padded; written back in the users' order.
    order = torch.argsort(source.lengths, descending=True, stable=True)
    searches = 1 if cases is None else 2
    # IDs from 1 on, so that zero says nothing found: the processes' findings add up.
    ids = torch.zeros(searches, count, params.num_beams, dtype=torch.long, device=device)
    log_probs = torch.zeros(searches, count, params.num_beams, device=device)
    with out_of_memory_names("lower eval.batch_size"):
        for rows in runtime.processes.share(order).split(params.batch_size):
            if not len(rows):  # more processes than users
                continue
            users = sent(rows, device)
            histories = prepare(model, source.packed(rows))
            for search in range(searches):
                left_out = [nodes[users] for nodes in exhausted] if search else None
                beams = beam_search(
                    model, histories, trie, part.level_offsets, params.num_beams, left_out
                )
                ids[search, users] = beams.ids + 1
                log_probs[search, users] = beams.log_probs.masked_fill(beams.ids < 0, 0.0)
            progress.advance(len(rows))
    runtime.processes.sum_([ids])
    runtime.processes.sum_([log_probs])
    length = len(part.level_offsets) + 1
    found = [
        expand_beams(i, p, trie, length, params.length_penalty)
        for i, p in zip(ids.cpu().numpy() - 1, log_probs.cpu().numpy(), strict=True)
    ]
    return found[0], found[1] if searches == 2 else None
