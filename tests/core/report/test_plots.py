from __future__ import annotations

import csv
import io

from macrec_core.report.plots import plot_tables


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_curves_are_named_by_cell_and_modality(cell):
    tables = plot_tables([cell(), cell("tiger", 1)], False)
    assert rows_of(tables["quantizer_loss.csv"])[:2] == [
        {"cell": "toys-macrec-0", "epoch": "1", "loss": "9"},
        {"cell": "toys-macrec-0", "epoch": "2", "loss": "8"},
    ]
    assert {row["cell"] for row in rows_of(tables["quantizer_loss.csv"])} == {
        "toys-macrec-0", "toys-tiger-1",
    }  # fmt: skip
    # Measured at the second epoch only.
    assert rows_of(tables["collision_rate.csv"])[:2] == [
        {"cell": "toys-macrec-0 image", "epoch": "2", "collision_rate": "0.0625"},
        {"cell": "toys-macrec-0 text", "epoch": "2", "collision_rate": "0.125"},
    ]
    assert rows_of(tables["unexplained_variance.csv"])[0]["unexplained"] == "0.1"


def test_the_recommender_has_a_training_and_a_validation_curve(cell):
    assert rows_of(plot_tables([cell()], False)["recommender_loss.csv"]) == [
        {"cell": "toys-macrec-0 training", "epoch": "1", "loss": "3.5"},
        {"cell": "toys-macrec-0 validation", "epoch": "1", "loss": "3.25"},
        {"cell": "toys-macrec-0 training", "epoch": "2", "loss": "2.5"},
        {"cell": "toys-macrec-0 validation", "epoch": "2", "loss": "2.25"},
    ]


def test_items_a_code_are_those_of_the_second_level(cell):
    rows = rows_of(plot_tables([cell()], False)["items_a_code.csv"])
    assert [(r["cell"], r["codeword"], r["items"]) for r in rows] == [
        ("toys-macrec-0 text", "0", "4"),
        ("toys-macrec-0 text", "1", "0"),
        ("toys-macrec-0 image", "0", "3"),
        ("toys-macrec-0 image", "1", "1"),
    ]


def test_one_level_gives_its_own_counts(cell):
    single = cell()
    single.semantic_ids["text"]["items_a_code"] = [[3, 1]]
    rows = rows_of(plot_tables([single], False)["items_a_code.csv"])
    assert [r["items"] for r in rows if r["cell"].endswith("text")] == ["3", "1"]


def test_imported_ids_draw_no_quantizer_curve(cell):
    tables = plot_tables([cell(imported=True)], False)
    assert rows_of(tables["quantizer_loss.csv"]) == []
    assert rows_of(tables["ranking.csv"])[0]["hr@10"] == "0.500000"
