from __future__ import annotations

from dataclasses import replace

import pytest

from macrec_core.report.cells import Cells
from macrec_core.report.marks import (
    emphasised,
    is_ours,
    leads,
    significance_of,
    untested,
)
from macrec_core.report.summary import summarise

ROWS = {"popularity": 0.05, "item_knn": 0.3, "sasrec": 0.2, "macrec": 0.5}


@pytest.fixture
def part(cell, toys):
    """The summary of `ROWS`."""
    cells = Cells([cell("sasrec", hr=0.2), cell(hr=0.5)])
    return summarise(cells, [toys], False)["toys"]


def test_the_two_best_are_marked_ties_alike_and_the_oracle_not_counted():
    values = {"a": 0.1, "b": 0.3, "c": 0.3, "d": 0.2, "e": 0.2, "oracle": 0.9}
    texts = {name: f"{value}" for name, value in values.items()}
    assert emphasised(values, texts) == {
        "a": "0.1", "b": "**0.3**", "c": "**0.3**", "d": "_0.2_", "e": "_0.2_", "oracle": "0.9",
    }  # fmt: skip
    assert emphasised({"a": 0.1}, {"a": "x"}) == {"a": "**x**"}
    assert emphasised({"oracle": 0.1}, {"oracle": "x"}) == {"oracle": "x"}


def test_names_that_begin_so_are_ours():
    assert is_ours("macrec", ["macrec"])
    assert is_ours("macrec_collab", ["macrec"])
    assert is_ours("without_explicit", ["macrec", "without"])
    assert not is_ours("mql4grec", ["macrec", "without"])


def test_ours_is_compared_with_the_best_of_all_others(tested, toys, part):
    tests = tested(toys, ROWS).significance
    (lead,) = leads(tests, part, "hr@10", ["macrec"])
    assert (lead.row, lead.baseline) == ("macrec", "item_knn")
    # The pair stands the other way round: turned, with its intervals.
    assert lead.test["difference"] == pytest.approx(0.2)
    assert (lead.test["low"], lead.test["high"]) == pytest.approx((0.0, 0.3))
    seeds = lead.test["seeds"]
    assert (seeds["low"], seeds["difference"], seeds["high"]) == pytest.approx((-0.2, 0.2, 0.5))
    assert lead.significant


def test_nothing_leads_where_the_best_baseline_was_not_tested(tested, toys, part, caplog):
    # missrec has .6, and no lists were compared.
    more = part | {"missrec": {"hr@10": {"mean": 0.6}, "ndcg@10": {"mean": 0.2}}}
    tests = tested(toys, ROWS).significance
    assert leads(tests, more, "hr@10", ["macrec"]) == []
    assert "the best baseline, missrec, was not tested" in caplog.text
    assert untested(tests, more) == ["missrec"]
    assert untested(tests, part) == []
    tests["missing"] = {"tiger": [1]}
    assert untested(tests, part) == ["tiger"]
    # One that was not tested and is not the best changes nothing.
    less = part | {"missrec": {"hr@10": {"mean": 0.1}, "ndcg@10": {"mean": 0.1}}}
    assert [lead.baseline for lead in leads(tests, less, "hr@10", ["macrec"])] == ["item_knn"]


def test_a_pair_that_stands_the_right_way_round_is_left_as_it_is(tested, toys, part):
    rows = {"macrec": 0.5, "item_knn": 0.3}
    (lead,) = leads(tested(toys, rows).significance, part, "hr@10", ["macrec"])
    assert (lead.test["low"], lead.test["high"]) == pytest.approx((0.1, 0.4))


@pytest.mark.parametrize(
    ("rows", "p", "significant"),
    [
        (ROWS, 0.049, True),
        (ROWS, 0.051, False),
        # Significantly worse is not better.
        ({"item_knn": 0.6, "macrec": 0.5}, 0.001, False),
    ],
)
def test_only_what_is_better_by_the_adjusted_p_is_significant(
    tested, toys, part, rows, p, significant
):
    (lead,) = leads(tested(toys, rows, p).significance, part, "hr@10", ["macrec"])
    assert lead.significant is significant


def test_a_row_without_figures_neither_leads_nor_is_the_best_baseline(tested, toys, part):
    tests = tested(toys, ROWS).significance
    (lead,) = leads(tests, part | {"item_knn": {"missing": "seed 1"}}, "hr@10", ["macrec"])
    assert lead.baseline == "sasrec"
    assert leads(tests, part | {"macrec": {"missing": "seed 1"}}, "hr@10", ["macrec"]) == []


def test_without_a_baseline_there_is_nothing_to_lead(tested, toys, part):
    tests = tested(toys, {"macrec": 0.5}).significance
    assert leads(tests, {"macrec": part["macrec"]}, "hr@10", ["macrec"]) == []


def test_tests_of_another_run_are_not_used(tested, toys, part, caplog):
    good = tested(toys, ROWS)
    assert significance_of(good, part, "all_items") == (good.significance, "")
    for wrong in (ROWS | {"macrec": 0.51}, ROWS | {"item_knn": 0.31}, ROWS | {"bert4rec": 0.1}):
        found, reason = significance_of(tested(toys, wrong), part, "all_items")
        assert found is None
        assert "another run" in reason
    assert "dvc repro -s significance@toys" in caplog.text
    assert significance_of(good, part, "unseen_items")[0] is None
    assert significance_of(replace(good, significance=None), part, "all_items")[0] is None


def test_tests_that_know_a_row_which_is_missing_now_are_used(tested, toys, part):
    good = tested(toys, ROWS)
    lacking = part | {"macrec": {"missing": "seed 1", "seeds": 1}}
    assert significance_of(good, lacking, "all_items")[0] is good.significance
