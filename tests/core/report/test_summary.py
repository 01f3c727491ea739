from __future__ import annotations

import statistics

import pytest

from macrec_core.report.cells import Dataset
from macrec_core.report.summary import results_table, summarise


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
    assert found["statistics"] == {"num_users": 40}
    assert found["popularity"]["hr@10"] == 0.05


def test_the_quantizers_last_epoch_is_summarised_and_imported_ids_have_none(cell, toys):
    learned = summarise([cell()], [toys])["toys"]["macrec"]
    assert learned["unexplained_text"] == {"mean": 0.2}
    assert learned["positives"] == {"mean": 0.75}
    assert learned["codebook_use_text"] == {"mean": 0.75}
    imported = summarise([cell(imported=True)], [toys])["toys"]["macrec"]
    assert "positives" not in imported
    assert imported["collision_rate_image"] == {"mean": 0.25}


def test_rows_of_the_table(cell, toys):
    summary = summarise([cell(hr=0.5), cell(seed=1, hr=0.6), cell("tiger", hr=0.2)], [toys])
    text = results_table(summary, ["toys"], ["macrec", "tiger"])
    assert row_of(text, "variant") == [
        "dataset", "variant", "HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10",
        "collisions % (text / image)", "codes in use % (text / image)", "seeds",
    ]  # fmt: skip
    assert row_of(text, "macrec") == [
        "toys", "macrec", "0.1100 ± 0.0141", "0.2750 ± 0.0354", "0.5500 ± 0.0707",
        "0.1375 ± 0.0177", "0.1833 ± 0.0236", "12.5 / 25.0", "75.0 / 50.0", "2",
    ]  # fmt: skip
    assert row_of(text, "tiger")[2:7] == ["0.0400", "0.1000", "0.2000", "0.0500", "0.0667"]
    assert row_of(text, "*popularity*") == ["toys", "*popularity*", *["0.0500"] * 5, "", "", ""]
    order = [line.split("|")[2].strip() for line in text.splitlines()[2:]]
    assert order == ["*random*", "*popularity*", "macrec", "tiger", "*oracle*"]


def test_a_modality_that_a_variant_lacks_is_a_dash(cell, toys):
    only_text = cell("tiger")
    del only_text.semantic_ids["image"]
    text = results_table(summarise([only_text], [toys]), ["toys"], ["tiger"])
    assert row_of(text, "tiger")[7:9] == ["12.5 / -", "75.0 / -"]


def test_a_data_set_without_an_oracle_has_no_such_row(cell, toys):
    yardsticks = {name: toys.yardsticks[name] for name in ("random", "popularity")}
    summary = summarise([cell()], [Dataset("toys", {}, yardsticks)])
    assert "oracle" not in results_table(summary, ["toys"], ["macrec"])
