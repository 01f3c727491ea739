"""A pipeline of two stages that take no time, reproduced in a clone."""

from __future__ import annotations

import logging
import shutil
import subprocess

import pytest

from benchmarks import repro_sample

PIPELINE = """
stages:
  first:
    cmd: python -c "open('first.txt', 'w').write('1')"
    outs:
    - first.txt
  second:
    cmd: python -c "{second}"
    deps:
    - first.txt
    outs:
    - second.txt
"""
WORKS = "open('second.txt', 'w').write('2')"
BREAKS = "raise SystemExit('out of strings')"


@pytest.fixture
def repository(tmp_path):
    """Makes a git repository of the two stages, with the second one's code."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def make(second):
        root = tmp_path / "repository"
        (root / ".dvc").mkdir(parents=True)
        (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
        (root / ".dvc/.gitignore").write_text("/cache\n/tmp\n")
        (root / ".gitignore").write_text("/first.txt\n/second.txt\n")
        (root / "dvc.yaml").write_text(PIPELINE.replace("{second}", second))
        (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        for command in (["init"], ["add", "--all"], [*who, "commit", "-m", "a"]):
            subprocess.run(["git", *command], cwd=root, check=True, capture_output=True)
        return root

    return make


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_all_stages_run_in_a_clone_and_then_none(repository, folder, monkeypatch, capfd):
    monkeypatch.setattr(repro_sample, "_REPEATED", 1)
    root = repository(WORKS)
    found = repro_sample.reproduce(root, folder)
    assert list(found.stages) == ["first", "second"]
    assert found.no_op_seconds > 0
    assert 0 < sum(found.stages.values()) < found.seconds
    assert 0 < found.processor_seconds
    assert (folder / "clone/second.txt").read_text() == "2"
    assert not (root / "second.txt").exists()
    assert not found.as_committed
    assert "Running stage 'second'" in capfd.readouterr().err


def test_results_are_compared_with_the_committed_ones(repository, folder, monkeypatch):
    monkeypatch.setattr(repro_sample, "_REPEATED", 1)
    root = repository(WORKS)
    repro_sample.reproduce(root, folder)
    shutil.copy(folder / "clone/dvc.lock", root)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *who, "commit", "-qam", "its lock"], cwd=root, check=True)
    (folder / "again").mkdir()
    assert repro_sample.reproduce(root, folder / "again").as_committed


def test_a_failing_stage_fails_the_work(repository, folder, capfd):
    with pytest.raises(subprocess.CalledProcessError):
        repro_sample.reproduce(repository(BREAKS), folder)
    assert "out of strings" in capfd.readouterr().err


def test_a_second_run_that_works_is_refused(repository, folder, monkeypatch):
    monkeypatch.setattr(repro_sample, "_REPEATED", 1)
    monkeypatch.setattr(repro_sample, "_stage_seconds", lambda *_: {})
    with pytest.raises(RuntimeError, match="was no no-op"):
        repro_sample.reproduce(repository(WORKS), folder)


def test_rows_are_rates_an_hour(monkeypatch, caplog):
    measured = repro_sample.Repro(180.0, 120.0, {"first": 100.0}, True, 2.0)
    monkeypatch.setattr(repro_sample, "reproduce", lambda *_: measured)
    monkeypatch.setattr(repro_sample.os, "cpu_count", lambda: 2)
    with caplog.at_level(logging.INFO):
        whole, no_op = repro_sample.run()
    assert (whole.work, whole.unit, whole.ours, whole.plain) == (
        "repro_sample",
        "runs/h",
        20.0,
        None,
    )
    assert (whole.ceiling, whole.share_of_ceiling) == (60.0, 1 / 3)
    assert (no_op.work, no_op.ours, no_op.ceiling) == ("repro_sample no-op", 1800.0, None)
    assert "dvc repro: 180.0 s, 120.0 s of processor time on 2 cores" in caplog.text
    assert "results as committed; no-op: 2.00 s" in caplog.text
    assert "first: 100.0 s" in caplog.text


def test_nobodys_settings_reach_the_clone(tmp_path, monkeypatch):
    monkeypatch.setenv("MACREC_SCRATCH", "/elsewhere")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "0")
    env = repro_sample._environment(tmp_path)
    assert "MACREC_SCRATCH" not in env
    assert "DVC_NO_ANALYTICS" not in env
    assert env["DVC_GLOBAL_CONFIG_DIR"] == str(tmp_path)
