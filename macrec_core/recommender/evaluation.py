"""Full-ranking evaluation: beam search a modality, ensemble, ranks of every user's target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macrec_core.memory import out_of_memory_names
from macrec_core.recommender.decoding import beam_search
from macrec_core.recommender.frozen import freeze
from macrec_core.recommender.fusion import Ranking, expand_beams, fuse, target_ranks
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.t5 import T5
from macrec_core.recommender.trie import Trie
from macrec_core.runtime import Runtime, sent

if TYPE_CHECKING:
    from macrec_core.params import EvalParams
    from macrec_core.progress import Progress

ENSEMBLE = "ensemble"


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


@dataclass(frozen=True)
class Evaluation:
    """Ranked lists and the place of each user's target in them.

    Attributes:
        rankings: by list name: each modality, and `ensemble` of all of them.
        ranks: by list name [users], 1 for the first place, 0 for a miss.
    """

    rankings: Mapping[str, Ranking]
    ranks: Mapping[str, NDArray[np.int64]]


def evaluate_recommender(
    model: T5,
    modalities: Mapping[str, Decodable],
    targets: NDArray[np.int64],
    params: EvalParams,
    runtime: Runtime,
    progress: Progress,
) -> Evaluation:
    """Rank items for every user; each user is decoded once a modality and counted.

    Args:
        model: T5.
        modalities: per modality histories of the same users in the same order.
        targets: [users] item ids.
        params: beams, penalty, fusion, ambiguity, batch.
        runtime: where to decode, and the processes that share the users.
        progress: counts users times modalities, this process's share of them.
    """
    model = freeze(model.to(runtime.device))
    own = len(runtime.processes.share(torch.arange(len(targets))))
    progress.start("histories decoded", own * len(modalities))
    rankings = {
        name: _decode(model, part, params, runtime, progress) for name, part in modalities.items()
    }
    rankings[ENSEMBLE] = fuse([rankings[name] for name in modalities], params.fusion)
    ranks = {
        name: target_ranks(ranking, targets, params.ambiguous_ids)
        for name, ranking in rankings.items()
    }
    return Evaluation(rankings, ranks)


def _decode(
    model: T5,
    part: Decodable,
    params: EvalParams,
    runtime: Runtime,
    progress: Progress,
) -> Ranking:
    source, trie = part.source.to(runtime.device), part.trie.to(runtime.device)
    count = len(source)
    # Longest first, so that little is padded; written back in the users' order.
    order = torch.argsort(source.lengths, descending=True, stable=True)
    # IDs from 1 on, so that zero says nothing found: the processes' findings add up.
    ids = torch.zeros(count, params.num_beams, dtype=torch.long, device=runtime.device)
    log_probs = torch.zeros(count, params.num_beams, device=runtime.device)
    with out_of_memory_names("lower eval.batch_size"):
        for rows in runtime.processes.share(order).split(params.batch_size):
            if not len(rows):  # more processes than users
                continue
            packed = source.packed(rows)
            beams = beam_search(model, packed, trie, part.level_offsets, params.num_beams)
            users = sent(rows, runtime.device)
            ids[users] = beams.ids + 1
            log_probs[users] = beams.log_probs.masked_fill(beams.ids < 0, 0.0)
            progress.advance(len(rows))
    runtime.processes.sum_([ids])
    runtime.processes.sum_([log_probs])
    length = len(part.level_offsets) + 1
    return expand_beams(
        ids.cpu().numpy() - 1, log_probs.cpu().numpy(), trie, length, params.length_penalty
    )
