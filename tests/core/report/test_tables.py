from __future__ import annotations

from dataclasses import replace

import pytest

from macrec_core.report.cells import Cells
from macrec_core.report.datasets import Dataset
from macrec_core.report.marks import Lead
from macrec_core.report.summary import summarise
from macrec_core.report.tables import (
    ablation_table,
    agreement_table,
    collision_table,
    lead_table,
    same_split,
    statistics_table,
)

BOTH = ["text", "image"]


def rows_of(text):
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]


@pytest.fixture
def arts(toys):
    """The toy under the name of a data set of the paper."""
    return replace(toys, name="arts")


def on(dataset, cell):
    return replace(cell, dataset=dataset)


def test_table_1_has_the_papers_row_below_ours(toys, arts):
    text = statistics_table(summarise(Cells(), [toys, arts], False))
    assert rows_of(text)[2:] == [
        ["toys", "here", "40", "20", "300", "62.50%", "7.50"],
        ["arts", "here", "40", "20", "300", "62.50%", "7.50"],
        ["arts", "published", "22171", "9416", "174079", "99.92%", "7.85"],
    ]


def test_table_1_says_what_is_missing(toys):
    text = statistics_table(summarise(Cells(), [replace(toys, statistics=None)], False))
    assert rows_of(text)[2] == ["toys", "here", "missing", "", "", "", ""]


def test_a_split_is_the_papers_if_its_counts_are():
    counts = {"num_users": 17112, "num_items": 6250, "num_interactions": 136226}
    assert same_split("instruments", counts)
    assert not same_split("instruments", counts | {"num_users": 17111})
    assert not same_split("instruments", {"missing": "filter"})


def test_table_3_holds_macrec_and_what_is_left_without_its_parts(cell, absent, toys):
    cells = Cells(
        [cell(hr=0.5), cell("without_implicit", hr=0.4), cell("tiger", hr=0.3)],
        [absent("without_explicit", 2)],
    )
    variants = ["macrec", "without_implicit", "without_explicit", "tiger"]
    text = ablation_table(summarise(cells, [toys], False), variants)
    assert rows_of(text)[2:] == [
        ["macrec", "0.5000"], ["without_implicit", "0.4000"],
        ["without_explicit", "missing: seed 2"],
    ]  # fmt: skip
    assert ablation_table(summarise(cells, [toys], False), ["macrec", "tiger"]) is None


def test_table_3_has_published_columns_and_rows_that_did_not_run(cell, toys, arts):
    cells = Cells(
        [on("arts", cell(hr=0.5)), on("arts", cell("without_implicit", hr=0.4)), cell(hr=0.2)]
    )
    text = ablation_table(summarise(cells, [toys, arts], False), ["macrec", "without_implicit"])
    head, _, *rows = rows_of(text)
    assert head == ["variant", "toys", "arts", "arts published"]
    assert rows[:2] == [
        ["macrec", "0.2000", "0.5000", "0.1329"],
        ["without_implicit", "not run", "0.4000", "0.1296"],
    ]
    assert ["without_explicit", "not run", "not run", "0.1299"] in rows


def test_table_4_has_a_column_for_each_modality_of_any_variant(cell, absent, toys):
    only_text, third = cell("tiger"), cell("macrec_collab")
    del only_text.semantic_ids["image"]
    third.semantic_ids["collab"] = {**third.semantic_ids["text"], "collision_rate": 0.5}
    cells = Cells([only_text, third, cell(), cell(seed=1)], [absent("mql4grec", 0)])
    variants = ["macrec", "macrec_collab", "mql4grec", "tiger"]
    text = collision_table(summarise(cells, [toys], False), variants, BOTH)
    head, _, *rows = rows_of(text)
    assert head == ["dataset", "variant", "text", "image", "collab"]
    assert rows == [
        ["toys", "macrec", "12.50 ± 0.00", "25.00 ± 0.00", "-"],
        ["toys", "macrec_collab", "12.50", "25.00", "50.00"],
        ["toys", "mql4grec", "missing: seed 0", "", ""],
        ["toys", "tiger", "12.50", "-", "-"],
    ]
    assert collision_table(summarise(Cells(), [toys], False), [], BOTH) is None


def test_table_4_has_published_columns(cell, toys, arts):
    cells = Cells([on("arts", cell())])
    text = collision_table(summarise(cells, [arts], False), ["macrec"], BOTH)
    head, _, *rows = rows_of(text)
    assert head[4:] == ["text published", "image published"]
    assert rows == [
        ["arts", "macrec", "12.50", "25.00", "4.24", "5.29"],
        ["arts", "mql4grec", "only published", "", "5.15", "5.71"],
    ]


def test_the_tests_of_ours_against_the_best_baseline():
    test = {
        "difference": 0.0123, "low": -0.001, "high": 0.02, "p_bootstrap": 0.0412,
        "p_bootstrap_holm": 1.0, "p_t": 0.04, "p_t_holm": 0.00001,
    }  # fmt: skip
    seeds = {"difference": 0.0123, "low": 0.01, "high": 0.015, "count": 5}
    found = [
        ("toys", "hr@10", Lead("macrec", "tiger", test, False)),
        ("toys", "ndcg@10", Lead("macrec", "tiger", test | {"seeds": seeds}, False)),
    ]
    _, _, one, other = rows_of(lead_table(found))
    assert one == [
        "toys", "HR@10", "macrec", "tiger", "+0.0123", "-0.0010 to +0.0200", ".0412", "1.0000",
        ".0400", "< .0001", "one seed",
    ]  # fmt: skip
    assert other[-1] == "+0.0100 to +0.0150, 5 seeds"


def test_agreement_has_a_row_a_modality_and_attribute(toys):
    figures = {
        "classes": 3, "without": 2, "purity": 0.9, "purity_chance": 0.4, "neighbours": 0.8,
        "neighbours_chance": 0.25,
    }  # fmt: skip
    found = {"modalities": {"image": {"brand": figures}, "text": {"brand": figures}}}
    text = agreement_table([replace(toys, embeddings=found), toys], BOTH)
    assert rows_of(text)[2:] == [
        ["toys", modality, "brand", "3", "2", "0.900", "0.400", "0.800", "0.250"]
        for modality in BOTH
    ]
    assert agreement_table([toys], BOTH) is None
    assert isinstance(toys, Dataset)
