"""From beams to ranked items: an ambiguous ID gives each of its items the ID's score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from macrec_core.ranking import Ranking, ranked
from macrec_core.recommender.trie import Trie


def expand_beams(
    ids: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    trie: Trie,
    length: int,
    length_penalty: float,
) -> Ranking:
    """Items of beams [U, b], each with log-probability / length ** length_penalty.

    Args:
        ids: distinct IDs of the trie, -1 for none.
        log_probs: of the whole sequence.
        trie: knows each ID's items.
        length: tokens of a sequence, its end included (L + 1).
        length_penalty: as in `generate`; 1 there and here.
    """
    rows, columns = np.nonzero(ids >= 0)
    found = ids[rows, columns]
    sizes = np.diff(trie.member_offsets)[found]
    place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    items = trie.members[np.repeat(trie.member_offsets[found], sizes) + place]
    scores = log_probs[rows, columns].astype(np.float64) / length**length_penalty
    return ranked(np.repeat(rows, sizes), items, np.repeat(scores, sizes), len(ids))
