"""Lists of recommendations as an artifact and as figures, whoever has made them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from macrec_core.artifacts import lists
from macrec_core.metrics import ranking_metrics
from macrec_core.ranking import Cases, Evaluation

# The two sets of candidates that every list is made of: the whole catalogue, and without what
# the user has bought before.
ALL_ITEMS, UNSEEN_ITEMS = CANDIDATES = ("all_items", "unseen_items")

Figures = dict[str, dict[str, dict[str, float]]]


def by_candidates(evaluation: Evaluation) -> dict[str, Evaluation]:
    """The evaluation's lists by set of candidates."""
    parts = {ALL_ITEMS: evaluation}
    if evaluation.unseen is not None:
        parts[UNSEEN_ITEMS] = evaluation.unseen
    return parts


def figures(evaluation: Evaluation) -> Figures:
    """HR and NDCG by set of candidates and list."""
    return {
        candidates: {name: ranking_metrics(ranks) for name, ranks in part.ranks.items()}
        for candidates, part in by_candidates(evaluation).items()
    }


def recommendations_table(evaluation: Evaluation, cases: Cases) -> pa.Table:
    """Artifact RECOMMENDATIONS: each list's ranked items and the place of each user's target."""
    parts = []
    for name in sorted(evaluation.rankings):
        for candidates, part in by_candidates(evaluation).items():
            ranking = part.rankings[name]
            parts.append(
                pa.table(
                    {
                        "list": pa.array([name] * len(cases), pa.string()),
                        "candidates": pa.array([candidates] * len(cases), pa.string()),
                        "user_id": cases.users,
                        "target_item": cases.targets,
                        "rank": part.ranks[name],
                        "items": lists(ranking.items.astype(np.int32), ranking.offsets),
                        "scores": lists(ranking.scores.astype(np.float32), ranking.offsets),
                    }
                )
            )
    return pa.concat_tables(parts)
