from __future__ import annotations

import json

from macrec_core import schemas
from macrec_core.artifacts import read_artifact
from macrec_core.id_table import ids_table, published_ids, write_ids

FILES = ("train.parquet", "eval.parquet", "vocabulary.json")


def test_counts_and_artifacts_of_the_toy(toy_cell, successors):
    interactions, _ = successors
    lengths = interactions.group_by("user_id").aggregate([([], "count_all")])
    windows = sum(n - 3 for n in lengths.column("count_all").to_pylist())
    figures = json.loads((toy_cell / "build_seq2seq.json").read_text())
    assert figures["tasks"] == {
        "recommend:text>text": windows,
        "recommend:image>image": windows,
        "align_sequences:text>image": windows,
        "align_sequences:image>text": windows,
        "align_items:text>image": 30,
        "align_items:image>text": 30,
    }
    assert figures["examples"] == 4 * windows + 60
    assert (figures["valid_users"], figures["test_users"]) == (40, 40)
    assert figures["vocabulary"] == 2 + 4 + 2 * 2 * 8
    assert [figures[f"{split}_histories_cut"] for split in ("train", "valid", "test")] == [0] * 3
    train = read_artifact(toy_cell / "seq2seq" / "train.parquet", schemas.TRAINING_EXAMPLES)
    assert train.num_rows == figures["examples"]
    read_artifact(toy_cell / "seq2seq" / "eval.parquet", schemas.EVALUATION_EXAMPLES)


def test_histories_that_were_cut_are_counted(run_cell, successors, params_file, tmp_path):
    interactions, _ = successors
    params = params_file(seq2seq={"max_history": 4})
    assert run_cell("build_seq2seq", tmp_path, params).exit_code == 0
    figures = json.loads((tmp_path / "build_seq2seq.json").read_text())
    rows = interactions.to_pylist()
    for split in ("train", "valid", "test"):
        cut = sum(row["split"] == split and row["position"] > 4 for row in rows)
        assert figures[f"{split}_histories_cut"] == cut > 0


def test_a_second_run_gives_the_same_bytes(toy_cell, run_cell, params_file, tmp_path):
    assert run_cell("build_seq2seq", tmp_path, params_file()).exit_code == 0
    for name in FILES:
        first = (toy_cell / "seq2seq" / name).read_bytes()
        assert (tmp_path / "seq2seq" / name).read_bytes() == first


def test_a_variant_of_one_modality_has_its_task_only(
    run_stage, toy_stage_inputs, successors, params_file, tmp_path
):
    ids = ids_table({"text": published_ids(successors[1]["text"])})
    write_ids(tmp_path / "ids.parquet", ids, ["text"], 8)
    result = run_stage(
        "build_seq2seq", dataset="sample", variant="tiger", seed=0,
        interactions=toy_stage_inputs / "interactions.parquet",
        semantic_ids=tmp_path / "ids.parquet", output=tmp_path / "seq2seq",
        metrics=tmp_path / "m.json", params=params_file(),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "m.json").read_text())
    assert list(figures["tasks"]) == ["recommend:text>text"]
    assert figures["vocabulary"] == 2 + 2 * 8


def test_ids_of_other_modalities_than_the_variants_are_one_line(run_cell, params_file, tmp_path):
    result = run_cell("build_seq2seq", tmp_path, params_file(), variant="tiger")
    assert result.exit_code == 1
    assert "semantic_ids.parquet: semantic_ids has columns" in " ".join(result.output.split())


def test_missing_interactions_are_one_line(run_stage, toy_stage_inputs, params_file, tmp_path):
    result = run_stage(
        "build_seq2seq", dataset="sample", variant="macrec", seed=0,
        interactions=tmp_path / "none.parquet",
        semantic_ids=toy_stage_inputs / "semantic_ids.parquet",
        output=tmp_path / "seq2seq", metrics=tmp_path / "m.json", params=params_file(),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "none.parquet: does not exist; run the stage that makes it" in result.output
    assert not (tmp_path / "seq2seq").exists()
