"""The benchmark of the filter at toy size: plain and ours give the same core."""

from __future__ import annotations

import pytest

from benchmarks import filter_50m
from benchmarks.plain_filter import core_plainly
from macrec_core.catalog.filtering import core_of
from macrec_core.catalog.ratings import read_ratings


@pytest.mark.parametrize("size", [999, 5000])
def test_plain_and_ours_give_the_same_core(tmp_path, monkeypatch, size):
    monkeypatch.setattr(filter_50m, "_PART", 700)
    path = tmp_path / "ratings.csv"
    filter_50m.write_ratings(path, size)
    assert path.read_bytes().count(b"\n") == size
    path.write_bytes(path.read_bytes() + b"broken\n" + path.read_bytes()[:4000])  # and repeated
    known = filter_50m.item_keys(size)[:-9]
    ours = core_of(read_ratings(path).interactions, known, None, 3)
    plain = core_plainly(path, set(known), 3)
    assert ours.interactions.rows() == plain
    assert len(plain) > 100
    assert ours.dropped["repeated_interactions"] > 50


def test_a_row_for_each_size_and_plain_in_one():
    rows = filter_50m.run(sizes=(1000, 20_000), plain_size=5000)
    assert [row.work for row in rows] == [
        "filter_50m 0.001M", "filter_50m 0.005M", "filter_50m 0.02M",
    ]  # fmt: skip
    assert [row.ratio is None for row in rows] == [True, False, True]
    assert all(row.ours > 0 and row.ceiling > 0 and row.peak_memory_mb > 50 for row in rows)
