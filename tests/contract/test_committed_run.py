"""README.md, metrics/results.md and dvc.lock tell of one and the same run."""

from __future__ import annotations

import re

import pytest
from expansion import stage_names
from ruamel.yaml import YAML

from macrec_core.params.loading import load_params


def tables_of(text):
    """Markdown tables, each as its lines."""
    blocks = re.findall(r"(?:^\|.*\|[ \t]*\n)+", text, flags=re.MULTILINE)
    return [[line.rstrip() for line in block.splitlines()] for block in blocks]


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


def test_no_placeholder_is_left(readme):
    assert re.findall(r"@[A-Z_]+@", readme) == []


def test_the_results_are_those_of_the_last_run(root, readme):
    """README shows Table 2 of the page, and no other table of it."""
    page = (root / "metrics/results.md").read_text()
    first, *_ = tables_of(page.split("\n## Table 2", 1)[1].split("\n## ", 1)[0] + "\n")
    shown = tables_of(readme)
    assert [table for table in tables_of(page) if table in shown] == [first]


def test_the_lock_has_every_stage_of_the_params_and_none_that_is_gone(root):
    yaml = YAML(typ="safe", pure=True)
    locked = yaml.load(root / "dvc.lock")["stages"]
    declared = yaml.load(root / "dvc.yaml")["stages"]
    assert stage_names(declared, load_params(root / "params.yaml")) - set(locked) == set()
    assert {name.split("@")[0] for name in locked} - set(declared) == set()
