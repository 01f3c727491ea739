from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from macrec_core import schemas
from macrec_core.artifacts import read_artifact, write_artifact
from macrec_core.ranking import Cases, Evaluation, Ranking
from macrec_core.recommendations import recommendations_table

USERS = 60


@pytest.fixture
def folder(tmp_path):
    """Recommendations: macrec right for most, sasrec for few, of two seeds; a yardstick."""
    rng = np.random.default_rng(0)

    def write(name, shares):
        cases = Cases(np.arange(USERS), np.zeros(USERS, int), np.zeros(USERS, int), np.arange(61))
        empty = Ranking(np.zeros(USERS + 1, int), np.empty(0, int), np.empty(0))
        ranks = {n: (rng.random(USERS) < share).astype(int) for n, share in shares.items()}
        # Without what was bought before, the other way round.
        unseen = Evaluation(dict.fromkeys(ranks, empty), {n: 1 - r for n, r in ranks.items()})
        whole = Evaluation(dict.fromkeys(ranks, empty), ranks, unseen)
        table = recommendations_table(whole, cases)
        write_artifact(tmp_path / "lists" / name, table, schemas.RECOMMENDATIONS)

    for seed in (0, 1):
        write(f"macrec/s{seed}.parquet", {"ensemble": 0.9, "text": 0.5, "image": 0.5})
        write(f"sasrec/s{seed}.parquet", {"sasrec": 0.2})
    write("yardsticks.parquet", {"item_knn": 0.3, "oracle": 1.0})
    return tmp_path / "lists"


@pytest.fixture
def run(run_stage, params_file, tmp_path):
    def make(folder, name="significance.json", **changes):
        axes = {"variants": ["macrec"], "baselines": ["sasrec"], "seeds": [0, 1]}
        result = run_stage(
            "significance", dataset="sample", recommendations=folder,
            ensembles=folder.parent / "united", metrics=tmp_path / name,
            params=params_file(**(axes | {"significance": {"bootstrap_draws": 200}} | changes)),
        )  # fmt: skip
        return result, tmp_path / name

    return make


def test_multimodal_baselines_are_rows_of_learned_datasets_alone(run, folder):
    for seed in (0, 1):
        path = folder / f"sasrec/s{seed}.parquet"
        table = read_artifact(path, schemas.RECOMMENDATIONS)
        names = pa.array(["missrec"] * table.num_rows)
        table = table.set_column(0, "list", names)
        write_artifact(folder / f"missrec/s{seed}.parquet", table, schemas.RECOMMENDATIONS)
    result, path = run(folder, multimodal_baselines=["missrec"])
    assert result.exit_code == 0, result.output
    pairs = {(p["one"], p["other"]) for p in json.loads(path.read_text())["pairs"]}
    assert ("sasrec", "missrec") in pairs and ("missrec", "macrec") in pairs
    published = {
        "source": "published", "folder": "x", "name": "X", "index_files": {"text": "x"},
        "embedding_files": {},
    }  # fmt: skip
    result, path = run(
        folder, "imported.json", multimodal_baselines=["missrec"], datasets=["sample", "other"],
        dataset_specs={"sample": published, "other": {"source": "sample", "num_items": 9,
                       "num_users": 9, "image_size": 32, "seed": 0}},
        learned_datasets=["other"], imported_datasets=["sample"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "missrec" not in path.read_text()


def test_every_pair_but_the_oracle_is_tested(run, folder):
    result, path = run(folder)
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())
    assert {(p["one"], p["other"]) for p in found["pairs"]} == {
        ("sasrec", "macrec"), ("sasrec", "item_knn"), ("macrec", "item_knn"),
    }  # fmt: skip
    assert (found["users"], found["candidates"], found["missing"]) == (USERS, "all_items", {})
    pair = next(p for p in found["pairs"] if p["other"] == "macrec")
    assert pair["hr@10"]["difference"] < -0.4
    assert pair["hr@10"]["p_bootstrap_holm"] < 0.05
    assert pair["hr@10"]["seeds"]["count"] == 2
    again, second = run(folder, "again.json")
    assert again.exit_code == 0
    assert second.read_bytes() == path.read_bytes()


def test_the_headlines_candidates_are_tested(run, folder):
    _, path = run(folder, eval={"exclude_seen": True})
    found = json.loads(path.read_text())
    assert found["candidates"] == "unseen_items"
    assert found["means"]["hr@10"]["macrec"] < 0.3


def test_rows_that_lack_a_seed_are_left_out_and_listed(run, folder):
    (folder / "macrec" / "s1.parquet").unlink()
    result, path = run(folder)
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())
    assert found["missing"] == {"macrec": [1]}
    assert [(p["one"], p["other"]) for p in found["pairs"]] == [("sasrec", "item_knn")]
    assert "sample: macrec lacks 1 of 2 artifacts" in result.output
    assert "macrec/s1.parquet" in result.output


def test_baselines_that_read_embeddings_are_tested_where_ids_are_learned(run, folder):
    _, path = run(folder, multimodal_baselines=["missrec"])
    assert json.loads(path.read_text())["missing"] == {"missrec": [0, 1]}


def test_a_broken_artifact_is_an_error(run, folder):
    (folder / "macrec" / "s1.parquet").write_bytes(b"PAR1")
    result, path = run(folder)
    assert result.exit_code == 1
    assert "macrec/s1.parquet: is no readable Parquet file" in result.output
    assert not path.exists()


def test_an_ensemble_is_a_row(run, folder):
    for seed in (0, 1):
        path = folder.parent / f"united/both/s{seed}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = read_artifact(folder / f"sasrec/s{seed}.parquet", schemas.RECOMMENDATIONS)
        named = pa.repeat("both", table.num_rows)
        write_artifact(path, table.set_column(0, "list", named), schemas.RECOMMENDATIONS)
    members = [
        {"source": name, "list": listed, "weight": 1.0, "smoothing": None}
        for name, listed in (("macrec", "ensemble"), ("sasrec", "sasrec"))
    ]
    specs = {"both": {"rule": "mean", "members": members}}
    result, path = run(folder, ensembles=["both"], ensemble_specs=specs)
    assert result.exit_code == 0, result.output
    means = json.loads(path.read_text())["means"]["hr@10"]
    assert means["both"] == means["sasrec"] < means["macrec"]


def test_a_multimodal_baseline_is_a_row_of_a_learned_dataset(run, folder):
    result, path = run(folder, multimodal_baselines=["missrec"])
    assert result.exit_code == 0, result.output
    assert json.loads(path.read_text())["missing"] == {"missrec": [0, 1]}
