from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from macrec_core.recommender import packing
from macrec_core.recommender.kernels import to_rows, to_slots
from macrec_core.recommender.packing import Layout, Packed, Sequences, lay_out

rows_of_tokens = st.lists(
    st.lists(st.integers(1, 99), min_size=1, max_size=40), min_size=1, max_size=30
)
CPU = torch.device("cpu")


def sequences(rows):
    lengths = torch.tensor([0, *map(len, rows)])
    flat = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
    return Sequences(flat, lengths.cumsum(0))


@settings(max_examples=60, deadline=None)
@given(rows_of_tokens, st.data())
def test_packed_tokens_are_the_sequences_one_after_another(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=30))
    packed = sequences(rows).packed(torch.tensor(chosen))
    expected = [token for row in chosen for token in rows[row]]
    assert packed.tokens[: len(expected)].tolist() == expected
    assert not packed.tokens[len(expected) :].any()
    assert packed.layout.num_tokens == len(expected)
    assert packed.count == len(chosen)
    assert packed.tokens.dtype == torch.int64


@settings(max_examples=60, deadline=None)
@given(rows_of_tokens)
def test_every_sequence_stands_alone_in_its_slots_of_one_chunk(rows):
    packed = sequences(rows).packed(torch.arange(len(rows)))
    slots = to_slots(packed.tokens[:, None], packed.layout)[:, 0]
    assert len(slots) % 256 == 0
    found = []
    parts = packed.layout.parts(slots)
    for chunk, part in zip(packed.layout.chunks, parts, strict=True):
        tokens = part.view(chunk.count, chunk.length)
        mask = torch.ones_like(tokens).bool() if chunk.mask is None else chunk.mask
        # Filled from the left, and as wide as the longest and no wider.
        assert (mask.long().diff(dim=1) <= 0).all()
        assert mask.all(dim=0).numel() == chunk.length
        assert mask[:, -1].any()
        found += [row[m].tolist() for row, m in zip(tokens, mask, strict=True)]
    assert found == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_rows_go_to_slots_and_back_with_their_gradients(lengths):
    layout = lay_out(torch.tensor(lengths), CPU)
    count = sum(lengths) if layout.inverse is None else len(layout.inverse)
    rows = torch.randn(count, 3, requires_grad=True)
    back = to_rows(to_slots(rows, layout), layout)
    tokens = layout.num_tokens
    assert tokens == sum(lengths)
    assert torch.equal(back[:tokens], rows[:tokens])
    weight = torch.randn(count, 3)
    weight[tokens:] = 0.0  # nothing depends on rows of no sequence
    (back * weight).sum().backward()
    assert torch.equal(rows.grad, weight)


@pytest.mark.parametrize("lengths", [[5, 3, 3], [4] * 64, [9] * 500])
def test_what_is_taken_apart_is_joined_again(lengths):
    layout = lay_out(torch.tensor(lengths), CPU)
    count = sum(lengths) if layout.index is None else len(layout.index)
    slots = torch.randn(count, 2)
    parts = layout.parts(slots)
    assert [len(part) for part in parts] == [chunk.slots for chunk in layout.chunks]
    taken = sum(chunk.slots for chunk in layout.chunks)
    again = layout.joined(list(parts))
    assert torch.equal(again[:taken], slots[:taken])
    assert again.shape == slots.shape
    assert not again[taken:].any()


def test_sequences_of_one_length_that_fill_whole_rows_are_not_moved():
    layout = lay_out(torch.full((64,), 8), CPU)
    assert (layout.index, layout.inverse) == (None, None)
    assert layout.count == 64
    assert layout.num_tokens == 512


@pytest.mark.parametrize(
    ("lengths", "chunks"),
    [
        ([9] * 3 + [5] * 600, [(603, 9)]),
        ([9] * 3 + [4] * 600, [(256, 9), (347, 4)]),
        ([40] * 300 + [19] * 300 + [9] * 10, [(300, 40), (300, 19), (10, 9)]),
        ([4] * 300 + [8] * 300 + [9] * 300, [(600, 8), (300, 9)]),
    ],
)
def test_a_gpu_gets_few_large_chunks(lengths, chunks):
    layout = lay_out(torch.tensor(lengths), torch.device("meta"))
    assert [(chunk.count, chunk.length) for chunk in layout.chunks] == chunks


def test_dense_is_the_layout_of_a_table():
    packed = Packed.dense(torch.tensor([[5, 6], [7, 8], [9, 1]]))
    assert packed.tokens.tolist() == [5, 6, 7, 8, 9, 1]
    assert packed.layout == Layout.dense(3, 2)
    assert packed.count == 3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=60))
def test_chunks_keep_to_their_slots_where_the_longest_come_first(lengths):
    layout = lay_out(torch.tensor(sorted(lengths, reverse=True)), CPU)
    assert all(chunk.slots <= packing._CHUNK_SLOTS for chunk in layout.chunks)
    assert all(chunk.count.bit_count() == 1 for chunk in layout.chunks)  # powers of two


def test_chunks_are_as_large_as_fit():
    layout = lay_out(torch.tensor([8] * 300 + [4] * 5), CPU)
    assert [(chunk.count, chunk.length) for chunk in layout.chunks] == [
        (256, 8), (32, 8), (16, 8), (1, 4),
    ]  # fmt: skip


def test_lengths_and_device_are_kept():
    some = sequences([[5], [6, 7, 8]])
    assert len(some) == 2
    assert some.lengths.tolist() == [1, 3]
    assert some.to(CPU).flat.tolist() == [5, 6, 7, 8]
