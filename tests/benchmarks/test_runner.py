"""The runner with works that take no time."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks.measure import row
from benchmarks.table import in_order, merged, read_rows, table

KEYS = {
    "work", "unit", "ours", "plain", "ratio", "ceiling", "share_of_ceiling", "peak_memory_mb",
}  # fmt: skip
HEAD = "from benchmarks.measure import row\n"
SOURCES = {
    "fast": """
        def run():
            print("what it measures")
            return [row("fast", "items/s", {ours}, 2.0, 80.0), row("fast other", "items/s", 1.0)]
        """,
    "slow": """
        def run():
            filled = bytearray(300_000_000)
            return [row("slow", "runs/s", {ours}), row("slow own", "runs/s", 1, peak_memory_mb=5)]
        """,
    "broken": """
        import sys
        def run():
            sys.exit(7)
        """,
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Runs toy works: `toy("fast", ours=8.0)` gives the exit code; results: `toy.path`."""
    from textwrap import dedent

    package = tmp_path / "toy_works"
    package.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(*chosen, ours=8.0):
        for name, source in SOURCES.items():
            (package / f"{name}.py").write_text(HEAD + dedent(source).replace("{ours}", str(ours)))
        return runner.main(chosen, run.path, run.works, "toy_works")

    run.path, run.works = tmp_path / "results/cpu.json", ("fast", "slow", "broken")
    return run


def entries(path):
    return {entry["work"]: entry for entry in json.loads(path.read_text())}


def test_every_listed_work_is_a_module_with_run():
    for name in runner.WORKS:
        assert callable(import_module(f"benchmarks.{name}").run), name


def test_results_are_a_list_of_objects_of_the_stated_keys(toy):
    assert toy("fast", "slow") == 0
    found = json.loads(toy.path.read_text())
    assert [set(entry) for entry in found] == [KEYS] * 4
    assert [entry["work"] for entry in found] == ["fast", "fast other", "slow", "slow own"]
    assert entries(toy.path)["fast"]["ratio"] == 4.0
    assert entries(toy.path)["fast"]["share_of_ceiling"] == 0.1


def test_each_work_has_the_peak_memory_of_its_own_process(toy):
    toy("fast", "slow")
    found = {name: entry["peak_memory_mb"] for name, entry in entries(toy.path).items()}
    assert found["slow"] > 300 > found["fast"] == found["fast other"] > 5
    assert found["slow own"] == 5


def test_named_works_replace_their_rows_and_keep_the_others(toy):
    toy("slow", ours=1.0)
    toy("fast", ours=2.0)
    toy("fast", ours=3.0)
    assert {name: entry["ours"] for name, entry in entries(toy.path).items()} == {
        "fast": 3.0, "fast other": 1.0, "slow": 1.0, "slow own": 1.0,
    }  # fmt: skip


def test_a_run_of_all_works_keeps_nothing_older(toy):
    toy("slow")
    toy.works = ("fast",)
    toy()
    assert list(entries(toy.path)) == ["fast", "fast other"]


def test_a_failing_work_ends_the_run_and_leaves_the_results_as_they_were(toy, capfd):
    toy("fast", ours=1.0)
    before = {path.name: path.read_bytes() for path in toy.path.parent.iterdir()}
    assert toy("fast", "broken", ours=2.0) == 7
    streams = capfd.readouterr()
    assert "error: broken: failed with exit code 7; no results are written" in streams.err
    assert {path.name: path.read_bytes() for path in toy.path.parent.iterdir()} == before


def test_a_row_that_is_not_the_works_own_is_refused(toy, capfd, monkeypatch):
    monkeypatch.setitem(SOURCES, "fast", "def run(): return [row('slow', 'items/s', 1.0)]\n")
    assert toy("fast") == 1
    assert "gave a row named 'slow'; begin it with 'fast'" in capfd.readouterr().err


def test_the_page_shows_the_table_and_where_each_work_was_measured(toy, monkeypatch):
    monkeypatch.setattr(runner, "describe_machine", lambda: "a slow machine")
    toy("slow")
    monkeypatch.setattr(runner, "describe_machine", lambda: "a fast machine")
    toy("fast")
    page = toy.path.with_suffix(".md").read_text()
    assert table(read_rows(toy.path)) in page
    assert "- `slow`: a slow machine\n" in page
    assert "- `fast`: a fast machine\n" in page


def test_the_machine_is_described():
    import os
    from importlib.metadata import version

    line = runner.describe_machine()
    assert f"{os.cpu_count()} cores, torch {version('torch')}" in line
    assert "\n" not in line


def test_rows_keep_their_places_and_follow_the_order_of_the_works():
    old = [row("b", "", 1.0), row("gone", "", 1.0), row("a", "", 1.0)]
    new = [row("b", "", 2.0), row("b more", "", 2.0)]
    rows = merged(old, {"b": new})
    assert [(each.work, each.ours) for each in rows] == [
        ("b", 2.0), ("b more", 2.0), ("gone", 1.0), ("a", 1.0),
    ]  # fmt: skip
    assert [each.work for each in in_order(rows, ("a", "b"))] == ["a", "b", "b more", "gone"]


def test_an_unknown_name_is_answered_with_the_known_ones():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "t5_trainign"],
        cwd=Path(runner.__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert "no benchmark t5_trainign" in done.stderr
    assert all(name in done.stderr for name in runner.WORKS)


def test_standard_output_holds_the_table_alone(toy, capfd):
    assert toy("fast") == 0
    streams = capfd.readouterr()
    assert streams.out == table(read_rows(toy.path))
    assert "what it measures" in streams.err
    assert "fast: " in streams.err


def test_help_has_a_line_a_work_and_runs_none(capsys):
    assert runner.main(["--help"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("usage: ")
    assert [line.split(":")[0].strip() for line in lines[1:]] == [*runner.WORKS]
    assert all(len(line.split(": ", 1)[1]) > 10 for line in lines[1:])
