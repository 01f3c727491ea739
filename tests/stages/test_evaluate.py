from __future__ import annotations

import json
import math
from itertools import product

import pytest

from macrec_core import schemas
from macrec_core.artifacts import read_artifact, write_artifact
from macrec_core.recommendations import CANDIDATES


def select(rows, name, candidates):
    return [r for r in rows if (r["list"], r["candidates"]) == (name, candidates)]


@pytest.fixture(scope="module")
def evaluated(toy_cell, run_cell, params_file):
    """Figures and recommendations of the toy; 7 does not divide its 40 users."""
    result = run_cell("evaluate", toy_cell, params_file(eval={"batch_size": 7}))
    assert result.exit_code == 0, result.output
    table = read_artifact(toy_cell / "recommendations.parquet", schemas.RECOMMENDATIONS)
    return json.loads((toy_cell / "evaluate.json").read_text()), table.to_pylist()


def test_every_user_has_every_list(evaluated, successors):
    figures, rows = evaluated
    assert (figures["users"], figures["users_left_out"]) == (40, 0)
    interactions, _ = successors
    targets = {r["user_id"]: r["item_id"] for r in interactions.to_pylist() if r["split"] == "test"}
    for name, candidates in product(("text", "image", "ensemble"), CANDIDATES):
        found = {r["user_id"]: r["target_item"] for r in select(rows, name, candidates)}
        assert found == targets


def test_ranks_are_the_places_of_the_targets(evaluated):
    _, rows = evaluated
    for row in rows:
        items = row["items"]
        assert len(set(items)) == len(items) >= (20 if row["candidates"] == "all_items" else 1)
        expected = items.index(row["target_item"]) + 1 if row["target_item"] in items else 0
        assert row["rank"] == expected
    assert 0 < sum(row["rank"] > 0 for row in rows)


def test_figures_follow_from_the_ranks(evaluated):
    figures, rows = evaluated
    for name, candidates in product(("text", "image", "ensemble"), CANDIDATES):
        found = figures[candidates][name]
        ranks = [row["rank"] for row in select(rows, name, candidates)]
        for k in (1, 5, 10):
            assert found[f"hr@{k}"] == pytest.approx(sum(0 < r <= k for r in ranks) / 40)
        for k in (5, 10):
            gains = [1 / math.log2(r + 1) for r in ranks if 0 < r <= k]
            assert found[f"ndcg@{k}"] == pytest.approx(sum(gains) / 40)


def test_lists_of_unseen_items_hold_none_of_the_history(evaluated, successors):
    figures, rows = evaluated
    interactions, _ = successors
    bought = {}
    for row in interactions.to_pylist():
        if row["split"] != "test":
            bought.setdefault(row["user_id"], set()).add(row["item_id"])
    met = 0
    for row in rows:
        common = bought[row["user_id"]] & set(row["items"])
        assert not (common and row["candidates"] == "unseen_items")
        met += len(common)
    assert met > 0
    repeated = sum(t in bought[u] for u, t in {(r["user_id"], r["target_item"]) for r in rows})
    assert figures["targets_bought_before"] == repeated


@pytest.mark.parametrize("candidates", CANDIDATES)
def test_the_ensemble_is_the_rule_applied_to_the_lists(evaluated, candidates):
    _, rows = evaluated
    lists = {
        (r["list"], r["user_id"]): dict(zip(r["items"], r["scores"], strict=True))
        for r in rows
        if r["candidates"] == candidates
    }
    for user in range(40):
        text, image = lists["text", user], lists["image", user]
        expected = {}
        for item in text.keys() | image.keys():
            own = [scores[item] for scores in (text, image) if item in scores]
            expected[item] = sum(own) / len(own) + len(own) - 1
        assert lists["ensemble", user] == pytest.approx(expected, abs=1e-5)


def test_a_second_run_gives_the_same_bytes(evaluated, toy_cell, run_cell, params_file):
    names = ("recommendations.parquet", "evaluate.json")
    first = [(toy_cell / name).read_bytes() for name in names]
    assert run_cell("evaluate", toy_cell, params_file(eval={"batch_size": 7})).exit_code == 0
    assert [(toy_cell / name).read_bytes() for name in names] == first


def test_validation_targets_can_be_measured_to_choose_settings_by(
    toy_cell, run_stage, params_file, toy_stage_inputs, successors, tmp_path
):
    result = run_stage(
        "evaluate", dataset="sample", variant="macrec", seed=0, seq2seq=toy_cell / "seq2seq",
        interactions=toy_stage_inputs / "interactions.parquet",
        semantic_ids=toy_stage_inputs / "semantic_ids.parquet",
        recommender=toy_cell / "recommender", recommendations=tmp_path / "r.parquet",
        metrics=tmp_path / "m.json", params=params_file(eval={"split": "valid"}),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    interactions, _ = successors
    valid = {r["user_id"]: r["item_id"] for r in interactions.to_pylist() if r["split"] == "valid"}
    rows = read_artifact(tmp_path / "r.parquet", schemas.RECOMMENDATIONS).to_pylist()
    assert {row["user_id"]: row["target_item"] for row in rows} == valid


def test_users_beyond_the_limit_are_counted(toy_cell, run_stage, params_file, toy_stage_inputs,
                                            tmp_path):  # fmt: skip
    result = run_stage(
        "evaluate", dataset="sample", variant="macrec", seed=0, seq2seq=toy_cell / "seq2seq",
        interactions=toy_stage_inputs / "interactions.parquet",
        semantic_ids=toy_stage_inputs / "semantic_ids.parquet",
        recommender=toy_cell / "recommender", recommendations=tmp_path / "r.parquet",
        metrics=tmp_path / "m.json", params=params_file(eval={"max_users": 9}),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "m.json").read_text())
    assert (figures["users"], figures["users_left_out"]) == (9, 31)


def test_interactions_of_other_users_are_one_line(
    toy_cell, run_stage, params_file, toy_stage_inputs, make_interactions, tmp_path
):
    other = make_interactions([[0, 1, 2, 3], [4, 5, 6]])
    write_artifact(tmp_path / "interactions.parquet", other, schemas.INTERACTIONS)
    result = run_stage(
        "evaluate", dataset="sample", variant="macrec", seed=0, seq2seq=toy_cell / "seq2seq",
        interactions=tmp_path / "interactions.parquet",
        semantic_ids=toy_stage_inputs / "semantic_ids.parquet",
        recommender=toy_cell / "recommender", recommendations=tmp_path / "r.parquet",
        metrics=tmp_path / "m.json", params=params_file(),
    )  # fmt: skip
    assert result.exit_code == 1
    message = "its 40 held-out users and targets are not those of the interactions (2)"
    assert message in result.output
    assert not (tmp_path / "m.json").exists()


def test_a_missing_model_is_one_line(toy_cell, run_stage, params_file, toy_stage_inputs, tmp_path):
    result = run_stage(
        "evaluate", dataset="sample", variant="macrec", seed=0, seq2seq=toy_cell / "seq2seq",
        interactions=toy_stage_inputs / "interactions.parquet",
        semantic_ids=toy_stage_inputs / "semantic_ids.parquet", recommender=tmp_path / "none",
        recommendations=tmp_path / "r.parquet", metrics=tmp_path / "m.json", params=params_file(),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "is no T5 in Hugging Face format" in result.output
    assert not (tmp_path / "m.json").exists()
