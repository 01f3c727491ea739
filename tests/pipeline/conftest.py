"""A fresh clone with toy parameters, in which `dvc` can be run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Clone:
    """A git repository of the working tree's files.

    Attributes:
        path: its root.
        env: environment in which `python` and `dvc` are this test run's.
    """

    path: Path
    env: dict[str, str]

    def run(self, *command: str, ok: bool = True) -> str:
        """Output and errors of a command run in the clone; checks success unless not `ok`."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == ok, (
            f"{command} ended with {done.returncode}:\n{done.stdout}"
        )
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        """Output of a dvc command that must succeed."""
        return self.run("python", "-m", "dvc", *arguments)

    def commit(self, message: str) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The working tree as a fresh repository, with toy parameters committed."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    path = tmp_path_factory.mktemp("clone") / "macrec"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in files:
        # What an earlier run left behind is not part of a fresh clone of the code.
        if name and name != "dvc.lock" and not name.startswith("metrics/"):
            source, target = ROOT / name, path / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    _write_toy_params(path / "params.yaml")
    made = Clone(path, _environment(tmp_path_factory.mktemp("home")))
    made.run("git", "init", "--quiet")
    made.commit("toy parameters")
    return made


def _environment(home: Path) -> dict[str, str]:
    """This environment, with its Python first and nobody's git or DVC settings."""
    hidden = ("GIT_", "DVC_", "MACREC_", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    names = {
        f"GIT_{who}_{what}": f"{what.lower()}@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    return (
        env
        | names
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
            "HOME": str(home),
            "DVC_GLOBAL_CONFIG_DIR": str(home),
            "DVC_SYSTEM_CONFIG_DIR": str(home),
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "OMP_NUM_THREADS": "1",
        }
    )


def _write_toy_params(path: Path) -> None:
    """Make the sample preset so small that imports, not arithmetic, take the time."""
    yaml = YAML()
    params = yaml.load(path)
    for axis in ("variants", "quantized_variants"):
        params[axis] = ["macrec", "tiger"]
    params["dataset_specs"]["sample"].update(num_items=60, num_users=80, image_size=32)
    fields = ["title"]
    params["embed"] = {
        "text": {"encoder": "tfidf_svd", "fields": fields, "width": 16, "seed": 0},
        "image": {"encoder": "hsv_hog", "image_size": 32},
        "collab": {"encoder": "cooccurrence_svd", "width": 8, "shift": 1.0, "seed": 0},
    }
    params["pseudo_labels"].update(num_clusters=4, n_init=1)
    params["quant"].update(
        codebook_size=8, latent_dim=8, common_width=16, hidden_sizes=[16], batch_size=32,
        max_epochs=2, evaluate_every=1,
    )  # fmt: skip
    params["gr"].update(
        d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, batch_size=256,
        micro_batch_tokens=4096, max_epochs=2, implicit_batch_size=16,
    )  # fmt: skip
    params["sequential"].update(hidden_size=16, inner_size=32, max_epochs=2)
    params["eval"].update(num_beams=10)
    params["runtime"].update(device="cpu", precision="float32", num_threads=1)
    yaml.dump(params, path)
