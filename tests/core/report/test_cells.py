from __future__ import annotations

import pytest

from macrec_core.artifacts import write_json
from macrec_core.errors import MacrecError
from macrec_core.recommendations import CANDIDATES
from macrec_core.report.cells import read_cells, read_datasets


@pytest.fixture
def folder(tmp_path):
    """Metric files of two data sets (the second with imported IDs) and two seeds."""
    for dataset, ids in (("toys", "assign_sids"), ("games", "import_sids")):
        write_json(tmp_path / dataset / "filter.json", {"file": f"{dataset} filter"})
        rankings = {c: {"random": {"file": f"{dataset} {c}"}} for c in CANDIDATES}
        measured = {"dataset": dataset, "users": 7, **rankings}
        write_json(tmp_path / dataset / "yardsticks.json", measured)
        for seed in (0, 1):
            stages = [ids, "train_gr", "evaluate"]
            stages += ["train_rqvae"] if ids == "assign_sids" else []
            for stage in stages:
                path = tmp_path / dataset / "macrec" / f"s{seed}" / f"{stage}.json"
                write_json(path, {"file": f"{dataset} {seed} {stage}"})
    return tmp_path


def test_every_named_cell_is_read_from_its_own_files(folder):
    cells = read_cells(folder, ["toys", "games"], ["macrec"], [0, 1], ["games"])
    assert [c.name for c in cells] == [
        "toys-macrec-0", "toys-macrec-1", "games-macrec-0", "games-macrec-1",
    ]  # fmt: skip
    assert cells[1].quantizer == {"file": "toys 1 train_rqvae"}
    assert cells[1].semantic_ids == {"file": "toys 1 assign_sids"}
    assert cells[2].quantizer is None
    assert cells[2].semantic_ids == {"file": "games 0 import_sids"}
    assert cells[3].recommender == {"file": "games 1 train_gr"}
    assert cells[3].evaluation == {"file": "games 1 evaluate"}


def test_clustered_ids_have_no_quantizer_whatever_the_data_set(folder):
    for dataset in ("toys", "games"):
        home = folder / dataset / "p5_cid" / "s0"
        for stage in ("cluster_sids", "train_gr", "evaluate"):
            write_json(home / f"{stage}.json", {"file": f"{dataset} p5_cid {stage}"})
    cells = read_cells(folder, ["toys", "games"], ["macrec", "p5_cid"], [0], ["games"], ["p5_cid"])
    assert [c.name for c in cells][1::2] == ["toys-p5_cid-0", "games-p5_cid-0"]
    assert [c.quantizer for c in cells][1:] == [None] * 3
    assert [c.semantic_ids for c in cells] == [
        {"file": "toys 0 assign_sids"}, {"file": "toys p5_cid cluster_sids"},
        {"file": "games 0 import_sids"}, {"file": "games p5_cid cluster_sids"},
    ]  # fmt: skip


def test_cells_that_are_not_named_are_not_read(folder):
    cells = read_cells(folder, ["toys"], ["macrec"], [1], [])
    assert [c.name for c in cells] == ["toys-macrec-1"]


@pytest.mark.parametrize("stage", ["train_rqvae", "assign_sids", "train_gr", "evaluate"])
def test_a_missing_cell_is_an_error_naming_the_file(folder, stage):
    (folder / "toys" / "macrec" / "s1" / f"{stage}.json").unlink()
    with pytest.raises(MacrecError, match=rf"toys/macrec/s1/{stage}\.json: does not exist"):
        read_cells(folder, ["toys"], ["macrec"], [0, 1], [])


def test_data_sets_are_read_with_their_yardsticks(folder):
    (toys,) = read_datasets(folder, ["toys"])
    assert (toys.name, toys.statistics) == ("toys", {"file": "toys filter"})
    assert toys.yardsticks == {c: {"random": {"file": f"toys {c}"}} for c in CANDIDATES}
    assert toys.yardstick_users == 7
    (folder / "toys" / "yardsticks.json").unlink()
    with pytest.raises(MacrecError, match=r"toys/yardsticks\.json: does not exist"):
        read_datasets(folder, ["toys"])
