"""Parsed project files that the contract tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root():
    """The project's root folder."""
    return ROOT


@pytest.fixture
def raw_params():
    """The sample preset without its ensemble, whose members tests may remove; a fresh copy."""
    return YAML(typ="safe", pure=True).load(ROOT / "presets/sample.yaml") | {"ensembles": []}
