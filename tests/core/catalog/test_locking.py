"""Locks of downloads."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from macrec_core.catalog.locking import exclusive, lock_file
from macrec_core.errors import MacrecError

HOLD = """
import sys, time
from pathlib import Path
from macrec_core.catalog.locking import exclusive
with exclusive(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_is_named_while_it_lives_and_forgotten_then(tmp_path):
    lock = lock_file(tmp_path / "locks", "x")
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(MacrecError, match=rf"^x: .* by process {process.pid} on .*wait until"):
            exclusive(lock, "x").__enter__()
        process.send_signal(signal.SIGKILL)
    with exclusive(lock, "x"):
        assert lock.exists()


def test_a_lock_is_free_after_an_error(tmp_path):
    lock = lock_file(tmp_path, "x")
    with pytest.raises(ValueError, match="inside"), exclusive(lock, "x"):
        raise ValueError("inside")
    with exclusive(lock, "x"), pytest.raises(MacrecError, match="is being downloaded by process"):
        exclusive(lock, "x").__enter__()


def test_an_unknown_holder_is_another_run(tmp_path):
    lock = lock_file(tmp_path, "x")
    with exclusive(lock, "x"):
        lock.with_suffix(".holder").write_text("{")
        with pytest.raises(MacrecError, match="is being downloaded by another run"):
            exclusive(lock, "x").__enter__()


def test_a_lock_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MacrecError, match=r"cannot be written .*MACREC_SCRATCH.*run again"):
        exclusive(tmp_path / "file" / "x.lock", "x").__enter__()


def test_keys_have_locks_of_their_own(tmp_path):
    assert lock_file(tmp_path, "a") != lock_file(tmp_path, "b")
    assert lock_file(tmp_path, "../../x").parent == tmp_path
