"""How workers are started, watched and ended; each is a few lines of Python without torch."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from macrec_core.errors import LostContactError, MacrecError
from macrec_core.params.whole import RuntimeParams
from stages import launch
from stages.console import Console, OneLineErrors
from stages.launch import share_work

WHOLE = {
    "device": "cpu", "precision": "float32", "num_threads": 1, "num_processes": 2,
    "checkpoint_every_s": 60.0,
}  # fmt: skip


def runtime(**changes):
    return RuntimeParams.model_validate(WHOLE | changes)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", launch._MEETING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch, "_SECONDS_TO_FOLLOW", 1.0)
    monkeypatch.setattr(launch, "_SECONDS_TO_STOP", 1.0)


@pytest.fixture
def workers(monkeypatch):
    """Makes workers run a script in which `rank` is defined."""

    def run(script):
        lines = "import os, signal, sys, time\nrank = int(os.environ['RANK'])\n"
        lines += textwrap.dedent(script)
        monkeypatch.setattr(launch, "_command", lambda: [sys.executable, "-c", lines])

    return run


def test_one_process_does_the_work_itself(monkeypatch):
    monkeypatch.setattr(launch, "_launch", pytest.fail)
    share_work(runtime(num_processes=1))


def test_a_worker_of_another_launcher_does_the_work_itself(monkeypatch):
    monkeypatch.setattr(launch, "_launch", pytest.fail)
    before = logging.getLogger().level
    try:
        for rank, level in (("0", before), ("1", logging.ERROR)):
            monkeypatch.setenv("WORLD_SIZE", "2")
            monkeypatch.setenv("RANK", rank)
            share_work(runtime())
            assert logging.getLogger().level == level
    finally:
        logging.getLogger().setLevel(before)


def test_workers_are_this_command_line_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stages/__main__.py", "train_gr", "--seed", "0"])
    assert launch._command() == [sys.executable, "-m", "stages", "train_gr", "--seed", "0"]


def test_workers_know_each_other_and_the_launcher_ends_well(workers, tmp_path):
    workers(f"""
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MACREC_RENDEZVOUS",
                 "OMP_NUM_THREADS")
        open(f"{tmp_path}/{{rank}}", "w").write(" ".join(os.environ[name] for name in names))
    """)
    with pytest.raises(typer.Exit) as ended:
        share_work(runtime(num_processes=3, num_threads=2))
    assert ended.value.exit_code == 0
    said = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [words[:4] for words in said] == [[str(r), str(r), "3", "3"] for r in range(3)]
    (meeting,) = {words[4] for words in said}
    assert not Path(meeting).parent.exists()  # it was of this run alone
    assert [words[5] for words in said] == ["2"] * 3


def test_all_cores_are_shared_among_the_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    for count, threads in ((2, "6"), (5, "2"), (13, "1")):
        found = launch._environment(runtime(num_threads=0, num_processes=count), Path())
        assert found["OMP_NUM_THREADS"] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert launch._environment(runtime(num_threads=0), Path())["OMP_NUM_THREADS"] == "4"


def test_the_user_sees_the_first_worker_alone(workers, capfd):
    workers("print('hello from', rank, file=sys.stderr)")
    with pytest.raises(typer.Exit):
        share_work(runtime())
    assert capfd.readouterr().err == "hello from 0\n"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_is_named_and_the_others_are_stopped(workers, rank, tmp_path):
    # The other one ignores what asks it to end.
    workers(f"""
        if rank == {rank}:
            while not os.path.exists("{tmp_path}/ready"):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("{tmp_path}/pid", "w").write(str(os.getpid()))
        open("{tmp_path}/ready", "w")
        time.sleep(60)
    """)
    began = time.monotonic()
    with pytest.raises(MacrecError) as caught:
        share_work(runtime())
    assert time.monotonic() - began < 30
    assert str(caught.value) == (
        f"process {rank + 1} of 2 (rank {rank}) was killed by signal 9 (SIGKILL; memory may have "
        "run out), and the others were stopped; run the same again to go on from the last "
        "checkpoint"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_one_that_lost_the_killed_one_is_not_blamed(workers, capfd):
    workers("""
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(3)
    """)
    with pytest.raises(
        MacrecError, match=r"process 2 of 2 \(rank 1\) was killed by signal 15 \(SIG"
    ):
        share_work(runtime())


def test_an_error_that_all_meet_is_told_once(workers, capfd):
    # The second one ends first, and is still not the one to tell.
    workers("time.sleep(0.3 * (rank == 0)); print('error: NaN', file=sys.stderr); sys.exit(1)")
    with pytest.raises(typer.Exit) as ended:
        share_work(runtime())
    assert ended.value.exit_code == 1
    assert capfd.readouterr().err == "error: NaN\n"


def test_an_error_of_another_worker_is_told_with_its_name(workers, capfd):
    workers("""
        if rank == 0:
            print("error: lost contact", file=sys.stderr)
            sys.exit(3)
        time.sleep(0.3)
        print("error: out of memory", file=sys.stderr)
        sys.exit(1)
    """)
    with pytest.raises(typer.Exit) as ended:
        share_work(runtime())
    assert ended.value.exit_code == 1
    assert capfd.readouterr().err == (
        "error: lost contact\nprocess 2 of 2 (rank 1): error: out of memory\n"
    )


def test_workers_end_with_a_launcher_that_is_killed(tmp_path):
    worker = f"""
import os, time
from stages.launch import share_work
share_work(None)
name = "{tmp_path}/" + os.environ["RANK"]
open(name + ".new", "w").write(str(os.getpid()))
os.rename(name + ".new", name)
time.sleep(60)
"""
    script = f"""
import sys
from macrec_core.params.whole import RuntimeParams
from stages import launch
from stages.console import Console, OneLineErrors
launch._command = lambda: [sys.executable, "-c", {worker!r}]
launch.share_work(RuntimeParams.model_validate({WHOLE!r}))
"""
    launcher = subprocess.Popen([sys.executable, "-c", script])
    files = [tmp_path / "0", tmp_path / "1"]
    deadline = time.monotonic() + 60
    while not all(file.exists() for file in files):
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    for file in files:
        pid = int(file.read_text())
        while _runs(pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _runs(pid):
    try:
        os.kill(pid, 0)
        # In a container maybe nobody waits for an orphan, which then stays as a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc here, or gone in between
        return Path("/proc").is_dir() is False


def test_of_several_processes_only_the_first_draws(capfd):
    for shown in (True, False):
        with Console(shown=shown) as console:
            console.start("work", 2)
            console.advance(2, f"shown {shown}")
    assert capfd.readouterr().err == "work: 2/2 shown True\n"


def test_lost_contact_has_an_exit_code_of_its_own():
    app = typer.Typer(cls=OneLineErrors)

    @app.command()
    def lose() -> None:
        raise LostContactError("process 1 of 2 lost contact")

    @app.command()
    def err() -> None:
        raise MacrecError("x=1: is wrong")

    for name, code in (("lose", 3), ("err", 1)):
        result = CliRunner().invoke(app, [name])
        assert result.exit_code == code
        assert result.output.startswith("error: ") and len(result.output.splitlines()) == 1
