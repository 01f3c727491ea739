from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from macrec_core.artifacts import write_json
from macrec_core.errors import MacrecError
from macrec_core.params.evaluation import EnsembleMember, EnsembleSpec
from macrec_core.recommendations import CANDIDATES
from macrec_core.report.cells import read_baselines, read_cells, read_ensembles
from macrec_core.report.datasets import read_datasets


@pytest.fixture
def folder(tmp_path):
    """Metric files of two data sets (the second with imported IDs) and two seeds."""
    for dataset, ids in (("toys", "assign_sids"), ("games", "import_sids")):
        write_json(tmp_path / dataset / "filter.json", {"file": f"{dataset} filter"})
        rankings = {c: {"random": {"file": f"{dataset} {c}"}} for c in CANDIDATES}
        measured = {"dataset": dataset, "users": 7, **rankings}
        write_json(tmp_path / dataset / "yardsticks.json", measured)
        write_json(tmp_path / dataset / "significance.json", {"file": f"{dataset} significance"})
        if ids == "assign_sids":
            for stage in ("embed_text", "embed_image", "pseudo_labels", "plot_embeddings"):
                write_json(tmp_path / dataset / f"{stage}.json", {"file": f"{dataset} {stage}"})
        for seed in (0, 1):
            stages = [ids, "build_seq2seq", "train_gr", "evaluate"]
            stages += ["train_rqvae"] if ids == "assign_sids" else []
            for stage in stages:
                path = tmp_path / dataset / "macrec" / f"s{seed}" / f"{stage}.json"
                write_json(path, {"file": f"{dataset} {seed} {stage}"})
    return tmp_path


BOTH = ["text", "image"]


def test_every_named_cell_is_read_from_its_own_files(folder):
    found = read_cells(folder, ["toys", "games"], ["macrec"], [0, 1], ["games"], BOTH)
    cells = found.measured
    assert [c.name for c in cells] == [
        "toys-macrec-0", "toys-macrec-1", "games-macrec-0", "games-macrec-1",
    ]  # fmt: skip
    assert found.missing == []
    assert found.rows("toys") == ["macrec"]
    assert cells[1].quantizer == {"file": "toys 1 train_rqvae"}
    assert cells[1].semantic_ids == {"file": "toys 1 assign_sids"}
    assert cells[2].quantizer is None
    assert cells[2].semantic_ids == {"file": "games 0 import_sids"}
    assert cells[3].recommender == {"file": "games 1 train_gr"}
    assert cells[3].evaluation == {"file": "games 1 evaluate"}


def test_clustered_ids_have_no_quantizer_whatever_the_dataset(folder):
    names, datasets = ["macrec", "p5_cid"], ["toys", "games"]
    for dataset in datasets:
        home = folder / dataset / "p5_cid" / "s0"
        for stage in ("cluster_sids", "build_seq2seq", "train_gr", "evaluate"):
            write_json(home / f"{stage}.json", {"file": f"{dataset} p5_cid {stage}"})
    cells = read_cells(folder, datasets, names, [0], ["games"], BOTH, ["p5_cid"]).measured
    assert [c.name for c in cells][1::2] == ["toys-p5_cid-0", "games-p5_cid-0"]
    assert [c.quantizer for c in cells][1:] == [None] * 3
    assert [c.semantic_ids for c in cells] == [
        {"file": "toys 0 assign_sids"}, {"file": "toys p5_cid cluster_sids"},
        {"file": "games 0 import_sids"}, {"file": "games p5_cid cluster_sids"},
    ]  # fmt: skip


def test_clustered_ids_miss_embeddings_only_where_images_are_read(folder):
    names = ["p5_cid", "vip5"]
    for name in names:
        for stage in ("cluster_sids", "build_seq2seq", "train_gr", "evaluate"):
            write_json(folder / "toys" / name / "s0" / f"{stage}.json", {})
    (folder / "toys" / "pseudo_labels.json").unlink()
    assert len(read_cells(folder, ["toys"], names, [0], [], BOTH, names, ["vip5"]).measured) == 2
    (folder / "toys" / "embed_image.json").unlink()
    found = read_cells(folder, ["toys"], names, [0], [], BOTH, names, ["vip5"])
    assert [c.variant for c in found.measured] == ["p5_cid"]
    assert [c.variant for c in found.missing] == ["vip5"]


def test_cells_that_are_not_named_are_not_read(folder):
    cells = read_cells(folder, ["toys"], ["macrec"], [1], [], BOTH)
    assert [c.name for c in cells.measured] == ["toys-macrec-1"]


@pytest.mark.parametrize(
    "file",
    [
        *(f"macrec/s1/{stage}.json" for stage in (
            "train_rqvae", "assign_sids", "build_seq2seq", "train_gr", "evaluate",
        )),
        # What later stages have left is of an earlier run.
        "embed_image.json", "pseudo_labels.json", "filter.json",
    ],
)  # fmt: skip
def test_a_cell_without_a_file_of_its_own_or_of_an_earlier_stage_is_missing(folder, file, caplog):
    (folder / "toys" / file).unlink()
    found = read_cells(folder, ["toys"], ["macrec"], [0, 1], [], BOTH)
    lost = [1] if "s1" in file else [0, 1]
    assert [c.seed for c in found.measured] == [seed for seed in (0, 1) if seed not in lost]
    assert found.seeds_missing("toys", "macrec") == lost
    assert all(cell.files == (folder / "toys" / file,) for cell in found.missing)
    assert found.rows("toys") == ["macrec"]
    found.log_missing()
    assert f"{len(lost)} of 2 cells are missing" in caplog.text
    assert f"missing: toys macrec seed 1 ({folder / 'toys' / file})" in caplog.text


def test_imported_ids_need_no_embeddings(folder):
    assert not (folder / "games" / "embed_text.json").exists()
    found = read_cells(folder, ["games"], ["macrec"], [0, 1], ["games"], BOTH)
    assert len(found.measured) == 2


def test_a_variant_that_never_ran_is_missing_altogether(folder):
    found = read_cells(folder, ["toys"], ["macrec", "tiger"], [0, 1], [], BOTH)
    assert found.seeds_missing("toys", "tiger") == [0, 1]
    assert found.seeds_missing("toys", "macrec") == []
    assert found.rows("toys") == ["macrec", "tiger"]


def test_baselines_are_read_and_missed_likewise(folder):
    home = folder / "toys" / "sasrec" / "s0"
    for stage in ("train_baseline", "evaluate_baseline"):
        write_json(home / f"{stage}.json", {"file": stage})
    found = read_baselines(folder, ["toys"], ["sasrec"], [0, 1])
    assert [c.name for c in found.measured] == ["toys-sasrec-0"]
    assert found.measured[0].recommender == {"file": "train_baseline"}
    assert found.measured[0].evaluation == {"file": "evaluate_baseline"}
    assert found.seeds_missing("toys", "sasrec") == [1]
    both = found + read_cells(folder, ["toys"], ["macrec"], [0], [], BOTH)
    assert both.rows("toys") == ["sasrec", "macrec"]


def test_a_broken_file_is_an_error(folder):
    (folder / "toys" / "macrec" / "s1" / "evaluate.json").write_text('{"hr@10": ')
    with pytest.raises(MacrecError, match=r"toys/macrec/s1/evaluate\.json: is no readable JSON"):
        read_cells(folder, ["toys"], ["macrec"], [0, 1], [], BOTH)
    (folder / "toys" / "yardsticks.json").write_text("[]")
    with pytest.raises(MacrecError, match=r"toys/yardsticks\.json: holds list"):
        read_datasets(folder, ["toys"], [], BOTH)


def test_data_sets_are_read_with_what_is_measured_once(folder):
    toys, games = read_datasets(folder, ["toys", "games"], ["games"], BOTH)
    assert (toys.name, toys.statistics) == ("toys", {"file": "toys filter"})
    assert toys.yardsticks == {c: {"random": {"file": f"toys {c}"}} for c in CANDIDATES}
    assert toys.yardstick_users == 7
    assert toys.significance == {"file": "toys significance"}
    assert toys.embeddings == {"file": "toys plot_embeddings"}
    assert games.embeddings is None


@pytest.mark.parametrize("stage", ["embed_text", "embed_image", "pseudo_labels", "filter"])
def test_a_picture_of_embeddings_that_are_gone_is_of_an_earlier_run(folder, stage, caplog):
    (folder / "toys" / f"{stage}.json").unlink()
    (toys,) = read_datasets(folder, ["toys"], [], BOTH)
    assert toys.embeddings is None
    gone = folder / "toys" / f"{stage}.json"
    assert f"missing: {gone}; the report goes on without plot_embeddings" in caplog.text
    # Yardsticks rank what filter has left.
    assert (toys.yardsticks[CANDIDATES[0]] == {}) == (stage == "filter")


def test_what_is_missing_of_a_data_set_is_left_empty_and_logged(folder, caplog):
    for stage in ("filter", "yardsticks", "significance"):
        (folder / "games" / f"{stage}.json").unlink()
    (games,) = read_datasets(folder, ["games"], ["games"], BOTH)
    assert games.statistics is games.significance is None
    assert games.yardsticks == {c: {} for c in CANDIDATES}
    for stage in ("filter", "yardsticks", "significance"):
        assert f"{folder / 'games' / stage}.json; the report goes on without {stage}" in caplog.text
    # Where there are no embeddings, their picture is not missed.
    assert "plot_embeddings" not in caplog.text


def ensemble(*sources):
    members = [EnsembleMember(source=s, list=s, weight=1.0, smoothing=None) for s in sources]
    return EnsembleSpec(rule="mean", members=members)


@pytest.fixture
def united(folder):
    """Reads what stage ensembles has left for seed 0 of `toys`."""
    figures = {c: {"both": {"hr@10": 0.5}} for c in CANDIDATES}
    left = {"ensembles": {"both": {"s0": figures}}, "missing": {"both": {"s2": ["lists.parquet"]}}}
    write_json(folder / "toys/ensembles.json", left)

    def read(spec, datasets=("toys",), seeds=(0,)):
        members = read_cells(folder, datasets, ["macrec"], seeds, ["games"], BOTH)
        return read_ensembles(folder, datasets, {"both": spec}, seeds, members)

    return read


def test_an_ensemble_has_lists_and_no_training(united):
    found = united(ensemble("macrec", "item_knn"), ["toys", "games"], [0, 1])
    (cell,) = found.measured
    assert (cell.name, cell.recommender, cell.semantic_ids) == ("toys-both-0", None, None)
    assert cell.ranking(CANDIDATES[1]) == {"hr@10": 0.5}
    assert [(c.dataset, c.seed) for c in found.missing] == [
        ("toys", 1), ("games", 0), ("games", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "file", ["macrec/s0/train_gr.json", "pseudo_labels.json", "yardsticks.json", "filter.json"]
)
def test_an_ensemble_whose_member_is_missing_is_of_an_earlier_run(folder, united, file):
    (folder / "toys" / file).unlink()
    found = united(ensemble("macrec", "item_knn"))
    assert found.measured == []
    assert [c.files for c in found.missing] == [(folder / "toys" / file,)]


def test_what_is_no_member_is_not_missed(folder, united):
    (folder / "toys/yardsticks.json").unlink()
    (folder / "toys/macrec/s1/evaluate.json").unlink()
    # Seed 1 of a member says nothing about seed 0.
    found = united(ensemble("macrec", "sasrec"), seeds=[0, 1])
    assert [c.name for c in found.measured] == ["toys-both-0"]
    assert [c.files for c in found.missing] == [(folder / "toys/macrec/s1/evaluate.json",)]
    assert united(ensemble("sasrec", "tiger")).missing == []


def test_an_ensemble_that_was_left_out_names_the_artifacts(folder, united):
    home = folder / "toys/macrec"
    shutil.copytree(home / "s0", home / "s2")
    found = united(ensemble("macrec", "sasrec"), seeds=[0, 2])
    assert [c.name for c in found.measured] == ["toys-both-0"]
    assert [(c.seed, c.files) for c in found.missing] == [(2, (Path("lists.parquet"),))]
