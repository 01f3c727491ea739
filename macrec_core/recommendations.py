"""Lists of recommendations as an artifact and as figures, whoever has made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from macrec_core.artifacts import lists, read_artifact
from macrec_core.errors import MacrecError
from macrec_core.metrics import ranking_metrics
from macrec_core.ranking import Cases, Evaluation, Ranking
from macrec_core.schemas import RECOMMENDATIONS

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


def read_list(path: Path, name: str, cases: Cases) -> Evaluation:
    """One list of an artifact RECOMMENDATIONS.

    Args:
        path: the artifact.
        name: of the list.
        cases: whom it must be made for, in their order.

    Raises:
        MacrecError: it holds no such list, or is made for others.
    """
    table = read_artifact(path, RECOMMENDATIONS)
    own = table.filter(pc.equal(table.column("list"), name))
    if not own.num_rows:
        names = sorted(set(table.column("list").to_pylist()))
        raise MacrecError(f"{path}: has no list {name!r}, only {names}; name one of them")
    parts = {}
    for candidates in CANDIDATES:
        rows = own.filter(pc.equal(own.column("candidates"), candidates))
        if not rows.num_rows:
            continue
        for column, expected in (("user_id", cases.users), ("target_item", cases.targets)):
            if not np.array_equal(np.asarray(rows.column(column)), expected):
                raise MacrecError(
                    f"{path}: the column {column} of list {name!r} is not that of the "
                    f"{len(cases)} cases of the interactions; run the stage that makes it again"
                )
        ranks = np.asarray(rows.column("rank")).astype(np.int64)
        parts[candidates] = Evaluation({name: _ranking(rows)}, {name: ranks})
    whole = parts[ALL_ITEMS]
    return Evaluation(whole.rankings, whole.ranks, parts.get(UNSEEN_ITEMS))


def _ranking(rows: pa.Table) -> Ranking:
    counts = np.asarray(pc.list_value_length(rows.column("items")))
    items = np.asarray(pc.list_flatten(rows.column("items"))).astype(np.int64)
    scores = np.asarray(pc.list_flatten(rows.column("scores"))).astype(np.float64)
    return Ranking(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items, scores)
