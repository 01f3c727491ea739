from __future__ import annotations

import json

import pytest

from macrec_core import schemas
from macrec_core.artifacts import read_artifact

MEMBERS = [
    {"source": "macrec", "list": "text", "weight": 2.0, "smoothing": None},
    {"source": "macrec", "list": "image", "weight": 1.0, "smoothing": None},
]


@pytest.fixture
def run(run_stage, run_cell, toy_cell, toy_stage_inputs, params_file, tmp_path):
    """Evaluates the toy, and unites its two lists by some rule."""
    params = params_file()
    assert run_cell("evaluate", toy_cell, params).exit_code == 0
    home = tmp_path / "recommendations/macrec"
    home.mkdir(parents=True)
    (home / "s0.parquet").symlink_to(toy_cell / "recommendations.parquet")

    def ensemble(rule, members=MEMBERS, seed=0):
        params = params_file(
            ensembles=["both"], ensemble_specs={"both": {"rule": rule, "members": members}}
        )
        return run_stage(
            "ensemble", dataset="sample", ensemble="both", seed=seed,
            interactions=toy_stage_inputs / "interactions.parquet",
            lists=tmp_path / "recommendations", recommendations=tmp_path / "both.parquet",
            metrics=tmp_path / "both.json", params=params,
        )  # fmt: skip

    return ensemble


def test_two_lists_of_a_variant_are_its_own_ensemble(run, toy_cell, tmp_path):
    equal = [{**member, "weight": 1.0} for member in MEMBERS]
    assert run("mean_plus_found", equal).exit_code == 0
    found = json.loads((tmp_path / "both.json").read_text())
    expected = json.loads((toy_cell / "evaluate.json").read_text())
    for candidates in ("all_items", "unseen_items"):
        assert found[candidates]["both"] == expected[candidates]["ensemble"]
    assert (found["variant"], found["users"]) == ("both", expected["users"])


def test_another_rule_gives_other_lists_of_the_same_users(run, toy_cell, tmp_path):
    assert run("mean").exit_code == 0
    one = read_artifact(tmp_path / "both.parquet", schemas.RECOMMENDATIONS)
    assert set(one.column("list").to_pylist()) == {"both"}
    first = (tmp_path / "both.parquet").read_bytes()
    assert run("mean").exit_code == 0
    assert (tmp_path / "both.parquet").read_bytes() == first
    assert run("reciprocal_rank").exit_code == 0
    assert (tmp_path / "both.parquet").read_bytes() != first


def test_a_seed_that_was_not_run_is_one_line(run, tmp_path):
    result = run("mean", seed=3)
    assert result.exit_code == 1
    assert "macrec/s3.parquet: does not exist; run the stage that makes it" in result.output
    assert not (tmp_path / "both.parquet").exists()


def test_an_unknown_ensemble_is_one_line(run_stage, params_file, tmp_path, toy_stage_inputs):
    result = run_stage(
        "ensemble", dataset="sample", ensemble="all", seed=0,
        interactions=toy_stage_inputs / "interactions.parquet", lists=tmp_path,
        recommendations=tmp_path / "a.parquet", metrics=tmp_path / "a.json", params=params_file(),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "ensemble 'all': has no entry in ensemble_specs" in result.output
