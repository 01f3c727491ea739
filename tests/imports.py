"""Which project modules a stage's result depends on, read from the source, not by importing."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Plumbing: moves values without computing any. A change here re-runs nothing.
PLUMBING = {
    f"macrec_core/{name}.py"
    for name in (
        "__init__",
        "artifacts",
        "checkpoints",
        "contracts",
        "errors",
        "files",
        "lookahead",
        "memory",
        "progress",
        "schemas",
    )
}


def code_of_stage(stage: str) -> set[str]:
    """Files of macrec_core that a stage imports, directly or not, without the plumbing."""
    found: set[str] = set()
    waiting = [ROOT / "stages" / f"{stage}.py"]
    while waiting:
        for path in _imports(waiting.pop()):
            name = path.relative_to(ROOT).as_posix()
            if name not in found and not _is_plumbing(name):
                found.add(name)
                waiting.append(path)
    return found


def _is_plumbing(name: str) -> bool:
    return name in PLUMBING or name.startswith("macrec_core/params/")


def _imports(path: Path) -> set[Path]:
    names: set[str] = set()
    for node in _runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = set()
    for name in names:
        if name.split(".")[0] != "macrec_core":
            continue
        base = ROOT.joinpath(*name.split("."))
        files |= {p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()}
    return files


def _runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    nodes, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))
    return nodes
