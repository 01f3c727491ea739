"""Where scratch files live, what identifies a file's contents, and what a full disk is called.

Imports neither torch nor pyarrow.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from macrec_core.errors import FullDiskError


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


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn a full disk, or a quota that is used up, into an error that names what was written.

    Raises:
        FullDiskError: naming file, reason and remedy.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if _system_error(error) not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FullDiskError(
            f"{path}: cannot be written ({error}); free some space on its disk and run again"
        ) from error


def _system_error(error: OSError | SafetensorError) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))  # safetensors has it in words only
    return int(found[1]) if found else None
