"""What a stage loads before it begins: twenty stage runs should not spend a minute importing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = (
    "download", "filter", "yardsticks", "pseudo_labels", "import_sids", "build_seq2seq", "report",
    "preset", "check",
)  # fmt: skip
# torch's compiler takes as long to import as torch; transformers twice as long.
WITHOUT_COMPILER = ("assign_sids", "evaluate", "train_baseline", "evaluate_baseline")
# Executes the imports, starts the runtime where there is one, and prints what is loaded.
LOADED = """
import json, sys
exec(sys.argv[1])
if "start" in globals():
    from macrec_core.params.loading import load_params
    start(load_params(Path("presets/sample.yaml")).runtime)
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(stage):
    """Modules in memory after all imports of a stage's command."""
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text())
    imports = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and ast.unparse(node) != "from __future__ import annotations"
    ]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "\n".join(imports)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("stage", WITHOUT_TORCH)
def test_a_stage_without_a_model_loads_no_torch(stage):
    loaded = loaded_by(stage)
    assert "stages.console" in loaded
    assert not loaded & {"torch", "transformers", "timm", "skimage", "matplotlib"}


@pytest.mark.parametrize("stage", WITHOUT_COMPILER)
def test_a_stage_that_trains_nothing_loads_neither_compiler_nor_transformers(stage):
    loaded = loaded_by(stage)
    assert "torch" in loaded
    assert not loaded & {"torch._dynamo", "torch._inductor", "transformers"}
