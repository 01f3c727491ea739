"""The style that keeps stages light and the core free of them."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bare_environment import others_than, run_without

ROOT = Path(__file__).resolve().parents[2]
STAGE_FILES = sorted((ROOT / "stages").glob("*.py"))
CORE_FILES = sorted((ROOT / "macrec_core").rglob("*.py"))
PLUMBING = {"__init__", "__main__", "console", "launch"}

HEAVY = (
    "torch", "pyarrow", "transformers", "polars", "sklearn", "skimage", "timm", "dvc",
    "matplotlib", "scipy",
)  # fmt: skip

# Imports every module of the models; prints those that cannot be imported, with the error.
IMPORT_MODELS = """
import importlib, pkgutil
broken = {}
for package in ("macrec_core.quantization", "macrec_core.recommender"):
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            broken[module.name] = str(error)
for name in ("macrec_core.params.section", "macrec_core.artifacts", "macrec_core.schemas"):
    if name in sys.modules:
        broken[name] = "is imported"
print(json.dumps(broken))
"""


def python(*arguments: str, cwd: Path = ROOT) -> str:
    """Standard output of a Python run that must succeed."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env | {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --------------------------------------------------------------------------------------- help


def test_help_lists_every_command():
    from stages.__main__ import COMMANDS

    assert set(COMMANDS) == {path.stem for path in STAGE_FILES} - PLUMBING
    output = python("-m", "stages", "--help")
    listed = [word for line in output.splitlines() for word in line.strip("│| ").split()[:1]]
    assert [word for word in listed if word in COMMANDS] == list(COMMANDS)


def test_help_answers_without_heavy_imports():
    loaded = json.loads(
        python(
            "-c",
            "import json, sys\n"
            "from typer.testing import CliRunner\n"
            "from stages.__main__ import app\n"
            "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
            "assert CliRunner().invoke(app, ['train_gr', '--help']).exit_code == 0\n"
            f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))",
        )
    )
    assert loaded == []


def test_a_queued_experiment_runs_the_code_of_its_own_copy(tmp_path):
    # DVC runs it with the copy as working directory; the project may be installed editable.
    for package in ("stages", "macrec_core"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    with (tmp_path / "macrec_core/__init__.py").open("a") as file:
        file.write("\nprint('the copy')\n")
    assert python("-m", "stages", "--help", cwd=tmp_path).startswith("the copy\n")


# -------------------------------------------------------------------------------------- style


@pytest.mark.parametrize("path", STAGE_FILES, ids=lambda path: path.stem)
def test_a_stage_is_short(path):
    if path.stem in {"console", "launch"}:
        pytest.skip("no stage")
    assert len(path.read_text().splitlines()) <= 80


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_core_neither_prints_nor_knows_the_command_line(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or ""]
        else:
            imported = []
        for name in imported:
            assert name.split(".")[0] not in {"typer", "click", "stages", "dvc"}, node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", node.lineno


# ----------------------------------------------------------------------------- a bare GPU image


def test_the_models_import_on_a_machine_with_torch_transformers_and_numpy_alone():
    hidden = others_than("torch", "transformers", "safetensors", "numpy")
    assert {"pyarrow", "polars", "sklearn", "dvc", "timm", "ruamel"} <= hidden
    done = run_without(hidden, IMPORT_MODELS, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}
