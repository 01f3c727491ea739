from __future__ import annotations

import math

import numpy as np
import pytest

from macrec_core.artifacts import write_artifact
from macrec_core.ensembles import unite
from macrec_core.errors import MacrecError
from macrec_core.params.evaluation import EnsembleMember, EnsembleSpec
from macrec_core.ranking import Cases, Evaluation, Ranking
from macrec_core.recommendations import read_list, recommendations_table
from macrec_core.schemas import RECOMMENDATIONS

# Two users; 3 is the target of both, and the first has bought 5.
CASES = Cases(np.array([4, 9]), np.array([3, 3]), np.array([5, 2]), np.array([0, 1, 2]))


def ranking(*users):
    """A ranking of one dict of item to score, best first, a user."""
    flat = [pair for user in users for pair in user.items()]
    offsets = np.cumsum([0, *map(len, users)])
    return Ranking(offsets, np.array([i for i, _ in flat]), np.array([s for _, s in flat], float))


def evaluation(name, whole, unseen):
    """Ranks do not matter here."""
    nothing = np.zeros(2, dtype=np.int64)
    inner = Evaluation({name: unseen}, {name: nothing})
    return Evaluation({name: whole}, {name: nothing}, inner)


COUNTS = evaluation(
    "item_knn",
    ranking({5: 0.99, 3: 0.24, 1: 0.04}, {1: 0.49, 3: 0.09}),
    ranking({3: 0.24, 1: 0.04}, {1: 0.49, 3: 0.09}),
)
MODEL = evaluation(
    "sasrec",
    ranking({5: -1.0, 1: -1.5, 3: -2.0}, {3: -1.0, 7: -2.0}),
    ranking({1: -1.5, 3: -2.0}, {3: -1.0, 7: -2.0}),
)


def member(source, weight=1.0, smoothing=None, name=None):
    return EnsembleMember(source=source, list=name or source, weight=weight, smoothing=smoothing)


KNN = member("item_knn", weight=2.0, smoothing=0.01)
SASREC = member("sasrec")


@pytest.fixture
def folder(tmp_path):
    """Recommendations of one dataset."""
    for name, result in (("yardsticks", COUNTS), ("sasrec/s1", MODEL)):
        path = tmp_path / f"{name}.parquet"
        write_artifact(path, recommendations_table(result, CASES), RECOMMENDATIONS)
    return tmp_path


def united(folder, rule="mean", members=(KNN, SASREC), cases=CASES):
    spec = EnsembleSpec(rule=rule, members=list(members))
    return unite("both", folder, spec, 1, cases, "pessimistic")


def lists(result):
    found = result.rankings["both"]
    pairs = list(zip(found.items.tolist(), found.scores.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def test_logarithms_of_counts_and_log_probabilities_by_hand(folder):
    def close(value):
        return pytest.approx(value, abs=1e-6)  # scores are stored as float32

    result = united(folder)
    assert lists(result.unseen) == [
        [
            (3, close((2 * math.log(0.25) - 2.0) / 3)),
            (1, close((2 * math.log(0.05) - 1.5) / 3)),
        ],
        [
            # What one list lacks gets the lowest score of that list.
            (1, close((2 * math.log(0.5) - 2.0) / 3)),
            (3, close((2 * math.log(0.1) - 1.0) / 3)),
            (7, close((2 * math.log(0.1) - 2.0) / 3)),
        ],
    ]
    assert lists(result)[0][0] == (5, close((2 * math.log(1.0) - 1.0) / 3))
    assert result.ranks["both"].tolist() == [2, 2]
    assert result.unseen.ranks["both"].tolist() == [1, 2]


def test_ranks_need_no_comparable_scores(folder):
    equal = (member("item_knn"), SASREC)
    found = lists(united(folder, "reciprocal_rank", equal).unseen)
    assert found[0] == [(3, pytest.approx(1 / 62 + 1 / 61)), (1, pytest.approx(1 / 61 + 1 / 62))]
    # Twice the model's weight: what it puts first comes first.
    doubled = (member("item_knn"), member("sasrec", weight=2.0))
    assert [item for item, _ in lists(united(folder, "reciprocal_rank", doubled))[1]] == [3, 7, 1]


def test_log_probabilities_have_no_logarithm(folder):
    with pytest.raises(MacrecError, match=r"sasrec' has the score -2.0.*smoothing: null"):
        united(folder, members=(KNN, member("sasrec", smoothing=0.5)))


def test_a_missing_list_and_a_missing_artifact_are_named(folder):
    with pytest.raises(MacrecError, match=r"yardsticks.parquet: has no list 'popularity', only"):
        united(folder, members=(SASREC, member("popularity")))
    with pytest.raises(MacrecError, match=r"gru4rec/s1.parquet: does not exist"):
        united(folder, members=(SASREC, member("gru4rec")))


def test_lists_for_other_users_are_refused(folder):
    others = Cases(np.array([4, 8]), CASES.targets, CASES.items, CASES.offsets)
    with pytest.raises(MacrecError, match=r"the column user_id of list 'item_knn'"):
        united(folder, cases=others)
    moved = Cases(CASES.users, np.array([3, 1]), CASES.items, CASES.offsets)
    with pytest.raises(MacrecError, match=r"the column target_item of list 'item_knn'"):
        united(folder, cases=moved)


def test_a_list_is_read_as_it_was_written(folder):
    found = read_list(folder / "sasrec/s1.parquet", "sasrec", CASES)
    for ours, read in ((MODEL, found), (MODEL.unseen, found.unseen)):
        assert read.ranks["sasrec"].tolist() == ours.ranks["sasrec"].tolist()
        for attribute in ("offsets", "items", "scores"):
            expected = getattr(ours.rankings["sasrec"], attribute)
            assert getattr(read.rankings["sasrec"], attribute).tolist() == expected.tolist()


def test_two_times_the_same_list_and_an_idle_smoothing_are_errors():
    with pytest.raises(ValueError, match="occurs twice"):
        EnsembleSpec(rule="mean", members=[SASREC, SASREC])
    with pytest.raises(ValueError, match="smoothing changes no rank"):
        EnsembleSpec(rule="reciprocal_rank", members=[KNN, SASREC])
