from __future__ import annotations

from dataclasses import replace

from macrec_core.report.cells import Cells
from macrec_core.report.results import results_table
from macrec_core.report.summary import summarise

BOTH = ["text", "image"]


def row_of(text, name, dataset="toys"):
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    (row,) = [row for row in rows if row[:2] == [dataset, name]]
    return row


def head_of(text):
    return [c.strip() for c in text.splitlines()[0].strip("|").split("|")]


def table(cells, datasets, rows, missing=(), stars=None, exclude_seen=False):
    summary = summarise(Cells(list(cells), list(missing)), datasets, exclude_seen)
    return results_table(summary, rows, BOTH, stars or {})


def test_rows_of_the_table(cell, toys):
    cells = [cell(hr=0.5), cell(seed=1, hr=0.6), cell("tiger", hr=0.2)]
    text = table(cells, [toys], ["macrec", "tiger"])
    assert head_of(text) == [
        "dataset", "variant", "HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10",
        "unseen HR@1", "unseen HR@10", "unseen NDCG@10", "collisions %", "codes in use %",
        "users", "updates", "seeds",
    ]  # fmt: skip
    assert row_of(text, "macrec") == [
        "toys", "macrec", "_0.1100 ± 0.0141_", "_0.2750 ± 0.0354_", "**0.5500 ± 0.0707**",
        "_0.1375 ± 0.0177_", "_0.1833 ± 0.0236_", "_0.1320 ± 0.0170_", "**0.6600 ± 0.0849**",
        "_0.2200 ± 0.0283_", "text 12.5, image 25.0", "text 75.0, image 50.0", "40", "150", "2",
    ]  # fmt: skip
    assert row_of(text, "tiger")[2:7] == ["0.0400", "0.1000", "0.2000", "0.0500", "0.0667"]
    popularity = ["toys", "*popularity*", *["0.0500"] * 5, *["0.0700"] * 3, "", "", "40", "", ""]
    assert row_of(text, "*popularity*") == popularity
    order = [line.split("|")[2].strip() for line in text.splitlines()[2:]]
    assert order == ["*random*", "*popularity*", "*item_knn*", "macrec", "tiger", "*oracle*"]


def test_the_best_is_bold_the_second_italic_and_the_oracle_takes_no_part(cell, toys):
    text = table([cell(hr=0.2), cell("tiger", hr=0.2)], [toys], ["macrec", "tiger"])
    # item_knn .3 before both of .2, which tie for the second place.
    assert row_of(text, "*item_knn*")[4] == "**0.3000**"
    assert row_of(text, "macrec")[4] == row_of(text, "tiger")[4] == "_0.2000_"
    assert row_of(text, "*popularity*")[4] == "0.0500"
    assert row_of(text, "*oracle*")[4] == "0.9000"


def test_an_asterisk_stands_where_it_is_asked_for(cell, toys):
    stars = {"toys": {"macrec": [("all_items", "hr@10")], "tiger": [("unseen_items", "ndcg@10")]}}
    cells = [cell(hr=0.5), cell("tiger", hr=0.2)]
    text = table(cells, [toys], ["macrec", "tiger"], stars=stars)
    assert row_of(text, "macrec")[4] == "**0.5000** *"
    assert row_of(text, "tiger")[9] == "0.0800 *"
    assert text.count(" * ") == 2


def test_both_sets_of_candidates_stand_there_whatever_the_headline(cell, toys):
    for exclude_seen in (False, True):
        text = table([cell(hr=0.5)], [toys], ["macrec"], exclude_seen=exclude_seen)
        assert row_of(text, "macrec")[4] == "**0.5000**"
        assert row_of(text, "macrec")[8] == "**0.6000**"


def test_a_variants_own_modalities_are_named(cell, toys):
    only_text, third = cell("tiger"), cell()
    del only_text.semantic_ids["image"]
    third.semantic_ids["collab"] = third.semantic_ids["text"]
    text = table([only_text, third], [toys], ["tiger", "macrec"])
    assert row_of(text, "tiger")[10:12] == ["text 12.5", "text 75.0"]
    assert row_of(text, "macrec")[10] == "text 12.5, image 25.0, collab 12.5"


def test_a_data_set_without_an_oracle_has_no_such_row(cell, toys):
    yardsticks = {
        candidates: {name: rankings[name] for name in ("random", "popularity")}
        for candidates, rankings in toys.yardsticks.items()
    }
    assert "oracle" not in table([cell()], [replace(toys, yardsticks=yardsticks)], ["macrec"])


def test_a_part_of_the_users_shows_in_the_row(cell, toys):
    part = replace(toys, yardstick_users=30)
    text = table([cell(users=25), cell("tiger")], [part], ["macrec", "tiger"])
    assert row_of(text, "macrec")[12] == "25 of 40"
    assert row_of(text, "tiger")[12] == "40"
    assert row_of(text, "*random*")[12] == row_of(text, "*oracle*")[12] == "30 of 40"


def test_a_budget_that_ended_a_training_shows_in_the_row(cell, toys):
    # One of two seeds is enough.
    cells = [cell(stopped_by="max_steps"), cell(seed=1), cell("tiger", stopped_by="patience")]
    text = table(cells, [toys], ["macrec", "tiger"])
    assert row_of(text, "macrec")[13:] == ["150 (budget)", "2"]
    assert row_of(text, "tiger")[13:] == ["150", "1"]


def test_a_row_that_lacks_a_seed_says_which_and_is_never_the_best(cell, absent, toys):
    cells = [cell(hr=0.8), cell("tiger", hr=0.2)]
    text = table(cells, [toys], ["macrec", "tiger"], [absent(seed=3)])
    assert row_of(text, "macrec") == [
        "toys", "macrec", "missing: seed 3", *[""] * 11, "1 measured",
    ]  # fmt: skip
    assert "0.8000" not in text
    assert row_of(text, "*item_knn*")[4] == "**0.3000**"


def test_yardsticks_that_were_not_measured_are_missing(cell, toys):
    none = replace(toys, yardsticks={"all_items": {}, "unseen_items": {}}, yardstick_users=0)
    text = table([cell()], [none], ["macrec"])
    assert row_of(text, "yardsticks")[2:4] == ["missing", ""]
    assert row_of(text, "macrec")[4] == "**0.5000**"


def test_published_figures_have_columns_of_their_own_and_rows_that_did_not_run(cell, toys):
    def on(dataset, one):
        return replace(one, dataset=dataset)

    cells = [on("arts", cell("sasrec", hr=0.01)), cell()]
    text = table(cells, [replace(toys, name="arts"), toys], ["sasrec", "macrec"])
    head = head_of(text)
    assert head[2:12] == [
        "HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10", "HR@1 published", "HR@5 published",
        "HR@10 published", "NDCG@5 published", "NDCG@10 published",
    ]  # fmt: skip
    sasrec = row_of(text, "sasrec", "arts")
    assert sasrec[4] == "0.0100"
    assert sasrec[7:12] == ["0.0212", "0.0951", "0.1250", "0.0610", "0.0706"]
    missrec = row_of(text, "missrec", "arts")
    assert missrec[2:7] == ["only published", "", "", "", ""]
    assert missrec[9] == "0.1321"
    assert missrec[12:] == [""] * (len(head) - 12)
    # The published do not compete with ours, and a data set of our own has none.
    assert "**0.3000**" in row_of(text, "*item_knn*", "arts")[4]
    assert row_of(text, "macrec")[7:12] == [""] * 5
