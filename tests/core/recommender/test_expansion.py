from __future__ import annotations

import numpy as np

from macrec_core.recommender.expansion import expand_beams
from macrec_core.recommender.trie import build_trie


def as_lists(found):
    """[(item, score), ...] of every user."""
    pairs = list(zip(found.items.tolist(), found.scores.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


# Items 0, 2 and 4 share one ID; 1 and 3 have their own.
AMBIGUOUS = np.array([[0, 0], [0, 1], [0, 0], [1, 0], [0, 0]], np.int32)


def test_beams_expand_to_all_members_with_the_score_per_token():
    trie = build_trie(AMBIGUOUS)  # IDs: 0 = {0, 2, 4}, 1 = {1}, 2 = {3}
    ids = np.array([[2, 0, -1], [1, -1, -1], [-1, -1, -1]])
    log_probs = np.array([[-3.0, -6.0, -np.inf], [-1.5, -np.inf, -np.inf], [-np.inf] * 3])
    found = expand_beams(ids, log_probs.astype(np.float32), trie, 3, 1.0)
    assert as_lists(found) == [[(3, -1.0), (0, -2.0), (2, -2.0), (4, -2.0)], [(1, -0.5)], []]
    raw = expand_beams(ids, log_probs.astype(np.float32), trie, 3, 0.0)
    assert as_lists(raw)[0] == [(3, -3.0), (0, -6.0), (2, -6.0), (4, -6.0)]
