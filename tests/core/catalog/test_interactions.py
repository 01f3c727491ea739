from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macrec_core.catalog.interactions import numbered_interactions

KEYS = st.sampled_from(["A1", "B2", "é", "a" * 40, "A1\0", "\0"])
ROWS = st.lists(st.tuples(KEYS, KEYS, st.integers(-(2**63), 2**63 - 1)), max_size=12)


def table_of(rows):
    schema = {"user_key": pl.String, "item_key": pl.String, "timestamp": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row")


@given(ROWS, ROWS, st.sampled_from([1, 5, 100]))
def test_keys_are_numbered_and_found_again(first, second, part):
    table = pl.concat([table_of(first), table_of(second)], rechunk=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("macrec_core.catalog.interactions._PART", part)
        interactions = numbered_interactions(table)
    rows = first + second
    assert interactions.rows() == rows
    assert len(interactions) == len(rows)
    assert sorted(interactions.user_keys) == sorted({row[0] for row in rows})
    assert sorted(interactions.item_keys) == sorted({row[1] for row in rows})
    assert interactions.users.dtype == interactions.items.dtype == np.int32
    assert interactions.timestamps.dtype == np.int64


def test_chosen_takes_positions_or_a_mask():
    rows = [("u", "a", 1), ("v", "b", 2), ("u", "c", 3)]
    interactions = numbered_interactions(table_of(rows))
    assert interactions.chosen(np.array([2, 0])).rows() == [rows[2], rows[0]]
    assert interactions.chosen(np.array([False, True, False])).rows() == [rows[1]]
