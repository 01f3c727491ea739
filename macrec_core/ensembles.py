"""One list from those of several recommenders, whatever made them.

Lists whose scores mean different things are made comparable by each member's `smoothing` and
`weight`; the rules are those of `fusion.fuse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from macrec_core.errors import MacrecError
from macrec_core.fusion import Ambiguity, fuse, target_ranks
from macrec_core.ranking import YARDSTICKS, Cases, Evaluation, Ranking
from macrec_core.recommendations import read_list

if TYPE_CHECKING:
    from macrec_core.params.evaluation import EnsembleMember, EnsembleSpec


def member_path(folder: Path, member: EnsembleMember, seed: int) -> Path:
    """Where the recommendations of a member lie.

    Args:
        folder: recommendations of a dataset.
        member: of an ensemble.
        seed: of the ensemble; what is trained has the same.
    """
    # Lists without training stand in one artifact, whatever the seed.
    if member.source in YARDSTICKS:
        return folder / "yardsticks.parquet"
    return folder / member.source / f"s{seed}.parquet"


def missing_files(folder: Path, spec: EnsembleSpec, seed: int) -> list[Path]:
    """Artifacts of members that do not exist, each once.

    Args:
        folder: recommendations of a dataset.
        spec: with the members.
        seed: of the ensemble.
    """
    paths = dict.fromkeys(member_path(folder, member, seed) for member in spec.members)
    return [path for path in paths if not path.exists()]


def unite(
    name: str, folder: Path, spec: EnsembleSpec, seed: int, cases: Cases, ambiguity: Ambiguity
) -> Evaluation:
    """The ensemble's list, and the place of each target in it: 0 where no member's list has it.

    Args:
        name: of the new list.
        folder: recommendations of a dataset.
        spec: members and rule.
        seed: of the members.
        cases: whom the lists must be made for.
        ambiguity: place among equal scores; see `fusion`.

    Raises:
        MacrecError: a list is missing, made for other users, or has scores without a logarithm.
    """
    whole, unseen = [], []
    for member in spec.members:
        path = member_path(folder, member, seed)
        found = read_list(path, member.list, cases)
        if found.unseen is None:
            raise MacrecError(
                f"{path}: list {member.list!r} has no candidates 'unseen_items'; run the stage "
                "that makes it again"
            )
        whole.append(_comparable(path, found.rankings[member.list], member))
        unseen.append(_comparable(path, found.unseen.rankings[member.list], member))

    def evaluated(rankings: Sequence[Ranking], inner: Evaluation | None) -> Evaluation:
        one = fuse(rankings, spec.rule, [member.weight for member in spec.members])
        return Evaluation({name: one}, {name: target_ranks(one, cases.targets, ambiguity)}, inner)

    return evaluated(whole, evaluated(unseen, None))


def _comparable(path: Path, ranking: Ranking, member: EnsembleMember) -> Ranking:
    """The list with the logarithms of its scores, where the member asks for them."""
    if member.smoothing is None:
        return ranking
    lowest = float(ranking.scores.min(initial=0.0))
    if lowest + member.smoothing <= 0:
        raise MacrecError(
            f"{path}: list {member.list!r} has the score {lowest}, and score + "
            f"smoothing={member.smoothing} has no logarithm; scores that are logarithms already "
            "need smoothing: null"
        )
    return replace(ranking, scores=np.log(ranking.scores + member.smoothing))
