"""Full-ranking evaluation: beam search a modality, ensemble, ranks of every user's target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import T5ForConditionalGeneration

from macrec_core.recommender.batches import Sequences
from macrec_core.recommender.decoding import beam_search
from macrec_core.recommender.fusion import Ranking, expand_beams, fuse, target_ranks
from macrec_core.recommender.trie import Trie

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
    model: T5ForConditionalGeneration,
    modalities: Mapping[str, Decodable],
    targets: NDArray[np.int64],
    params: EvalParams,
    device: torch.device,
    progress: Progress,
) -> Evaluation:
    """Rank items for every user; each user is decoded once a modality and counted.

    Args:
        model: T5.
        modalities: per modality histories of the same users in the same order.
        targets: [users] item ids.
        params: beams, penalty, fusion, ambiguity, batch.
        device: where to decode.
        progress: counts users times modalities.
    """
    torch.nn.Module.to(model, device)  # the typed form of model.to
    model.eval()
    progress.start("histories decoded", len(targets) * len(modalities))
    rankings = {
        name: _decode(model, part, params, device, progress) for name, part in modalities.items()
    }
    rankings[ENSEMBLE] = fuse([rankings[name] for name in modalities], params.fusion)
    ranks = {
        name: target_ranks(ranking, targets, params.ambiguous_ids)
        for name, ranking in rankings.items()
    }
    return Evaluation(rankings, ranks)


def _decode(
    model: T5ForConditionalGeneration,
    part: Decodable,
    params: EvalParams,
    device: torch.device,
    progress: Progress,
) -> Ranking:
    source, trie = part.source.to(device), part.trie.to(device)
    count = len(source)
    # Sorted by length, so that little is padded; written back in the users' order.
    order = torch.argsort(source.lengths, stable=True)
    ids = np.full((count, params.num_beams), -1, dtype=np.int64)
    log_probs = np.full((count, params.num_beams), -np.inf, dtype=np.float32)
    for rows in order.split(params.batch_size):
        tokens, mask = source.padded(rows)
        beams = beam_search(
            model, tokens, mask, trie, part.level_offsets, params.num_beams, end_id=1
        )
        users, width = rows.cpu().numpy(), beams.ids.shape[1]
        ids[users, :width] = beams.ids.cpu().numpy()
        log_probs[users, :width] = beams.log_probs.cpu().numpy()
        progress.advance(len(rows))
    length = len(part.level_offsets) + 1
    return expand_beams(ids, log_probs, trie, length, params.length_penalty)
