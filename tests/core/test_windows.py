"""Windows, whole and chunk by chunk, and the tokens made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from macrec_core.errors import MacrecError
from macrec_core.windows import Windows, item_chunks, scan_of, source_tokens, window_chunks, windows

NUM_ITEMS, END = 20, 1
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rows_of(found):
    """What each window says, whatever array it lies in."""
    parts = zip(found.users, found.positions, found.starts, found.targets, strict=True)
    return [
        (user, position, found.items[start:target].tolist(), found.items[target])
        for user, position, start, target in parts
    ]


@relaxed
@given(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=12),
    st.data(),
    st.sampled_from([None, 3]),
    st.integers(1, 3),
)
def test_source_tokens_equal_a_plain_loop(make_codes, items, data, prompt, levels):
    ends = data.draw(st.lists(st.integers(0, len(items)), min_size=1, max_size=5))
    starts = [data.draw(st.integers(0, end)) for end in ends]
    zeros = np.zeros(len(ends), np.int64)
    histories = Windows(np.array(items), zeros, zeros, np.array(starts), np.array(ends))
    tokens = 10 + make_codes(NUM_ITEMS, levels, 20)
    values, offsets = source_tokens(histories, tokens, prompt, END)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        expected = [] if prompt is None else [prompt]
        for item in items[start:end]:
            expected += tokens[item].tolist()
        assert values[offsets[row] : offsets[row + 1]].tolist() == [*expected, END]
    assert len(values) == offsets[-1]
    assert values.dtype == np.int32


def test_an_item_without_an_id_is_an_error():
    one = np.array([0])
    with pytest.raises(
        MacrecError, match=r"item 7 has no semantic ID, there are 7; .*one catalogue"
    ):
        source_tokens(Windows(np.array([7]), one, one, one, one + 1), np.zeros((7, 2)), None, END)


def test_histories_are_cut_to_the_last_items(make_interactions):
    table = make_interactions([list(range(10))])
    found = windows(table, "test", 3)
    assert found.items[found.starts[0] : found.targets[0]].tolist() == [6, 7, 8]
    assert found.target_items.tolist() == [9]
    assert windows(table, "train", 3).positions.tolist() == [1, 2, 3, 4, 5, 6, 7]


@relaxed
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=9), min_size=1, max_size=6),
    st.sampled_from(["train", "valid", "test"]),
    st.integers(1, 5),
    st.integers(1, 8),
)
def test_windows_of_chunks_are_those_of_the_whole(
    make_interactions, histories, split, max_history, rows
):
    table = make_interactions(histories)
    chunks = list(window_chunks(scan_of(table), split, max_history, 2, rows))
    found = [row for chunk in chunks for row in rows_of(chunk)]
    assert found == rows_of(windows(table, split, max_history))
    # What a chunk holds is bounded by what was read at once and one history.
    assert all(len(chunk.items) <= rows + max_history for chunk in chunks)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_every_item_is_its_own_history_and_target(count, monkeypatch):
    monkeypatch.setattr("macrec_core.windows.ROWS_A_CHUNK", 4)
    chunks = list(item_chunks(count))
    assert [(past, item) for c in chunks for _, _, past, item in rows_of(c)] == [
        ([item], item) for item in range(count)
    ]
    assert max(len(chunk.users) for chunk in chunks) <= 4
