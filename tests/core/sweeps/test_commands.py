from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from macrec_core.errors import MacrecError
from macrec_core.params.whole import Params
from macrec_core.sweeps.commands import NAMES, experiment_name, grid_of, sweep_commands

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def raw(raw_sample):
    """The sample preset with short grids."""
    raw_sample["sweeps"] = {
        "codebook_size": [16, 64], "num_levels": [2, 6], "first_level": [0, 3, 4],
        "lambda_con": [0.01, 1.0], "lambda_align": [0.0001], "lambda_implicit": [1.0],
    }  # fmt: skip
    return raw_sample


@pytest.fixture
def raw_sample():
    """The committed params.yaml, parsed; a fresh copy for each test."""
    return YAML(typ="safe", pure=True).load(ROOT / "params.yaml")


def settings_of(command):
    words = shlex.split(command)
    assert words[:6] == ["dvc", "exp", "run", "--queue", "-n", words[5]]
    assert set(words[6::2]) == {"-S"}
    return words[5], dict(word.split("=", 1) for word in words[7::2])


def test_a_command_a_value_that_trains_the_swept_variant_alone(raw):
    found = [settings_of(command) for command in sweep_commands(raw, "codebook_size", "macrec")]
    assert [name for name, _ in found] == [
        "sweep-codebook_size-macrec-16", "sweep-codebook_size-macrec-64",
    ]  # fmt: skip
    alone = dict.fromkeys(("variants", "quantized_variants"), "[macrec]")
    alone |= dict.fromkeys(
        ("clustered_variants", "visual_variants", "baselines", "multimodal_baselines", "ensembles"),
        "[]",
    )
    assert [s for _, s in found] == [alone | {"quant.codebook_size": n} for n in ("16", "64")]


def test_further_axes_of_variants_and_baselines_are_narrowed_too(raw):
    """Fields whose names end so, whoever adds them."""
    (command,) = sweep_commands(raw, "lambda_implicit", "macrec")
    _, settings = settings_of(command)
    for field in Params.model_fields:
        if field.endswith("_variants"):
            assert settings[field] in ("[]", "[macrec]")
        if field.endswith(("baselines", "ensembles")):
            assert settings[field] == "[]"


def test_a_variant_that_does_not_run_otherwise_can_be_swept(raw):
    command = sweep_commands(raw, "codebook_size", "without_implicit")[0]
    settings = settings_of(command)[1]
    assert settings["variants"] == settings["quantized_variants"] == "[without_implicit]"


def test_levels_take_the_weights_of_all_variants_with_them(raw):
    raw["variant_specs"]["mql4grec"]["quant"]["lambda_con"] = [0.0] * 4
    raw["variant_specs"]["without_contrastive"]["quant"]["lambda_con"] = [0.0, 0.0, 0.0, 0.5]
    two, six = (settings_of(c)[1] for c in sweep_commands(raw, "num_levels", "macrec"))
    assert two["quant.num_levels"] == "2"
    assert two["quant.lambda_con"] == "[0.0,0.0]"
    # A further level has the last one's weight.
    assert six["quant.lambda_con"] == "[0.0,0.0,0.1,0.1,0.1,0.1]"
    assert six["variant_specs.mql4grec.quant.lambda_con"] == "[0.0,0.0,0.0,0.0,0.0,0.0]"
    key = "variant_specs.without_contrastive.quant.lambda_con"
    assert six[key] == "[0.0,0.0,0.0,0.5,0.5,0.5]"


def test_the_first_level_with_the_loss_keeps_its_weight(raw):
    found = [
        settings_of(c)[1]["quant.lambda_con"] for c in sweep_commands(raw, "first_level", "macrec")
    ]
    assert found == ["[0.1,0.1,0.1,0.1]", "[0.0,0.0,0.0,0.1]", "[0.0,0.0,0.0,0.0]"]


def test_weights_are_set_where_they_are_not_0(raw):
    commands = sweep_commands(raw, "lambda_con", "macrec")
    found = [settings_of(c)[1]["quant.lambda_con"] for c in commands]
    assert found == ["[0.0,0.0,0.01,0.01]", "[0.0,0.0,1.0,1.0]"]
    (align,) = sweep_commands(raw, "lambda_align", "macrec")
    assert settings_of(align)[0] == "sweep-lambda_align-macrec-0.0001"
    assert settings_of(align)[1]["quant.lambda_align"] == "0.0001"
    (implicit,) = sweep_commands(raw, "lambda_implicit", "macrec")
    assert settings_of(implicit)[1]["gr.lambda_implicit"] == "1.0"


def test_every_grid_has_its_name(raw, committed_params):
    for name in NAMES:
        assert grid_of(committed_params.sweeps, name) == list(
            getattr(committed_params.sweeps, name)
        )
    assert set(NAMES) == set(type(committed_params.sweeps).model_fields)
    assert experiment_name("lambda_con", "macrec", 1e-05) == "sweep-lambda_con-macrec-1e-05"
    assert experiment_name("num_levels", "tiger", 4) == "sweep-num_levels-tiger-4"


@pytest.mark.parametrize(
    ("change", "name", "variant", "message"),
    [
        ({}, "codebooks", "macrec", "sweep 'codebooks': is unknown; choose one of"),
        ({}, "codebook_size", "sigir", "variant 'sigir': has no entry in variant_specs"),
        ({}, "lambda_con", "mql4grec", "variant_specs.mql4grec.quant sets lambda_con itself"),
        ({}, "first_level", "mql4grec", "variant_specs.mql4grec.quant sets lambda_con itself"),
        ({"first_level": [5]}, "first_level", "macrec", "at most quant.num_levels=4"),
        ({"codebook_size": [1]}, "codebook_size", "macrec", "sweeps.codebook_size.0=1: "),
        ({"num_levels": [16]}, "num_levels", "macrec", "sweeps.num_levels.0=16: "),
        ({"lambda_con": [0.1, 0.1]}, "lambda_con", "macrec", "a value occurs twice"),
        ({"lambda_align": []}, "lambda_align", "macrec", "sweeps.lambda_align=[]: "),
    ],
)  # fmt: skip
def test_what_cannot_be_swept_is_an_error(raw, change, name, variant, message):
    raw["sweeps"] |= change
    with pytest.raises(MacrecError) as caught:
        sweep_commands(raw, name, variant)
    assert message in str(caught.value)


def test_different_weights_have_no_one_value(raw):
    raw["quant"]["lambda_con"] = [0.0, 0.1, 0.2, 0.2]
    with pytest.raises(MacrecError, match="has 2 different weights other than 0"):
        sweep_commands(raw, "first_level", "macrec")
    raw["quant"]["lambda_con"] = [0.0] * 4
    with pytest.raises(MacrecError, match="has 0 different weights other than 0"):
        sweep_commands(raw, "lambda_con", "macrec")


@pytest.mark.parametrize("axis", ["clustered_variants", "visual_variants"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "lambda_implicit"])
def test_the_quantizer_cannot_be_swept_where_ids_are_clustered(raw, axis, name):
    raw["variants"].append("p5_cid")
    raw[axis] = ["p5_cid"]
    with pytest.raises(MacrecError, match="IDs of p5_cid are clusters of the interactions"):
        sweep_commands(raw, name, "p5_cid")


@pytest.mark.parametrize("variant", ["p5_cid", "vip5", "tiger_collab"])
def test_a_variant_that_does_not_run_must_tell_where_its_ids_come_from(raw, variant):
    raw["modalities"] = ["text", "image", "collab"]
    for name in ("codebook_size", "lambda_implicit"):
        with pytest.raises(MacrecError) as caught:
            sweep_commands(raw, name, variant)
        assert str(caught.value) == (
            f"sweep {name}: variant {variant} does not run, and its modalities=['collab'] do not "
            "tell whether its IDs are quantized or clustered; add it to variants and to "
            "quantized_variants, clustered_variants or visual_variants"
        )


def test_quantized_collaborative_embeddings_can_be_swept(raw):
    raw["modalities"] = ["text", "image", "collab"]
    for axis in ("variants", "quantized_variants"):
        raw[axis].append("tiger_collab")
    settings = settings_of(sweep_commands(raw, "codebook_size", "tiger_collab")[0])[1]
    assert settings["quantized_variants"] == "[tiger_collab]"


def test_a_term_between_modalities_cannot_be_swept_over_one(raw):
    raw["variants"] = raw["quantized_variants"] = ["macrec"]
    raw["ensembles"] = []
    del raw["variant_specs"]["tiger"]["quant"]["lambda_align"]
    with pytest.raises(MacrecError, match=r"its quant\.lambda_align=0\.0001 weighs a term between"):
        sweep_commands(raw, "lambda_align", "tiger")


def test_the_quantizer_cannot_be_swept_where_ids_are_imported(raw):
    raw["dataset_specs"]["sample"] = {
        "source": "published", "folder": "x", "name": "X", "index_files": {"text": "a"},
        "embedding_files": {},
    }  # fmt: skip
    raw["learned_datasets"], raw["imported_datasets"] = [], ["sample"]
    with pytest.raises(MacrecError, match="learned_datasets is empty"):
        sweep_commands(raw, "codebook_size", "macrec")
    assert len(sweep_commands(raw, "lambda_implicit", "macrec")) == 1


def test_the_parameters_of_each_value_are_checked(raw):
    # Valid in the grid, and not in the section.
    raw["quant"]["codebook_size"] = 32
    raw["variant_specs"]["macrec"]["quant"] = {"num_levels": 4}
    raw["sweeps"]["first_level"] = [2]
    raw["variant_specs"]["tiger"]["quant"] |= {"num_levels": 4, "lambda_con": [0.0] * 4}
    (command,) = sweep_commands(raw, "first_level", "macrec")
    assert settings_of(command)[1]["quant.lambda_con"] == "[0.0,0.0,0.1,0.1]"
    # num_levels: the override without weights keeps four levels, and the base has two weights.
    raw["variant_specs"]["without_alignment"]["quant"] = {"num_levels": 4}
    with pytest.raises(MacrecError, match=r"sweep num_levels, value 2: \d invalid"):
        sweep_commands(raw, "num_levels", "without_implicit")
