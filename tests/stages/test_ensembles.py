from __future__ import annotations

import json

import pytest

from macrec_core import schemas
from macrec_core.artifacts import read_artifact

MEMBERS = [
    {"source": "macrec", "list": "text", "weight": 2.0, "smoothing": None},
    {"source": "macrec", "list": "image", "weight": 1.0, "smoothing": None},
]
EQUAL = [{**member, "weight": 1.0} for member in MEMBERS]


@pytest.fixture
def run(run_stage, run_cell, toy_cell, toy_stage_inputs, params_file, tmp_path):
    """Evaluates the toy, and unites its two lists by the rules of some ensembles."""
    params = params_file()
    assert run_cell("evaluate", toy_cell, params).exit_code == 0
    home = tmp_path / "recommendations/macrec"
    home.mkdir(parents=True)
    (home / "s0.parquet").symlink_to(toy_cell / "recommendations.parquet")

    def unite(seeds=(0,), **specs):
        specs = {name: {"rule": rule, "members": who} for name, (rule, who) in specs.items()}
        params = params_file(ensembles=sorted(specs), ensemble_specs=specs, seeds=list(seeds))
        return run_stage(
            "ensembles", dataset="sample", interactions=toy_stage_inputs / "interactions.parquet",
            lists=tmp_path / "recommendations", united=tmp_path / "united",
            metrics=tmp_path / "ensembles.json", params=params,
        )  # fmt: skip

    return unite


def test_two_lists_of_a_variant_are_its_own_ensemble(run, toy_cell, tmp_path):
    assert run(both=("mean_plus_found", EQUAL)).exit_code == 0
    found = json.loads((tmp_path / "ensembles.json").read_text())["ensembles"]["both"]["s0"]
    expected = json.loads((toy_cell / "evaluate.json").read_text())
    for candidates in ("all_items", "unseen_items"):
        assert found[candidates]["both"] == expected[candidates]["ensemble"]
    assert found["users"] == expected["users"]


def test_the_lists_are_not_replaced_by_what_unites_them(run, tmp_path):
    (tmp_path / "united").symlink_to(tmp_path / "recommendations")
    result = run(both=("mean_plus_found", EQUAL))
    assert result.exit_code == 1
    assert "united: is --lists, which would be lost; name another" in result.output
    assert (tmp_path / "recommendations/macrec/s0.parquet").exists()


def test_every_rule_has_lists_of_its_own_and_twice_the_same(run, tmp_path):
    rules = {"one": ("mean", MEMBERS), "other": ("reciprocal_rank", MEMBERS)}
    assert run(**rules).exit_code == 0
    files = {name: tmp_path / f"united/{name}/s0.parquet" for name in rules}
    for name, path in files.items():
        table = read_artifact(path, schemas.RECOMMENDATIONS)
        assert set(table.column("list").to_pylist()) == {name}
    first = {name: path.read_bytes() for name, path in files.items()}
    assert run(**rules).exit_code == 0
    assert {name: path.read_bytes() for name, path in files.items()} == first
    # What is not asked for any more is gone.
    assert run(one=("mean", MEMBERS)).exit_code == 0
    assert not files["other"].exists()


def test_without_ensembles_there_is_an_empty_folder(run, tmp_path):
    assert run().exit_code == 0
    assert list((tmp_path / "united").iterdir()) == []
    assert json.loads((tmp_path / "ensembles.json").read_text())["ensembles"] == {}


def test_a_seed_that_was_not_run_is_left_out_and_listed(run, tmp_path):
    mixed = [*MEMBERS[:1], {**MEMBERS[1], "source": "sasrec", "list": "sasrec"}]
    result = run(seeds=[0, 3], both=("mean", MEMBERS), mixed=("mean", mixed))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "ensembles.json").read_text())
    assert {name: list(seeds) for name, seeds in found["ensembles"].items()} == {
        "both": ["s0"], "mixed": [],
    }  # fmt: skip
    macrec, sasrec = (tmp_path / "recommendations" / name for name in ("macrec", "sasrec"))
    assert found["missing"] == {
        # A file of two members is named once.
        "both": {"s3": [f"{macrec}/s3.parquet"]},
        "mixed": {
            "s0": [f"{sasrec}/s0.parquet"],
            "s3": [f"{macrec}/s3.parquet", f"{sasrec}/s3.parquet"],
        },
    }
    assert "sample: both seed 3 is not made, members have no artifact" in result.output
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("united/*/*")}
    assert files == {"united/both/s0.parquet"}


def test_a_broken_artifact_is_one_line_and_leaves_the_old_lists(run, tmp_path):
    assert run(both=("mean", MEMBERS)).exit_code == 0
    before = (tmp_path / "united/both/s0.parquet").read_bytes()
    (tmp_path / "recommendations/macrec/s3.parquet").write_bytes(b"PAR1")
    result = run(seeds=[0, 3], both=("mean_plus_found", MEMBERS))
    assert result.exit_code == 1
    assert "macrec/s3.parquet: is no readable Parquet file" in result.output
    assert [path.name for path in (tmp_path / "united/both").iterdir()] == ["s0.parquet"]
    assert (tmp_path / "united/both/s0.parquet").read_bytes() == before
