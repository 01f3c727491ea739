from __future__ import annotations

import statistics

import pytest

from macrec_core.report.cells import Dataset
from macrec_core.report.summary import results_table, summarise

BOTH = ["text", "image"]


def row_of(text, name):
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    (row,) = [row for row in rows if row[1] == name]
    return row


def test_one_seed_has_a_mean_and_no_standard_deviation(cell, toys):
    found = summarise([cell()], [toys])["toys"]["macrec"]
    assert found["hr@10"] == {"mean": 0.5}
    assert found["seeds"] == 1
    assert not any("std" in value for value in found.values() if isinstance(value, dict))


def test_two_seeds_have_the_sample_standard_deviation(cell, toys):
    found = summarise([cell(hr=0.5), cell(seed=1, hr=0.6)], [toys])["toys"]["macrec"]
    assert found["hr@10"]["mean"] == pytest.approx(0.55)
    assert found["hr@10"]["std"] == pytest.approx(statistics.stdev([0.5, 0.6]))
    assert found["collision_rate_text"] == {"mean": 0.125, "std": 0.0}
    assert found["seeds"] == 2


def test_every_figure_comes_from_its_own_variant(cell, toys):
    cells = [cell(hr=0.5), cell("tiger", hr=0.2), cell(seed=1, hr=0.7)]
    found = summarise(cells, [toys])["toys"]
    assert found["macrec"]["hr@10"]["mean"] == pytest.approx(0.6)
    assert found["tiger"]["hr@10"] == {"mean": 0.2}
    assert found["statistics"] == {"num_users": 40, "num_items": 20, "num_interactions": 300}
    assert found["popularity"]["hr@10"] == 0.05
    assert found["popularity"]["users"] == 40


def test_the_quantizers_last_epoch_is_summarised_and_imported_ids_have_none(cell, toys):
    learned = summarise([cell()], [toys])["toys"]["macrec"]
    assert learned["unexplained_text"] == {"mean": 0.2}
    assert learned["positives"] == {"mean": 0.75}
    assert learned["codebook_use_text"] == {"mean": 0.75}
    assert learned["least_codebook_use_text"] == {"mean": 0.5}
    assert learned["updates"] == {"mean": 150.0}
    imported = summarise([cell(imported=True)], [toys])["toys"]["macrec"]
    assert "positives" not in imported
    assert imported["collision_rate_image"] == {"mean": 0.25}


def test_positives_are_left_out_where_no_pseudo_label_is_consulted(cell, toys):
    without = cell("mql4grec")
    for row in without.quantizer["history"]:
        del row["positives"]
    found = summarise([cell(), without], [toys])["toys"]
    assert "positives" in found["macrec"]
    assert "positives" not in found["mql4grec"]


def test_every_reason_that_ended_a_training_is_told(cell, toys):
    cells = [cell(stopped_by="max_steps"), cell(seed=1, stopped_by="patience"), cell("tiger")]
    found = summarise(cells, [toys])["toys"]
    assert found["macrec"]["stopped_by"] == ["max_steps", "patience"]
    assert found["tiger"]["stopped_by"] == ["max_epochs"]


def test_rows_of_the_table(cell, toys):
    summary = summarise([cell(hr=0.5), cell(seed=1, hr=0.6), cell("tiger", hr=0.2)], [toys])
    text = results_table(summary, ["toys"], ["macrec", "tiger"], BOTH)
    assert row_of(text, "variant") == [
        "dataset", "variant", "HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10",
        "collisions % (text / image)", "codes in use % (text / image)",
        "users", "T5 updates", "seeds",
    ]  # fmt: skip
    assert row_of(text, "macrec") == [
        "toys", "macrec", "0.1100 ± 0.0141", "0.2750 ± 0.0354", "0.5500 ± 0.0707",
        "0.1375 ± 0.0177", "0.1833 ± 0.0236", "12.5 / 25.0", "75.0 / 50.0", "40", "150", "2",
    ]  # fmt: skip
    assert row_of(text, "tiger")[2:7] == ["0.0400", "0.1000", "0.2000", "0.0500", "0.0667"]
    popularity = ["toys", "*popularity*", *["0.0500"] * 5, "", "", "40", "", ""]
    assert row_of(text, "*popularity*") == popularity
    order = [line.split("|")[2].strip() for line in text.splitlines()[2:]]
    assert order == ["*random*", "*popularity*", "macrec", "tiger", "*oracle*"]


def test_a_modality_that_a_variant_lacks_is_a_dash(cell, toys):
    only_text = cell("tiger")
    del only_text.semantic_ids["image"]
    text = results_table(summarise([only_text], [toys]), ["toys"], ["tiger"], BOTH)
    assert row_of(text, "tiger")[7:9] == ["12.5 / -", "75.0 / -"]


def test_a_data_set_without_an_oracle_has_no_such_row(cell, toys):
    yardsticks = {name: toys.yardsticks[name] for name in ("random", "popularity")}
    summary = summarise(
        [cell()],
        [
            Dataset(
                "toys", {"num_users": 40, "num_items": 20, "num_interactions": 300}, yardsticks, 40
            )
        ],
    )
    assert "oracle" not in results_table(summary, ["toys"], ["macrec"], BOTH)


def test_a_part_of_the_users_shows_in_the_row(cell, toys):
    part = Dataset(toys.name, toys.statistics, toys.yardsticks, 30)
    summary = summarise([cell(users=25), cell("tiger")], [part])
    text = results_table(summary, ["toys"], ["macrec", "tiger"], BOTH)
    assert row_of(text, "macrec")[9] == "25 of 40"
    assert row_of(text, "tiger")[9] == "40"
    assert row_of(text, "*random*")[9] == row_of(text, "*oracle*")[9] == "30 of 40"


def test_a_budget_that_ended_a_training_shows_in_the_row(cell, toys):
    # One of two seeds is enough.
    cells = [cell(stopped_by="max_steps"), cell(seed=1), cell("tiger", stopped_by="patience")]
    text = results_table(summarise(cells, [toys]), ["toys"], ["macrec", "tiger"], BOTH)
    assert row_of(text, "macrec")[10:] == ["150 (budget)", "2"]
    assert row_of(text, "tiger")[10:] == ["150", "1"]


def test_the_modalities_name_the_columns(cell, toys):
    text = results_table(summarise([cell()], [toys]), ["toys"], ["macrec"], ["image"])
    assert row_of(text, "variant")[7:9] == ["collisions % (image)", "codes in use % (image)"]
    assert row_of(text, "macrec")[7:9] == ["25.0", "50.0"]
