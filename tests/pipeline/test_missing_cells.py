"""A stage that fails: README's recipe "Missing cells", by DVC, on toy parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def failing(clone) -> Iterator:
    """The clone with two ensembles, one with a member whose IDs cannot be assigned."""
    yaml, path = YAML(), clone.path / "params.yaml"
    before = path.read_bytes()
    params = yaml.load(path)
    # Four levels of two codes are fewer IDs than items.
    params["variant_specs"]["macrec"]["quant"] = {"codebook_size": 2}
    members = [
        {"source": source, "list": name, "weight": 1.0, "smoothing": None}
        for source, name in (("tiger", "ensemble"), ("sasrec", "sasrec"))
    ]
    params["ensemble_specs"]["tiger_sasrec"] = {"rule": "reciprocal_rank", "members": members}
    params["ensembles"] = ["macrec_sasrec", "tiger_sasrec"]
    yaml.dump(params, path)
    yield clone
    path.write_bytes(before)


def _recipe(clone) -> str:
    """All of README's commands; what the first one says."""
    output = clone.run("python", "-m", "dvc", "repro", "--keep-going", ok=False)
    for stage in ("ensembles@sample", "significance@sample", "report"):
        clone.dvc("repro", "-s", stage)
    return output


def _read(clone, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((clone.path / "metrics" / name).read_text())
    return found


def _check_missing(clone) -> None:
    """The failed variant and its ensemble have no figures; the others have."""
    summary = _read(clone, "summary.json")["sample"]
    assert summary["macrec"] == summary["macrec_sasrec"] == {"missing": "seed 0", "seeds": 0}
    for row in ("tiger", "sasrec", "tiger_sasrec"):
        assert 0 <= summary[row]["hr@10"]["mean"] <= 1
    page = (clone.path / "metrics/results.md").read_text()
    assert "| sample | macrec_sasrec | missing: seed 0 |" in page
    assert "**2 of 5 cells (dataset, row, seed) are missing**" in page
    assert "no tests" not in page


def test_what_does_not_depend_on_the_failure_is_united_tested_and_reported(failing):
    output = _recipe(failing)
    assert "assign_sids@sample-macrec-0" in output
    _check_missing(failing)
    united = _read(failing, "cells/sample/ensembles.json")
    assert list(united["ensembles"]["tiger_sasrec"]) == ["s0"]
    assert united["missing"] == {
        "macrec_sasrec": {"s0": ["artifacts/sample/recommendations/macrec/s0.parquet"]}
    }
    tests = _read(failing, "cells/sample/significance.json")
    assert tests["missing"] == {"macrec": [0], "macrec_sasrec": [0]}
    assert {"tiger", "sasrec", "tiger_sasrec", "popularity"} <= set(tests["means"]["hr@10"])


def test_lists_of_an_earlier_run_are_not_reported_as_of_this_one(failing):
    path = failing.path / "params.yaml"
    broken = path.read_text()
    path.write_text(broken.replace("      codebook_size: 2\n", "      codebook_size: 8\n"))
    assert path.read_text() != broken
    failing.dvc("repro")
    assert "missing" not in _read(failing, "summary.json")["sample"]["macrec_sasrec"]
    path.write_text(broken)
    _recipe(failing)
    lists = failing.path / "artifacts/sample/recommendations/macrec/s0.parquet"
    assert lists.exists()  # evaluate's, of the run before
    _check_missing(failing)
