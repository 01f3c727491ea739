"""Resuming: what is kept, what is refused, and whose shard it is."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from imports import code_of_stage

from macrec_core.encoders import encode_texts, shards, text
from macrec_core.encoders.shards import Shards, run_folder
from macrec_core.errors import MacrecError
from macrec_core.params.data import HuggingFaceTextEncoder
from macrec_core.processes import ALONE, Processes
from macrec_core.runtime import Runtime

ROWS = [("guitar", "red maple neck"), ("drum", ""), ("", "strings"), ("cable", "red"), ("", "")]


@pytest.fixture(autouse=True)
def two_items_a_shard(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ITEMS", 2)


@pytest.fixture
def section(tiny_bert):
    return HuggingFaceTextEncoder(
        encoder="huggingface", model=str(tiny_bert), revision=None, dtype="float32",
        fields=["title", "description"], max_tokens=16, batch_tokens=32,
    )  # fmt: skip


def some(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


def files(scratch):
    return sorted(path for path in scratch.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------ files alone


def test_shards_are_read_back_in_the_order_of_the_items(tmp_path):
    kept = Shards(tmp_path / "run", 5, ALONE)
    assert kept.missing() == [0, 2, 4]
    parts = {start: some(kept.rows_of(start), start) for start in (4, 0, 2)}
    for start, part in parts.items():
        kept.save(start, part, {"texts": start + 1})
    assert kept.missing() == []
    assert [part.tolist() for part in kept] == [parts[s].tolist() for s in (0, 2, 4)]
    assert [len(part) for part in kept] == [2, 2, 1]
    assert kept.counts() == {"texts": 9}
    kept.discard()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other rows"])
def test_a_damaged_shard_is_told_and_computed_again(damage, tmp_path, caplog):
    kept = Shards(tmp_path, 4, ALONE)
    for start in kept.starts:
        kept.save(start, some(2, start), {})
    path = files(tmp_path)[1]
    data = bytearray(path.read_bytes())
    if damage == "other rows":
        Shards(tmp_path, 3, ALONE).save(2, some(1), {})
    elif damage == "flipped":
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[:-4] if damage == "cut" else b"")
    with pytest.raises(MacrecError, match=f"{path}: is no whole shard.*delete it and run again"):
        list(kept)
    with caplog.at_level(logging.WARNING):
        assert kept.missing() == [2]
    assert f"{path}: is no whole shard" in caplog.text
    kept.save(2, some(2), {})
    assert kept.missing() == []


def test_a_shard_that_another_process_has_not_made_is_an_error(tmp_path):
    kept = Shards(tmp_path, 4, ALONE)
    kept.save(0, some(2), {})
    with pytest.raises(MacrecError, match=r"000000002\.safetensors: is no whole shard"):
        list(kept)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_shard_belongs_to_one_process(count, tmp_path):
    own = [Shards(tmp_path, 7, Processes(rank, count)).missing() for rank in range(count)]
    assert sorted(start for starts in own for start in starts) == [0, 2, 4, 6]
    assert max(map(len, own)) - min(map(len, own)) <= 1


def test_the_key_follows_everything_that_a_vector_depends_on(tmp_path, monkeypatch):
    cpu = Runtime(torch.device("cpu"), None)
    data, other = tmp_path / "a", tmp_path / "b"
    data.write_text("1")
    other.write_text("2")

    def key(settings=("a",), data=data, runtime=cpu):
        return run_folder(tmp_path, settings, data, runtime).name

    first, gpu = key(), key(runtime=Runtime(torch.device("cuda", 0), None))
    assert key(runtime=replace(cpu, processes=Processes(1, 2))) == first
    assert key(runtime=Runtime(torch.device("cuda", 1), None)) == gpu
    keys = [
        first,
        gpu,
        key(settings=("b",)),
        key(data=other),
        key(runtime=Runtime(torch.device("cpu"), torch.bfloat16)),
    ]
    monkeypatch.setattr(shards, "version", lambda name: "0")
    keys.append(key())
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("stage", ["embed_text", "embed_image"])
def test_the_key_holds_the_code_that_dvc_watches(stage):
    found = {"/".join(path.removesuffix(".py").split("/")[:2]) for path in code_of_stage(stage)}
    assert found == {f"macrec_core/{name}" for name in shards.CODE}


# ----------------------------------------------------------------------------- whole encoders


def test_shards_give_the_vectors_of_one_piece(make_items, section, runtime, tmp_path, monkeypatch):
    items = make_items(ROWS)
    cut = encode_texts(items, section, None, runtime, tmp_path / "a")
    monkeypatch.setattr(shards, "SHARD_ITEMS", 100)
    whole = encode_texts(items, section, None, runtime, tmp_path / "b")
    assert [len(part) for part in cut.parts] == [2, 2, 1]
    assert [len(part) for part in whole.parts] == [5]
    np.testing.assert_allclose(cut.vectors, whole.vectors, atol=1e-6)
    assert cut.counts == whole.counts
    assert cut.counts["items_without_text"] == 1


class _OneOfTwo(Processes):
    """Does not wait for the other."""

    def wait(self):
        return None


def test_two_processes_together_give_what_one_gives(make_items, section, runtime, tmp_path):
    items = make_items(ROWS)
    alone = encode_texts(items, section, None, runtime, tmp_path / "a")
    second = replace(runtime, processes=_OneOfTwo(1, 2))
    part = encode_texts(items, section, None, second, tmp_path / "b")
    with pytest.raises(MacrecError, match=r"000000000\.safetensors"):  # the first has not run
        _ = part.vectors
    assert [path.name for path in files(tmp_path / "b")] == ["000000002.safetensors"]
    first = replace(runtime, processes=_OneOfTwo(0, 2))
    together = encode_texts(items, section, None, first, tmp_path / "b")
    assert together.vectors.tobytes() == alone.vectors.tobytes()
    assert together.counts == alone.counts


def test_only_what_is_missing_is_computed(make_items, section, runtime, tmp_path, monkeypatch):
    items = make_items(ROWS)
    whole = encode_texts(items, section, None, runtime, tmp_path)
    vectors, counts = whole.vectors, whole.counts
    files(tmp_path)[1].unlink()
    made, vectors_of = [], text.vectors_of

    def spy(shard, *arguments):
        made.append(shard.start)
        return vectors_of(shard, *arguments)

    monkeypatch.setattr(text, "vectors_of", spy)
    again = encode_texts(items, section, None, runtime, tmp_path)
    assert made == [2]
    assert again.vectors.tobytes() == vectors.tobytes()
    assert again.counts == counts


def test_other_texts_parameters_or_weights_meet_no_shard(
    make_items, section, tiny_llama, runtime, tmp_path, caplog
):
    runs = [
        (make_items(ROWS), section, runtime),
        (make_items(ROWS[::-1]), section, runtime),
        (make_items(ROWS), section.model_copy(update={"batch_tokens": 31}), runtime),
        (make_items(ROWS), section.model_copy(update={"model": str(tiny_llama)}), runtime),
        (make_items(ROWS), section, replace(runtime, autocast=torch.bfloat16)),
    ]
    with caplog.at_level(logging.INFO, logger="macrec_core.encoders.shards"):
        for items, changed, where in runs:
            encode_texts(items, changed, None, where, tmp_path)
        assert caplog.text == ""
        assert len(list(tmp_path.iterdir())) == len(runs)
        encode_texts(*runs[0][:2], None, runtime, tmp_path)  # the same again does meet them
    assert "3 of 3 shards" in caplog.text
