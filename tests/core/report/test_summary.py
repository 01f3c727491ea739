from __future__ import annotations

import statistics

import pytest

from macrec_core.report.cells import Cells
from macrec_core.report.datasets import Dataset
from macrec_core.report.summary import summarise


def test_one_seed_has_a_mean_and_no_standard_deviation(cell, toys):
    found = summarise(Cells([cell()]), [toys], False)["toys"]["macrec"]
    assert found["hr@10"] == {"mean": 0.5}
    assert found["seeds"] == 1
    assert "std" not in str(found)


@pytest.mark.parametrize(("exclude_seen", "factor"), [(False, 1.0), (True, 1.2)])
def test_the_headline_is_of_the_chosen_candidates_and_both_stand_beside_it(
    cell, toys, exclude_seen, factor
):
    found = summarise(Cells([cell(hr=0.5), cell(seed=1, hr=0.6)]), [toys], exclude_seen)["toys"]
    assert found["macrec"]["hr@10"]["mean"] == pytest.approx(0.55 * factor)
    assert found["macrec"]["all_items"]["hr@10"]["mean"] == pytest.approx(0.55)
    assert found["macrec"]["unseen_items"]["hr@10"]["mean"] == pytest.approx(0.66)
    assert found["popularity"]["hr@1"] == pytest.approx(0.07 if exclude_seen else 0.05)
    assert found["popularity"]["all_items"]["hr@1"] == 0.05


def test_two_seeds_have_the_sample_standard_deviation(cell, toys):
    found = summarise(Cells([cell(hr=0.5), cell(seed=1, hr=0.6)]), [toys], False)["toys"]["macrec"]
    assert found["hr@10"]["mean"] == pytest.approx(0.55)
    assert found["hr@10"]["std"] == pytest.approx(statistics.stdev([0.5, 0.6]))
    assert found["collision_rate_text"] == {"mean": 0.125, "std": 0.0}
    assert found["seeds"] == 2


def test_every_figure_comes_from_its_own_variant(cell, toys):
    cells = [cell(hr=0.5), cell("tiger", hr=0.2), cell(seed=1, hr=0.7)]
    found = summarise(Cells(cells), [toys], False)["toys"]
    assert found["macrec"]["hr@10"]["mean"] == pytest.approx(0.6)
    assert found["tiger"]["hr@10"] == {"mean": 0.2}
    assert found["statistics"] == {
        "num_users": 40, "num_items": 20, "num_interactions": 300, "sparsity": 0.625,
        "average_length": 7.5,
    }  # fmt: skip
    assert found["popularity"]["hr@10"] == 0.05
    assert found["popularity"]["users"] == 40


def test_the_quantizers_last_epoch_is_summarised_and_imported_ids_have_none(cell, toys):
    learned = summarise(Cells([cell()]), [toys], False)["toys"]["macrec"]
    assert learned["unexplained_text"] == {"mean": 0.2}
    assert learned["positives"] == {"mean": 0.75}
    assert learned["codebook_use_text"] == {"mean": 0.75}
    assert learned["least_codebook_use_text"] == {"mean": 0.5}
    assert learned["updates"] == {"mean": 150.0}
    assert learned["targets_bought_before"] == {"mean": 3.0}
    early = summarise(Cells([cell(best_epoch=1)]), [toys], False)["toys"]["macrec"]
    assert early["updates"] == {"mean": 70.0}
    imported = summarise(Cells([cell(imported=True)]), [toys], False)["toys"]["macrec"]
    assert "positives" not in imported
    assert imported["collision_rate_image"] == {"mean": 0.25}


def test_positives_are_left_out_where_no_pseudo_label_is_consulted(cell, toys):
    without = cell("mql4grec")
    for row in without.quantizer["history"]:
        del row["positives"]
    found = summarise(Cells([cell(), without]), [toys], False)["toys"]
    assert "positives" in found["macrec"]
    assert "positives" not in found["mql4grec"]


def test_every_reason_that_ended_a_training_is_told(cell, toys):
    cells = [cell(stopped_by="max_steps"), cell(seed=1, stopped_by="patience"), cell("tiger")]
    found = summarise(Cells(cells), [toys], False)["toys"]
    assert found["macrec"]["stopped_by"] == ["max_steps", "patience"]
    assert found["tiger"]["stopped_by"] == ["max_epochs"]


def test_a_row_that_lacks_a_seed_says_so_and_has_no_figure(cell, absent, toys):
    cells = Cells([cell(), cell(seed=1), cell("tiger")], [absent(seed=3), absent(seed=4)])
    found = summarise(cells, [toys], False)["toys"]
    assert found["macrec"] == {"missing": "seeds 3, 4", "seeds": 2}
    assert found["tiger"]["hr@10"] == {"mean": 0.5}
    cells = Cells([], [absent("tiger", 0)])
    assert summarise(cells, [toys], False)["toys"]["tiger"] == {"missing": "seed 0", "seeds": 0}


def test_a_data_set_that_was_not_filtered_or_ranked_is_said_to_be_missing():
    empty = Dataset("toys", None, {"all_items": {}, "unseen_items": {}}, 0)
    assert summarise(Cells(), [empty], False) == {"toys": {"statistics": {"missing": "filter"}}}


def test_what_is_no_modality_is_not_summarised(cell, toys):
    other = cell()
    other.semantic_ids["settings"] = {"levels": 2}
    found = summarise(Cells([other]), [toys], False)["toys"]["macrec"]
    assert {key for key in found if key.startswith("collision_rate")} == {
        "collision_rate_text", "collision_rate_image",
    }  # fmt: skip
