"""The commands of a sweep against DVC: what `-S` makes of the committed files."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from macrec_core.params.loading import load_params, read_params
from macrec_core.sweeps.commands import NAMES, sweep_commands

ROOT = Path(__file__).resolve().parents[2]
LEARNING = ("sample", "paper")


@pytest.mark.parametrize("preset", LEARNING)
@pytest.mark.parametrize("name", NAMES)
def test_dvc_writes_parameters_that_can_be_read_and_hold_the_value(preset, name, tmp_path):
    """An empty list behind a comment would break the list that follows it (ruamel.yaml)."""
    from dvc.utils.hydra import apply_overrides

    source, target = ROOT / "presets" / f"{preset}.yaml", tmp_path / "params.yaml"
    before = load_params(source)
    for command in sweep_commands(read_params(source), name, "macrec"):
        words = shlex.split(command)
        settings = words[7::2]
        shutil.copy(source, target)
        apply_overrides(target, settings)
        after = load_params(target)
        assert (after.variants, after.baselines, after.ensembles) == (["macrec"], [], [])
        assert (after.seeds, after.datasets) == (before.seeds, before.datasets)
        value = float(words[5].removeprefix(f"sweep-{name}-macrec-"))
        quant, gr = after.quant_of("macrec"), after.gr_of("macrec")
        found = {
            "codebook_size": quant.codebook_size,
            "num_levels": quant.num_levels,
            "first_level": [*map(bool, quant.lambda_con), True].index(True),
            "lambda_con": max(quant.lambda_con),
            "lambda_align": quant.lambda_align,
            "lambda_implicit": gr.lambda_implicit,
        }
        assert found[name] == value
