"""Python runs that see only some of the installed packages, as on a machine that has no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Modules are hidden from the path search, so that `importlib.util.find_spec` (by which
# transformers asks what is installed) does not see them either.
_HIDE = """
import json, sys
from importlib.machinery import PathFinder

hidden = set(json.loads(sys.argv.pop(1)))

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.split(".")[0] in hidden:
            return None
        return PathFinder.find_spec(fullname, path, target)

sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
"""


def others_than(*wanted: str) -> set[str]:
    """Top-level modules of installed packages that the wanted ones do not require."""
    needed: set[str] = set()
    waiting = [canonicalize_name(name) for name in wanted]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        try:
            found = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting += [
            canonicalize_name(each.name)
            for each in found
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]
    return {
        module
        for module, names in packages_distributions().items()
        if not needed & {canonicalize_name(name) for name in names}
        and module not in {"macrec_core", "stages"}
        and module.isidentifier()
    }


def run_without(
    hidden: set[str], code: str, *arguments: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run code, whose `sys.argv[1:]` are the arguments, where the modules cannot be found."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", _HIDE + code, json.dumps(sorted(hidden)), *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
        env=inherited | {"GOMP_SPINCOUNT": "10000"},  # as the project's own commands have it
    )  # fmt: skip
