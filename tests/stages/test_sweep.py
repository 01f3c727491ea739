from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

RECORDED = Path(__file__).parents[1] / "core" / "sweeps" / "exp_show.json"
GRID = {"codebook_size": [2, 4, 8]}


@pytest.fixture
def run():
    from stages.__main__ import app

    def make(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    return make


def test_it_prints_or_writes_commands_and_nothing_else(run, params_file, tmp_path):
    params = params_file(sweeps=GRID)
    printed = run("sweep", "codebook_size", "--params", params)
    assert printed.exit_code == 0, printed.output
    lines = printed.stdout.splitlines()
    assert [shlex.split(line)[5] for line in lines] == [
        f"sweep-codebook_size-macrec-{value}" for value in (2, 4, 8)
    ]
    assert all(line.startswith("dvc exp run --queue -n ") for line in lines)
    written = run("sweep", "codebook_size", "--params", params, "--output", tmp_path / "sweep.sh")
    assert written.exit_code == 0
    assert written.stdout == ""
    assert (tmp_path / "sweep.sh").read_text() == printed.stdout


def test_another_variant_can_be_swept(run, params_file):
    found = run("sweep", "codebook_size", "--variant", "tiger", "--params", params_file())
    assert "variants=[tiger]" in found.stdout
    assert "-n sweep-codebook_size-tiger-8 " in found.stdout
    refused = run("sweep", "lambda_con", "--variant", "tiger", "--params", params_file())
    assert refused.exit_code == 1
    assert "variant_specs.tiger.quant sets lambda_con itself" in refused.output


def test_it_draws_what_dvc_shows_and_counts_what_is_missing(run, params_file, tmp_path):
    params = params_file(sweeps=GRID)
    words = ["draw_sweep", "codebook_size", "--experiments", RECORDED, "--params", params]
    result = run(*words, "--output", tmp_path / "one")
    assert result.exit_code == 0, result.output
    assert "2 of 3 points" in result.stdout
    assert "sample,2,failed,0" in (tmp_path / "one" / "codebook_size-macrec.csv").read_text()
    assert run(*words, "--output", tmp_path / "two").exit_code == 0
    png = "codebook_size-macrec.png"
    first, second = ((tmp_path / folder / png).read_bytes() for folder in ("one", "two"))
    assert first == second
