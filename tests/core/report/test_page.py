from __future__ import annotations

import re
from dataclasses import replace

import pytest

from macrec_core.report.cells import Cells
from macrec_core.report.page import Layout, results_page
from macrec_core.report.summary import summarise

LAYOUT = Layout(
    ["sasrec"], ["macrec", "tiger"], [], ["text", "image"], ["macrec"], False, "test", {}, {}
)
ROWS = {"popularity": 0.05, "item_knn": 0.3, "sasrec": 0.2, "macrec": 0.5}


@pytest.fixture
def page():
    """The page of cells of one data set or several."""

    def make(cells, datasets, layout=LAYOUT):
        return results_page(summarise(cells, datasets, False), cells, datasets, layout)

    return make


def headings(text):
    return re.findall(r"^## (.*)$", text, flags=re.MULTILINE)


@pytest.fixture
def cells(cell):
    """A baseline and a variant."""
    return Cells([cell("sasrec", hr=0.2), cell(hr=0.5)])


def test_the_page_has_what_there_is(page, cells, toys, tested):
    text = page(cells, [tested(toys, ROWS)])
    assert headings(text) == [
        "Table 1: statistics of the datasets", "Table 2: results", "Table 4: collisions",
    ]  # fmt: skip
    assert "No cell is missing." in text
    assert "bootstrap of 500 resamples" in text
    assert "adjusted bootstrap p below 0.05" in text
    assert "| **0.5000** * |" in text
    assert "| toys | HR@10 | macrec | item_knn | +0.2000 |" in text
    assert "published" not in text.replace("stay as published", "")
    assert not re.search("\n\n\n", text)


def test_tests_that_are_not_significant_leave_no_asterisk(page, cells, toys, tested):
    text = page(cells, [tested(toys, ROWS, p=0.2)])
    assert "| **0.5000** |" in text
    assert "** *" not in text


def test_without_tests_the_page_says_why(page, cells, toys, tested):
    assert "toys: no tests, the stage `significance` has not run." in page(cells, [toys])
    text = page(cells, [tested(toys, ROWS | {"macrec": 0.4})])
    assert "toys: no tests, the stage `significance` tells of another run" in text
    assert "** *" not in text


def test_targets_other_than_those_of_the_test_are_named(page, cells, toys):
    assert "**Targets of the split" not in page(cells, [toys])
    assert "**Targets of the split `valid`.**" in page(
        cells, [toys], replace(LAYOUT, split="valid")
    )


def test_rows_that_were_not_tested_are_listed(page, cells, toys, tested):
    dataset = tested(toys, ROWS)
    dataset.significance["missing"] = {"tiger": [1], "mql4grec": [0, 1]}
    assert "toys: not tested, for lack of lists: `mql4grec`, `tiger`." in page(cells, [dataset])


def test_missing_cells_are_counted_on_top(page, cell, absent, toys):
    text = page(Cells([cell("sasrec"), cell(seed=0)], [absent(seed=1)]), [toys])
    assert "**1 of 3 cells (dataset, row, seed) are missing**" in text
    assert "missing: seed 1" in text


def test_ablations_and_figures_come_with_their_cells(page, cells, cell, toys):
    found = {"modalities": {"text": {"brand": dict.fromkeys(
        ("classes", "without", "purity", "purity_chance", "neighbours", "neighbours_chance"), 1
    )}}}  # fmt: skip
    layout = replace(
        LAYOUT, variants=["macrec", "without_explicit"], figures={"toys": "plots/codes.png"},
        embeddings={"toys": "figures/toys_embeddings.png"}, exclude_seen=True,
    )  # fmt: skip
    both = cells + Cells([cell("without_explicit", hr=0.4)])
    text = page(both, [replace(toys, embeddings=found)], layout)
    assert headings(text)[2:] == [
        "Table 3: ablations", "Table 4: collisions", "Figure 1: embeddings by brand and type",
        "Figure 4: items a codeword",
    ]  # fmt: skip
    assert "HR@10 of unseen items" in text
    assert "![Codes in use, toys](plots/codes.png)" in text
    assert "![Embeddings, toys](figures/toys_embeddings.png)" in text
    assert "| toys | text | brand | 1 | 1 | 1.000 |" in text


def test_a_data_set_of_the_paper_says_whether_its_split_is_the_same(page, cell, toys):
    other = replace(toys, name="games")
    cells = Cells([replace(cell(), dataset="games")])
    assert "games: columns named *published* are the paper's." in page(cells, [other])
    assert "**another split**" in page(cells, [other])
    unknown = page(cells, [replace(other, statistics=None)])
    assert "here are unknown" in unknown
    assert "split" not in unknown.split("are the paper's")[1].splitlines()[0]
    counts = {"num_users": 42259, "num_items": 13839, "num_interactions": 373514}
    same = replace(other, statistics=other.statistics | counts)
    assert "ours, same split" in page(cells, [same])
