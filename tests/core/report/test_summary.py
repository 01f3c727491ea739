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
    found = summarise([cell()], [toys], False)["toys"]["macrec"]
    assert found["hr@10"] == {"mean": 0.5}
    assert found["seeds"] == 1
    assert "std" not in str(found)


@pytest.mark.parametrize(("exclude_seen", "factor"), [(False, 1.0), (True, 1.2)])
def test_the_headline_is_of_the_chosen_candidates_and_both_stand_beside_it(
    cell, toys, exclude_seen, factor
):
    found = summarise([cell(hr=0.5), cell(seed=1, hr=0.6)], [toys], exclude_seen)["toys"]
    assert found["macrec"]["hr@10"]["mean"] == pytest.approx(0.55 * factor)
    assert found["macrec"]["all_items"]["hr@10"]["mean"] == pytest.approx(0.55)
    assert found["macrec"]["unseen_items"]["hr@10"]["mean"] == pytest.approx(0.66)
    assert found["popularity"]["hr@1"] == pytest.approx(0.07 if exclude_seen else 0.05)
    assert found["popularity"]["all_items"]["hr@1"] == 0.05
    # The table has both, whatever the headline.
    text = results_table({"toys": found}, ["toys"], ["macrec"], BOTH)
    assert row_of(text, "macrec")[4].startswith("0.5500")
    assert row_of(text, "macrec")[8].startswith("0.6600")


def test_two_seeds_have_the_sample_standard_deviation(cell, toys):
    found = summarise([cell(hr=0.5), cell(seed=1, hr=0.6)], [toys], False)["toys"]["macrec"]
    assert found["hr@10"]["mean"] == pytest.approx(0.55)
    assert found["hr@10"]["std"] == pytest.approx(statistics.stdev([0.5, 0.6]))
    assert found["collision_rate_text"] == {"mean": 0.125, "std": 0.0}
    assert found["seeds"] == 2


def test_every_figure_comes_from_its_own_variant(cell, toys):
    cells = [cell(hr=0.5), cell("tiger", hr=0.2), cell(seed=1, hr=0.7)]
    found = summarise(cells, [toys], False)["toys"]
    assert found["macrec"]["hr@10"]["mean"] == pytest.approx(0.6)
    assert found["tiger"]["hr@10"] == {"mean": 0.2}
    assert found["statistics"] == {"num_users": 40, "num_items": 20, "num_interactions": 300}
    assert found["popularity"]["hr@10"] == 0.05
    assert found["popularity"]["users"] == 40


def test_the_quantizers_last_epoch_is_summarised_and_imported_ids_have_none(cell, toys):
    learned = summarise([cell()], [toys], False)["toys"]["macrec"]
    assert learned["unexplained_text"] == {"mean": 0.2}
    assert learned["positives"] == {"mean": 0.75}
    assert learned["codebook_use_text"] == {"mean": 0.75}
    assert learned["least_codebook_use_text"] == {"mean": 0.5}
    assert learned["updates"] == {"mean": 150.0}
    assert learned["targets_bought_before"] == {"mean": 3.0}
    early = summarise([cell(best_epoch=1)], [toys], False)["toys"]["macrec"]
    assert early["updates"] == {"mean": 70.0}
    imported = summarise([cell(imported=True)], [toys], False)["toys"]["macrec"]
    assert "positives" not in imported
    assert imported["collision_rate_image"] == {"mean": 0.25}


def test_positives_are_left_out_where_no_pseudo_label_is_consulted(cell, toys):
    without = cell("mql4grec")
    for row in without.quantizer["history"]:
        del row["positives"]
    found = summarise([cell(), without], [toys], False)["toys"]
    assert "positives" in found["macrec"]
    assert "positives" not in found["mql4grec"]


def test_every_reason_that_ended_a_training_is_told(cell, toys):
    cells = [cell(stopped_by="max_steps"), cell(seed=1, stopped_by="patience"), cell("tiger")]
    found = summarise(cells, [toys], False)["toys"]
    assert found["macrec"]["stopped_by"] == ["max_steps", "patience"]
    assert found["tiger"]["stopped_by"] == ["max_epochs"]


def test_rows_of_the_table(cell, toys):
    summary = summarise([cell(hr=0.5), cell(seed=1, hr=0.6), cell("tiger", hr=0.2)], [toys], False)
    text = results_table(summary, ["toys"], ["macrec", "tiger"], BOTH)
    assert row_of(text, "variant") == [
        "dataset", "variant", "HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10",
        "unseen HR@1", "unseen HR@10", "unseen NDCG@10",
        "collisions % (text / image)", "codes in use % (text / image)",
        "users", "updates", "seeds",
    ]  # fmt: skip
    assert row_of(text, "macrec") == [
        "toys", "macrec", "0.1100 ± 0.0141", "0.2750 ± 0.0354", "0.5500 ± 0.0707",
        "0.1375 ± 0.0177", "0.1833 ± 0.0236", "0.1320 ± 0.0170", "0.6600 ± 0.0849",
        "0.2200 ± 0.0283", "12.5 / 25.0", "75.0 / 50.0", "40", "150", "2",
    ]  # fmt: skip
    assert row_of(text, "tiger")[2:7] == ["0.0400", "0.1000", "0.2000", "0.0500", "0.0667"]
    popularity = ["toys", "*popularity*", *["0.0500"] * 5, *["0.0700"] * 3, "", "", "40", "", ""]
    assert row_of(text, "*popularity*") == popularity
    order = [line.split("|")[2].strip() for line in text.splitlines()[2:]]
    assert order == ["*random*", "*popularity*", "*item_knn*", "macrec", "tiger", "*oracle*"]


def test_a_modality_that_a_variant_lacks_is_a_dash(cell, toys):
    only_text = cell("tiger")
    del only_text.semantic_ids["image"]
    text = results_table(summarise([only_text], [toys], False), ["toys"], ["tiger"], BOTH)
    assert row_of(text, "tiger")[10:12] == ["12.5 / -", "75.0 / -"]


def test_a_data_set_without_an_oracle_has_no_such_row(cell, toys):
    yardsticks = {
        candidates: {name: rankings[name] for name in ("random", "popularity")}
        for candidates, rankings in toys.yardsticks.items()
    }
    summary = summarise(
        [cell()],
        [
            Dataset(
                "toys", {"num_users": 40, "num_items": 20, "num_interactions": 300}, yardsticks, 40
            )
        ],
        False,
    )
    assert "oracle" not in results_table(summary, ["toys"], ["macrec"], BOTH)


def test_a_part_of_the_users_shows_in_the_row(cell, toys):
    part = Dataset(toys.name, toys.statistics, toys.yardsticks, 30)
    summary = summarise([cell(users=25), cell("tiger")], [part], False)
    text = results_table(summary, ["toys"], ["macrec", "tiger"], BOTH)
    assert row_of(text, "macrec")[12] == "25 of 40"
    assert row_of(text, "tiger")[12] == "40"
    assert row_of(text, "*random*")[12] == row_of(text, "*oracle*")[12] == "30 of 40"


def test_a_budget_that_ended_a_training_shows_in_the_row(cell, toys):
    # One of two seeds is enough.
    cells = [cell(stopped_by="max_steps"), cell(seed=1), cell("tiger", stopped_by="patience")]
    text = results_table(summarise(cells, [toys], False), ["toys"], ["macrec", "tiger"], BOTH)
    assert row_of(text, "macrec")[13:] == ["150 (budget)", "2"]
    assert row_of(text, "tiger")[13:] == ["150", "1"]


def test_the_modalities_name_the_columns(cell, toys):
    text = results_table(summarise([cell()], [toys], False), ["toys"], ["macrec"], ["image"])
    assert row_of(text, "variant")[10:12] == ["collisions % (image)", "codes in use % (image)"]
    assert row_of(text, "macrec")[10:12] == ["25.0", "50.0"]
