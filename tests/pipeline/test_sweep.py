"""A sweep by DVC's queue, from its commands to the figure, on toy parameters."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

# Four levels of two codes are fewer IDs than items: that experiment must fail.
GRID = [2, 8]


@pytest.fixture(scope="module")
def swept(clone) -> Iterator:
    """The clone after its queue has run."""
    yaml, path = YAML(), clone.path / "params.yaml"
    params = yaml.load(path)
    params["sweeps"]["codebook_size"] = GRID
    yaml.dump(params, path)
    clone.commit("a short grid")
    commands = clone.path / "sweep.sh"
    clone.run("python", "-m", "stages", "sweep", "codebook_size", "--output", str(commands))
    # `dvc` is the test run's own.
    commands.write_text(commands.read_text().replace("dvc exp", "python -m dvc exp"))
    clone.run("sh", "-e", str(commands))
    clone.dvc("queue", "start")
    try:
        _wait(clone)
        yield clone
    finally:
        clone.run("python", "-m", "dvc", "queue", "stop", "--kill", ok=True)


def _wait(clone) -> None:
    """Until nothing is queued or running."""
    for _ in range(600):
        status = clone.dvc("queue", "status")
        if "Queued" not in status and "Running" not in status:
            return
        time.sleep(1)
    raise AssertionError(f"the queue does not end:\n{status}")


def test_the_figure_has_what_succeeded_and_says_what_failed(swept):
    shown = swept.path / "shown.json"
    shown.write_text(swept.dvc("exp", "show", "--json"))
    output = swept.run(
        "python", "-m", "stages", "draw_sweep", "codebook_size", "--experiments", str(shown)
    )
    assert "1 of 2 points" in output
    with (swept.path / "metrics/sweeps/codebook_size-macrec.csv").open() as file:
        failed, eight = csv.DictReader(file)
    assert (failed["value"], failed["missing"], failed["hr@10 mean"]) == ("2", "failed", "")
    assert (eight["value"], eight["missing"]) == ("8", "")
    assert 0 <= float(eight["ndcg@10 mean"]) <= float(eight["hr@10 mean"]) <= 1
    picture = (swept.path / "metrics/sweeps/codebook_size-macrec.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_only_the_swept_variant_was_trained(swept):
    name = "sweep-codebook_size-macrec-8"
    summary = swept.run("git", "show", f"refs/exps/{_ref(swept, name)}:metrics/results.md")
    assert "| sample | macrec |" in summary
    assert "sasrec" not in summary
    assert "tiger" not in summary


def _ref(clone, name: str) -> str:
    (ref,) = [
        line for line in clone.run("git", "for-each-ref", "--format=%(refname)").split()
        if line.startswith("refs/exps/") and line.endswith(f"/{name}")
    ]  # fmt: skip
    return ref.removeprefix("refs/exps/")
