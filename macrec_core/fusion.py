"""From several ranked lists to one, and the place of a target in a list.

An ambiguous ID (several items with one published ID) stands for its group: every member gets
the ID's score. Where a hit on the group stands is a named choice, `eval.ambiguous_ids`:
`pessimistic` places the target behind all items of the same score, so that a hit within k
means that the whole group fits in k places; `optimistic` places it before them, which is the
field's habit of comparing ID strings and never underestimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from macrec_core.ranking import Ranking, ranked

Fusion = Literal["mean_plus_found", "mean", "reciprocal_rank"]
Ambiguity = Literal["pessimistic", "optimistic"]

# Cormack, Clarke and Buettcher (2009).
_RECIPROCAL_RANK_CONSTANT = 60.0


def fuse(
    rankings: Sequence[Ranking], rule: Fusion, weights: Sequence[float] | None = None
) -> Ranking:
    """The ensemble of any number of lists of the same users.

    Rules, for an item found by k of n lists:
        mean_plus_found: mean of its scores, plus k - 1. For two lists the rule of MQL4GRec and
            of the authors' code: +1 puts the items found by both first.
        mean: mean over all n lists; where a list lacks the item, that list's lowest score.
        reciprocal_rank: sum of 1 / (60 + rank); items of equal score share the better rank.

    Items whose scores come out equal stand in the order of their ranks in the first list, then in
    the second, and so on (an item that a list lacks last), and their scores are set apart by as
    little as a number can differ. Only items that every list ranks alike, such as those of one
    ambiguous ID, stay equal.

    Args:
        rankings: the lists.
        rule: one of the above.
        weights: of the lists in mean and sum; None for equal ones.
    """
    if len(rankings) == 1:
        return rankings[0]
    num_users = len(rankings[0].offsets) - 1
    of_list = np.ones(len(rankings)) if weights is None else np.asarray(weights, dtype=np.float64)
    users = np.concatenate([r.users for r in rankings])
    items = np.concatenate([r.items for r in rankings])
    weight = np.repeat(of_list, [len(r.items) for r in rankings])
    scores = np.concatenate([_contribution(r, rule) for r in rankings]) * weight
    stride = int(items.max(initial=0)) + 1
    keys, inverse = np.unique(users * stride + items, return_inverse=True)
    total = np.zeros(len(keys))
    np.add.at(total, inverse, scores)
    if rule == "mean_plus_found":
        found = np.bincount(inverse, minlength=len(keys))
        total = total / np.bincount(inverse, weight, len(keys)) + (found - 1)
    elif rule == "mean":
        # _contribution holds each score's lead over its list's floor; the floors come back here.
        floors = (of_list[:, None] * np.stack([_floors(r) for r in rankings])).sum(axis=0)
        total = (total + floors[keys // stride]) / of_list.sum()
    places = _places(rankings, keys, stride)
    return ranked(keys // stride, keys % stride, _apart(keys // stride, total, places), num_users)


def _places(
    rankings: Sequence[Ranking], keys: NDArray[np.int64], stride: int
) -> list[NDArray[np.int64]]:
    """Of each list the rank of every fused item, beyond all others where the list lacks it."""
    found = []
    for ranking in rankings:
        ranks = np.full(len(keys), np.iinfo(np.int64).max)
        own = np.searchsorted(keys, ranking.users * stride + ranking.items)
        ranks[own] = _shared_ranks(ranking)
        found.append(ranks)
    return found


def _apart(
    users: NDArray[np.int64], scores: NDArray[np.float64], places: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Scores of items, those of equal ones lowered by their order in `places`."""
    order = np.lexsort((*reversed(places), -scores, users))
    users, sorted_scores = users[order], scores[order]
    new = np.ones(len(order), dtype=bool)  # another user or score than the one before
    new[1:] = (users[1:] != users[:-1]) | (sorted_scores[1:] != sorted_scores[:-1])
    worse = np.zeros(len(order), dtype=bool)  # of the same, but behind it
    for ranks in places:
        worse[1:] |= ranks[order][1:] != ranks[order][:-1]
    behind = np.cumsum(worse & ~new)
    steps: NDArray[np.int64] = behind - np.maximum.accumulate(np.where(new, behind, 0))
    lowered = np.empty_like(scores)
    lowered[order] = sorted_scores - steps * np.spacing(np.abs(sorted_scores))
    return lowered


def target_ranks(
    ranking: Ranking, targets: NDArray[np.int64], ambiguity: Ambiguity
) -> NDArray[np.int64]:
    """Rank of each user's target, 1 for the first place, 0 where it is not in the list.

    Args:
        ranking: U users.
        targets: [U] item ids.
        ambiguity: place among equal scores; see the module's text.
    """
    users = ranking.users
    is_target = ranking.items == targets[users]
    target_score = np.full(len(targets), np.nan)
    target_score[users[is_target]] = ranking.scores[is_target]
    reference = target_score[users]
    if ambiguity == "pessimistic":
        before = ranking.scores >= reference  # the target itself included; NaN gives False
        return np.bincount(users[before], minlength=len(targets))
    before = ranking.scores > reference
    ranks = np.bincount(users[before], minlength=len(targets)) + 1
    return np.where(np.isnan(target_score), 0, ranks)


def _contribution(ranking: Ranking, rule: Fusion) -> NDArray[np.float64]:
    if rule == "mean_plus_found":
        return ranking.scores
    if rule == "mean":
        return ranking.scores - _floors(ranking)[ranking.users]
    return np.asarray(1.0 / (_RECIPROCAL_RANK_CONSTANT + _shared_ranks(ranking)))


def _shared_ranks(ranking: Ranking) -> NDArray[np.int64]:
    """Rank of each item in its user's list; items of equal score share the first one's rank."""
    users, place = ranking.users, np.arange(len(ranking.items))
    starts = np.ones(len(place), dtype=bool)
    starts[1:] = (users[1:] != users[:-1]) | (ranking.scores[1:] != ranking.scores[:-1])
    first = np.maximum.accumulate(np.where(starts, place, 0))
    return np.asarray(first - ranking.offsets[:-1][users] + 1)


def _floors(ranking: Ranking) -> NDArray[np.float64]:
    """[U] lowest score of each user's list; 0 for an empty one."""
    counts = np.diff(ranking.offsets)
    floors = np.zeros(len(counts))
    # Best first: the lowest score is each list's last.
    floors[counts > 0] = ranking.scores[ranking.offsets[1:][counts > 0] - 1]
    return floors
