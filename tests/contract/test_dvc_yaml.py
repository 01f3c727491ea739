"""dvc.yaml against the stages' commands, imports and parameters."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from expansion import stage_names
from imports import code_of_stage
from ruamel.yaml import YAML

from macrec_core.params.evaluation import EvalParams
from macrec_core.params.loading import load_params

ROOT = Path(__file__).resolve().parents[2]
DECLARED: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
MODALITIES = ("text", "image", "collab")


def _by_command() -> dict[str, dict[str, Any]]:
    """Stages by command: `embed`, with its axis of modalities, stands for one command each."""
    stages = {}
    for name, stage in DECLARED.items():
        if "modality" not in stage.get("matrix", {}):
            stages[name] = stage
            continue
        for modality in MODALITIES:
            text = json.dumps(stage).replace("${item.modality}", modality)
            one = json.loads(text)
            del one["matrix"]["modality"]
            stages[f"{name}_{modality}"] = one
    return stages


STAGES = _by_command()
# Stages by the same command on other inputs, so that they run on other data sets.
SHARED = {
    "train_multimodal_baseline": "train_baseline",
    "evaluate_multimodal_baseline": "evaluate_baseline",
    "cluster_visual_sids": "cluster_sids",
}
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
# Give a variant's section, overrides included.
OVERRIDDEN = {"quant_of": "quant", "ids_of": "ids", "seq2seq_of": "seq2seq", "gr_of": "gr"}
# Of the section `eval`, what stages read that do not read all of it.
OF_EVAL = {
    "yardsticks": {"list_length", "max_users", "split"},
    "evaluate_baseline": {"list_length", "max_users", "split"},
    "ensembles": {"ambiguous_ids", "max_users", "split"},
    # What the headline is, only the report asks.
    "report": {"exclude_seen", "split"},
    "significance": {"exclude_seen"},
}
# Commands that are no part of the pipeline.
TOOLS = {"preset", "check", "sweep", "draw_sweep"}

each_stage = pytest.mark.parametrize("stage", STAGES)


@cache
def commands() -> dict[str, Any]:
    """Click commands by name."""
    import typer

    from stages.__main__ import app

    return dict(typer.main.get_command(app).commands)


def command_of(stage: str) -> str:
    """The command that a stage runs: its own, or one that it shares with another stage."""
    return SHARED.get(stage, stage)


def options_given(stage: str) -> dict[str, str]:
    """Options of a stage's command line and their values, `${...}` unexpanded."""
    words = shlex.split(STAGES[stage]["cmd"])
    assert words[:4] == ["python", "-m", "stages", command_of(stage)]
    names, values = words[4::2], words[5::2]
    assert all(name.startswith("--") for name in names)
    assert len(set(names)) == len(names) == len(values)
    return dict(zip(names, values, strict=True))


def options_known(stage: str) -> dict[str, Any]:
    """Options of a stage's command by their long names."""
    return {
        name: option
        for option in commands()[command_of(stage)].params
        for name in option.opts
        if name.startswith("--") and name != "--help"
    }


def paths_of(stage: str, *keys: str) -> set[str]:
    """Paths under `deps`, `outs` or `metrics`, whether written plainly or with settings."""
    entries = [entry for key in keys for entry in STAGES[stage].get(key, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def code_of(stage: str) -> set[str]:
    return {path for path in paths_of(stage, "deps") if path.startswith(("stages/", "macrec_core"))}


# ----------------------------------------------------------------------------------- commands


def test_every_pipeline_command_is_a_stage_and_the_reverse():
    assert {command_of(stage) for stage in STAGES} == set(commands()) - TOOLS
    assert set(SHARED) <= set(STAGES)


@pytest.mark.parametrize("stage", SHARED)
def test_a_stage_that_shares_a_command_gives_all_that_the_other_gives_and_more(stage):
    given, others = options_given(stage), options_given(SHARED[stage])
    assert others.items() < given.items()
    for key in ("deps", "params", "outs"):
        assert set(STAGES[SHARED[stage]][key]) <= set(STAGES[stage][key])


@each_stage
def test_a_command_line_uses_options_that_exist_and_gives_all_required(stage):
    given, known = options_given(stage), options_known(stage)
    assert set(given) <= set(known)
    required = {name for name, option in known.items() if option.required}
    assert required <= set(given)
    # dvc tracks params.yaml, so a stage of the pipeline reads no other.
    assert "--params" not in given


@each_stage
def test_paths_of_the_command_line_are_its_tracked_inputs_and_outputs(stage):
    main = import_module(f"stages.{command_of(stage)}").main
    types, known = get_type_hints(main), options_known(stage)
    in_command = {
        value
        for name, value in options_given(stage).items()
        if types[known[name].name] in (Path, Path | None)
    }
    tracked = paths_of(stage, "deps", "outs", "metrics") - code_of(stage)
    # An option may name the folder of several tracked files.
    folders = {c for c in in_command if any(path.startswith(f"{c}/") for path in tracked)}
    assert in_command - tracked <= folders
    named = {p for p in tracked for c in in_command if p == c or p.startswith(f"{c}/")}
    assert named == tracked


@each_stage
def test_axes_of_the_command_line_are_the_matrix(stage):
    matrix = STAGES[stage].get("matrix", {})
    given = options_given(stage)
    for axis in ("dataset", "variant", "seed"):
        assert given.get(f"--{axis}") == (f"${{item.{axis}}}" if axis in matrix else None)


def test_every_input_is_made_by_a_stage():
    outputs = {path for stage in STAGES for path in paths_of(stage, "outs", "metrics")}
    for stage in STAGES:
        for path in paths_of(stage, "deps") - code_of(stage):
            made = any(out == path or out.startswith(f"{path}/") for out in outputs)
            assert made, f"{stage}: nothing writes {path}"


# --------------------------------------------------------------------------------------- code


@each_stage
def test_deps_cover_the_code_that_a_stage_imports(stage):
    listed, command = code_of(stage), command_of(stage)
    assert f"stages/{command}.py" in listed
    missing = {path for path in code_of_stage(command) if not _covered(path, listed)}
    assert missing == set()


@each_stage
def test_deps_list_no_code_that_a_stage_does_not_import(stage):
    command = command_of(stage)
    needed = code_of_stage(command) | {f"stages/{command}.py"}
    idle = {path for path in code_of(stage) if not any(_covered(n, {path}) for n in needed)}
    assert idle == set()


@each_stage
def test_deps_on_code_exist(stage):
    assert [path for path in code_of(stage) if not (ROOT / path).exists()] == []


def _covered(path: str, listed: set[str]) -> bool:
    return any(path == entry or path.startswith(f"{entry}/") for entry in listed)


# --------------------------------------------------------------------------------- parameters


def _keys_of(attribute: str, stage: str, source: str) -> set[str]:
    """Keys behind one `params.<attribute>` of a stage file."""
    if attribute in OVERRIDDEN:
        section = OVERRIDDEN[attribute]
        return {section, f"variant_specs.${{item.variant}}.{section}"}
    if attribute == "runtime":
        used = {"runtime.device", "runtime.num_threads"}
        # checkpoint_every_s changes no result.
        used |= {"runtime.precision"} if "use_precision=True" in source else set()
        return used | ({"runtime.num_processes"} if "shared=True" in source else set())
    if attribute == "eval":
        rest = set(EvalParams.model_fields) - {"exclude_seen", "list_length"}
        return {f"eval.{name}" for name in OF_EVAL.get(stage, rest)}
    if attribute == "sequential_of":
        return {"sequential", "baseline_specs.${item.baseline}"}
    narrower = {
        "modalities_of": "variant_specs.${item.variant}.modalities",
        "dataset_specs": "dataset_specs.${item.dataset}",
        "baseline": "baseline_specs.${item.baseline}",
        "embed": f"embed.{stage.removeprefix('embed_')}",
        # One value of the section.
        "quant": "quant.codebook_size" if stage == "import_sids" else "quant",
    }
    return {narrower.get(attribute, attribute)}


def params_read(stage: str) -> set[str]:
    """Keys below params.yaml that a command's file reads, as dvc.yaml would list them."""
    source = (ROOT / "stages" / f"{stage}.py").read_text()
    tree = ast.parse(source)
    keys = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and ast.unparse(node.value) == "params"):
            continue
        keys |= _keys_of(node.attr, stage, source)
    return keys


@each_stage
def test_params_are_those_that_the_stage_reads(stage):
    assert set(STAGES[stage].get("params", [])) == params_read(command_of(stage))


# ------------------------------------------------------------------------------------ presets


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_expands(preset, tmp_path):
    from dvc.repo import Repo

    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(preset, tmp_path / "params.yaml")
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        found = {stage.addressing for stage in repo.index.stages}
    expected = stage_names(DECLARED, load_params(preset))
    assert {name.rsplit(":", 1)[-1] for name in found} == expected


# ------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(
    "stage", ["train_rqvae", "train_gr", "train_baseline", "train_multimodal_baseline"]
)
def test_a_training_is_keyed_by_the_code_that_dvc_watches(stage):
    """A result of older code must neither be found in the scratch folder nor hidden from DVC."""
    command = command_of(stage)
    tree = ast.parse((ROOT / "stages" / f"{command}.py").read_text())
    (call,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "code_files"
    ]
    keyed = {f"macrec_core/{ast.literal_eval(argument)}" for argument in call.args}
    watched = {path.removesuffix(".py") for path in code_of(stage)} - {f"stages/{command}"}
    assert keyed == watched
