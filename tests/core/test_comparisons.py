from __future__ import annotations

import numpy as np
import pytest

from macrec_core import schemas
from macrec_core.artifacts import write_artifact
from macrec_core.comparisons import compare_rows
from macrec_core.errors import MacrecError
from macrec_core.metrics import hit_rate, ndcg
from macrec_core.ranking import Cases, Evaluation, Ranking
from macrec_core.recommendations import ALL_ITEMS, UNSEEN_ITEMS, recommendations_table
from macrec_core.user_values import (
    UserValues,
    read_values,
    sources_of,
    values_of,
    yardstick_sources,
)


@pytest.fixture
def params(committed_params):
    """`significance` with 500 draws."""
    return committed_params.significance.model_copy(update={"bootstrap_draws": 500})


@pytest.fixture
def write(tmp_path):
    """Writes an artifact RECOMMENDATIONS of ranks by list; without seen items all one better."""

    def make(name, ranks, users=None):
        count = len(next(iter(ranks.values())))
        users = np.arange(count) if users is None else np.array(users)
        cases = Cases(users, np.zeros(count, int), np.zeros(count, int), np.arange(count + 1))
        empty = Ranking(np.zeros(count + 1, int), np.empty(0, int), np.empty(0))
        rankings = dict.fromkeys(ranks, empty)
        unseen = Evaluation(rankings, {n: np.maximum(np.array(r) - 1, 0) for n, r in ranks.items()})
        whole = Evaluation(rankings, {n: np.array(r) for n, r in ranks.items()}, unseen)
        path = tmp_path / name
        write_artifact(path, recommendations_table(whole, cases), schemas.RECOMMENDATIONS)
        return path

    return make


def values(*seeds):
    """One row of `UserValues`; each seed's HR@10 values, NDCG@10 half of them."""
    return UserValues(
        np.arange(len(seeds[0])),
        {
            seed: {"hr@10": np.array(v, float), "ndcg@10": np.array(v, float) / 2}
            for seed, v in enumerate(seeds)
        },
    )


# ------------------------------------------------------------------------------------- values


def test_values_of_users_have_the_metrics_as_their_means():
    ranks = np.array([1, 0, 3, 10, 11, 400])
    found = values_of(ranks)
    np.testing.assert_allclose(found["hr@10"], [1, 0, 1, 1, 0, 0])
    np.testing.assert_allclose(found["ndcg@10"], [1, 0, 0.5, 1 / np.log2(11), 0, 0])
    assert found["hr@10"].mean() == hit_rate(ranks, 10)
    assert found["ndcg@10"].mean() == pytest.approx(ndcg(ranks, 10))


def test_a_variants_row_is_its_ensemble_and_a_baselines_the_list_of_its_name(write, tmp_path):
    write("macrec/s0.parquet", {"ensemble": [1, 0, 0], "text": [0, 0, 0], "image": [0, 0, 1]})
    write("macrec/s1.parquet", {"ensemble": [1, 2, 0], "text": [0, 0, 0], "image": [0, 0, 1]})
    write("sasrec/s0.parquet", {"sasrec": [0, 0, 11]})
    write("sasrec/s1.parquet", {"sasrec": [0, 0, 11]})
    sources = sources_of(tmp_path, ["macrec"], ["sasrec"], [0, 1])
    assert [source.name for source in sources] == ["sasrec", "macrec"]
    found = read_values(sources, ALL_ITEMS)
    np.testing.assert_array_equal(found["macrec"].mean("hr@10"), [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(found["sasrec"].mean("hr@10"), [0.0, 0.0, 0.0])
    # Without what was bought before, the target at 11 comes to 10.
    found = read_values(sources, UNSEEN_ITEMS)
    np.testing.assert_array_equal(found["sasrec"].mean("hr@10"), [0.0, 0.0, 1.0])


def test_yardsticks_are_all_but_the_oracle(write):
    path = write("yardsticks.parquet", {"popularity": [1, 0], "oracle": [1, 1], "item_knn": [0, 1]})
    sources = yardstick_sources(path)
    assert sorted(source.name for source in sources) == ["item_knn", "popularity"]
    found = read_values(sources, ALL_ITEMS)
    np.testing.assert_array_equal(found["item_knn"].mean("hr@10"), [0.0, 1.0])


def test_what_does_not_exist_is_missing_by_seed(write, tmp_path):
    write("macrec/s1.parquet", {"ensemble": [1]})
    (source,) = sources_of(tmp_path, ["macrec"], [], [0, 1, 2])
    assert source.missing == [0, 2]
    (source,) = yardstick_sources(tmp_path / "yardsticks.parquet")
    assert (source.name, source.missing) == ("yardsticks", [None])


def test_other_users_are_an_error_that_names_both_files(write, tmp_path):
    write("macrec/s0.parquet", {"ensemble": [1, 1, 0]})
    write("sasrec/s0.parquet", {"sasrec": [1, 1, 0]}, users=[0, 1, 5])
    sources = sources_of(tmp_path, ["macrec"], ["sasrec"], [0])
    with pytest.raises(MacrecError, match=r"macrec/s0.*3 users, .*sasrec/s0.* 3, 2 of them"):
        read_values(sources, ALL_ITEMS)


def test_a_list_that_is_not_there_is_an_error(write, tmp_path):
    write("macrec/s0.parquet", {"text": [1]})
    with pytest.raises(MacrecError, match="has no list 'ensemble' of candidates 'all_items'"):
        read_values(sources_of(tmp_path, ["macrec"], [], [0]), ALL_ITEMS)


# -------------------------------------------------------------------------------------- pairs


def test_every_pair_in_every_metric_with_both_ps_adjusted_within_the_metric(params):
    rng = np.random.default_rng(0)
    rows = {n: values(rng.random(40) < p) for n, p in (("a", 0.2), ("b", 0.3), ("c", 0.9))}
    found = compare_rows(rows, params)
    assert [(p["one"], p["other"]) for p in found["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    for metric, factor in (("hr@10", 1.0), ("ndcg@10", 0.5)):
        for name, row in rows.items():
            assert found["means"][metric][name] == factor * row.seeds[0]["hr@10"].mean()
        for test in ("p_bootstrap", "p_t"):
            plain = [pair[metric][test] for pair in found["pairs"]]
            adjusted = [pair[metric][f"{test}_holm"] for pair in found["pairs"]]
            # The largest of three is not multiplied, the least three times.
            assert adjusted[int(np.argmin(plain))] == pytest.approx(min(1, 3 * min(plain)))
            assert adjusted[0] == pytest.approx(plain[0])
            assert plain[0] == max(plain)
    assert "seeds" not in found["pairs"][0]["hr@10"]


def test_users_are_averaged_over_seeds_and_seeds_are_paired(params):
    a = values([1, 1, 0, 0], [1, 1, 1, 0])  # .5, .75
    b = values([1, 0, 0, 0], [0, 1, 0, 0])  # .25, .25
    yardstick = UserValues(
        np.arange(4), {None: {"hr@10": np.array([1.0, 0, 0, 0]), "ndcg@10": np.zeros(4)}}
    )
    found = compare_rows({"a": a, "b": b, "knn": yardstick}, params)
    first, second, third = (pair["hr@10"] for pair in found["pairs"])
    assert first["difference"] == pytest.approx(0.625 - 0.25)
    assert first["seeds"]["difference"] == pytest.approx(0.375)
    assert first["seeds"]["count"] == 2
    # A yardstick is the same for every seed.
    assert second["seeds"]["difference"] == pytest.approx(0.375)
    assert third["seeds"]["low"] == third["seeds"]["high"] == 0.0


def test_too_few_draws_for_so_many_pairs_are_told(params, caplog):
    rng = np.random.default_rng(0)
    rows = {str(n): values(rng.random(20)) for n in range(5)}
    compare_rows(rows, params)
    assert not caplog.records
    compare_rows(rows, params.model_copy(update={"bootstrap_draws": 150}))
    assert "10 pairs and significance.bootstrap_draws=150" in caplog.text
