"""What is said when the scratch folder cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from macrec_core.errors import FullDiskError, MacrecError


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Turn an error of the disk, while a scratch file is written, into one line.

    Raises:
        MacrecError: naming path, reason and remedy.
    """
    try:
        yield
    except (OSError, FullDiskError) as error:
        reason = error.__cause__ if isinstance(error, FullDiskError) else error
        raise MacrecError(
            f"{path}: cannot be written ({reason}); free space on its disk, or set "
            "MACREC_SCRATCH to a folder with more, and run again: what is finished is kept"
        ) from error
