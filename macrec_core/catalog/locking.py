"""One run at a time on what two runs would spoil, by a lock that ends with its process."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from macrec_core.catalog.disk_errors import disk_errors_named
from macrec_core.errors import MacrecError


@contextmanager
def exclusive(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock file; the system frees it when the process ends, killed ones too.

    Args:
        lock: the lock file, left in place afterwards: whoever removes it might remove another's.
        what: what the error calls the thing that is locked.

    Raises:
        MacrecError: another run holds it, and the message names its process; or it cannot be
            written.
    """
    holder = lock.with_suffix(".holder")
    held = FileLock(lock, blocking=False)
    with disk_errors_named(lock):
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.acquire()
            holder.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        except Timeout as error:
            raise MacrecError(
                f"{what}: is being downloaded by {_described(holder)}; wait until it has ended, or "
                f"end it (lock {lock})"
            ) from error
        except OSError:
            held.release()
            raise
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def lock_file(folder: Path, key: str) -> Path:
    """The lock file of whatever a key names, such as a URL or a path."""
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.lock"


def _described(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # not written yet, or being written
        return "another run"
