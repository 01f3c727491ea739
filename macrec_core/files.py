"""Where scratch files live, and what identifies a file's contents. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def scratch_root(cwd: Path) -> Path:
    """The folder of checkpoints and partial downloads: $MACREC_SCRATCH, or `scratch/`.

    DVC runs queued experiments in copies below `.dvc/tmp`; they share the main checkout's
    folder, so that they find finished and interrupted work.
    """
    configured = os.environ.get("MACREC_SCRATCH")
    if configured:
        return Path(configured)
    resolved = cwd.resolve()
    for parent in resolved.parents:
        if parent.name == "tmp" and parent.parent.name == ".dvc":
            return parent.parent.parent / "scratch"
    return resolved / "scratch"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
