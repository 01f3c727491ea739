from __future__ import annotations

import logging

import pytest
import torch

from macrec_core import checkpoints
from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError


def state(step):
    return {"model": {"w": torch.full((3,), float(step))}, "progress": f"epoch {step}"}


def test_a_fresh_folder_holds_no_state(tmp_path):
    assert Checkpoints(tmp_path / "new" / "one", 0.0).load() is None
    assert (tmp_path / "new" / "one").is_dir()


def test_the_last_saved_state_is_loaded_and_told(tmp_path, caplog):
    Checkpoints(tmp_path, 0.0).save(state(1))
    Checkpoints(tmp_path, 0.0).save(state(2))
    with caplog.at_level(logging.INFO):
        found = Checkpoints(tmp_path, 0.0).load()
    assert torch.equal(found["model"]["w"], torch.full((3,), 2.0))
    assert "going on from" in caplog.text
    assert "epoch 2" in caplog.text
    assert [f.name for f in tmp_path.iterdir()] == ["state.pt"]


def test_the_last_state_is_named_with_how_far_it_had_come(tmp_path):
    keeper = Checkpoints(tmp_path, 0.0)
    assert keeper.last == "none was saved"
    keeper.save(state(1))
    assert keeper.last == f"{tmp_path / 'state.pt'} at epoch 1"
    later = Checkpoints(tmp_path, 0.0)
    later.load()
    assert later.last == keeper.last
    later.save(state(2))
    assert later.last == f"{tmp_path / 'state.pt'} at epoch 2"


def test_a_save_that_fails_does_not_count_as_the_last(tmp_path, monkeypatch):
    keeper = Checkpoints(tmp_path, 0.0)
    keeper.save(state(1))

    def fail(value, file):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        keeper.save(state(2))
    assert keeper.last.endswith("at epoch 1")


def test_offers_are_taken_only_after_the_interval(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    made = []

    def make():
        made.append(now[0])
        return state(int(now[0]))

    keeper = Checkpoints(tmp_path, 10.0)
    for second in (101.0, 109.9, 110.0, 115.0, 119.9, 120.0, 121.0):
        now[0] = second
        keeper.offer(make)
    # States that are not due are not even built.
    assert made == [110.0, 120.0]
    assert keeper.load()["progress"] == "epoch 120"


def test_an_interval_of_zero_takes_every_offer(tmp_path):
    keeper = Checkpoints(tmp_path, 0.0)
    for step in range(3):
        keeper.offer(lambda step=step: state(step))
        assert keeper.load()["progress"] == f"epoch {step}"


def test_a_save_that_fails_half_way_leaves_the_older_state(tmp_path, monkeypatch):
    keeper = Checkpoints(tmp_path, 0.0)
    keeper.save(state(1))

    def half(value, file):
        file.write(b"half a state")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        keeper.save(state(2))
    assert Checkpoints(tmp_path, 0.0).load()["progress"] == "epoch 1"
    # What is left over has one name, and the next save takes its place.
    assert sorted(f.name for f in tmp_path.iterdir()) == ["state.pt", "state.tmp"]
    monkeypatch.undo()
    keeper.save(state(3))
    assert [f.name for f in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"half a state",
        lambda whole: b"\x80\x02",
        lambda whole: b"PK\x03\x04",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-10],
    ],
)
def test_a_damaged_state_is_an_error_naming_the_file_and_what_to_do(tmp_path, damage):
    keeper, path = Checkpoints(tmp_path, 0.0), tmp_path / "state.pt"
    keeper.save(state(1))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(MacrecError, match=r"state\.pt: is no readable checkpoint .*delete it") as e:
        keeper.load()
    assert "\n" not in str(e.value)
    path.unlink()
    assert keeper.load() is None


def test_of_several_processes_only_the_first_saves(tmp_path):
    other = Checkpoints(tmp_path, 0.0, writes=False)
    other.save(state(1))
    other.offer(lambda: pytest.fail("a state that nobody saves was built"))
    assert list(tmp_path.iterdir()) == []
    Checkpoints(tmp_path, 0.0, writes=True).save(state(2))
    assert other.load()["progress"] == "epoch 2"


def test_a_full_disk_is_told_and_the_older_state_stays(small_disk):
    kept = Checkpoints(small_disk, 0.0)
    kept.save({"weights": torch.zeros(10)})
    with pytest.raises(MacrecError, match=r"cannot be written \(.*No space left.*free some space"):
        kept.save({"weights": torch.rand(100_000)})
    assert torch.equal(Checkpoints(small_disk, 0.0).load()["weights"], torch.zeros(10))
