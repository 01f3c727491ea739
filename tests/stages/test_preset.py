"""The preset command: a whole file over params.yaml, never over somebody's edits."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from stages.__main__ import app


@pytest.fixture
def folder(tmp_path, request):
    shutil.copytree(request.config.rootpath / "presets", tmp_path / "presets")
    shutil.copy(tmp_path / "presets/sample.yaml", tmp_path / "params.yaml")
    return tmp_path


def preset(folder, name, *more):
    where = ["--presets", str(folder / "presets"), "--params", str(folder / "params.yaml")]
    return CliRunner().invoke(app, ["preset", name, *where, *more])


def test_a_preset_replaces_another_and_can_be_taken_back(folder):
    before = (folder / "params.yaml").read_bytes()
    assert preset(folder, "paper").exit_code == 0
    assert (folder / "params.yaml").read_bytes() == (folder / "presets/paper.yaml").read_bytes()
    assert preset(folder, "sample").exit_code == 0
    assert (folder / "params.yaml").read_bytes() == before


def test_edits_are_overwritten_only_by_force(folder):
    edited = (folder / "params.yaml").read_text() + "# my own\n"
    (folder / "params.yaml").write_text(edited)
    refused = preset(folder, "paper")
    assert refused.exit_code == 1
    assert "has edits of your own" in refused.output and "--force" in refused.output
    assert (folder / "params.yaml").read_text() == edited
    assert preset(folder, "paper", "--force").exit_code == 0
    assert (folder / "params.yaml").read_bytes() == (folder / "presets/paper.yaml").read_bytes()


def test_an_unknown_preset_names_the_known(folder):
    result = preset(folder, "papers")
    assert result.exit_code == 1
    known = sorted(path.stem for path in (folder / "presets").glob("*.yaml"))
    assert len(known) > 2
    assert "'papers'" in result.output and str(known) in result.output
