"""Windows over histories: which items stand before a target, and the tokens they become.

Interactions are read a chunk at a time, and windows are made of one chunk and the few rows
before it, so that their number does not decide how much memory is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from macrec_core.errors import MacrecError

Ints = NDArray[np.int64]
# Artifact INTERACTIONS from its first row, in tables of at most the given number of rows.
Scan = Callable[[int], Iterable[pa.Table]]

# Columns of INTERACTIONS that a scan must have.
COLUMNS = ("user_id", "position", "item_id", "split")
# Interactions that are read at once, and tokens that are made at once: 100 MB of arrays.
ROWS_A_CHUNK = 1 << 16
TOKENS_A_CHUNK = 1 << 22


@dataclass(frozen=True)
class Windows:
    """Histories and targets as ranges of one flat array of interactions.

    Attributes:
        items: [interactions] item ids, users one after another in chronological order.
        users: [windows] user id of each window.
        positions: [windows] place of the target in its user's sequence.
        starts: [windows] first index of the history in `items`.
        targets: [windows] index of the target in `items`; the history ends before it.
    """

    items: Ints
    users: Ints
    positions: Ints
    starts: Ints
    targets: Ints

    @property
    def target_items(self) -> Ints:
        """[windows] target item ids."""
        return self.items[self.targets]

    def part(self, start: int, end: int) -> Windows:
        """Windows start..end-1, with the interactions that they need."""
        first, last = self.starts[start], self.targets[end - 1]  # both never fall
        return Windows(
            self.items[first : last + 1],
            self.users[start:end],
            self.positions[start:end],
            self.starts[start:end] - first,
            self.targets[start:end] - first,
        )


def scan_of(interactions: pa.Table) -> Scan:
    """A scan of a table in memory."""
    return lambda rows: (interactions.slice(a, rows) for a in range(0, len(interactions), rows))


def windows(interactions: pa.Table, split: str, max_history: int, first: int = 0) -> Windows:
    """Windows whose target lies in a split and has at least one item before it.

    Args:
        interactions: artifact INTERACTIONS, ordered by user and position.
        split: `train`, `valid` or `test`.
        max_history: items before the target that are kept.
        first: first row that may be a target; those before it are histories only.
    """
    items = np.asarray(interactions.column("item_id")).astype(np.int64)
    positions = np.asarray(interactions.column("position"))
    chosen = np.asarray(pc.equal(interactions.column("split"), split)) & (positions > 0)
    chosen[:first] = False
    targets = np.flatnonzero(chosen)
    users = np.asarray(interactions.column("user_id"))[targets].astype(np.int64)
    place = positions[targets].astype(np.int64)
    return Windows(items, users, place, targets - np.minimum(place, max_history), targets)


def window_chunks(
    scan: Scan, split: str, max_history: int, num_tokens: int, rows: int = ROWS_A_CHUNK
) -> Iterator[Windows]:
    """The same windows in the same order, of `rows` interactions at a time.

    Args:
        scan: reads artifact INTERACTIONS.
        split: `train`, `valid` or `test`.
        max_history: items before the target that are kept.
        num_tokens: of an item, which decide how many windows are given out at once.
        rows: interactions to read at once.
    """
    before: pa.Table | None = None
    for table in scan(rows):
        # The last rows read before reach as far back as the history of the next target.
        joined = table if before is None else pa.concat_tables([before, table])
        found = windows(joined, split, max_history, joined.num_rows - table.num_rows)
        yield from _bounded(found, num_tokens)
        before = joined.slice(max(0, joined.num_rows - max_history))


def item_chunks(num_items: int) -> Iterator[Windows]:
    """Every item as a target whose history is that item; users and positions mean nothing."""
    for start in range(0, num_items, ROWS_A_CHUNK):
        items = np.arange(start, min(start + ROWS_A_CHUNK, num_items))
        places = 2 * np.arange(len(items))
        yield Windows(np.repeat(items, 2), items, items, places, places + 1)


def source_tokens(
    histories: Windows, tokens: NDArray[np.int32], prompt: int | None, end_id: int
) -> tuple[NDArray[np.int32], Ints]:
    """Encoder inputs of many windows at once: [prompt] tokens of the history, end.

    Args:
        histories: windows.
        tokens: [N, n] token ids of every item.
        prompt: token put first, or None.
        end_id: token put last.

    Returns:
        Flat token ids and [windows + 1] offsets.

    Raises:
        MacrecError: an item without a semantic ID.
    """
    num_tokens = tokens.shape[1]
    if len(histories.items) and histories.items.max() >= len(tokens):
        raise MacrecError(
            f"interactions: item {histories.items.max()} has no semantic ID, there are "
            f"{len(tokens)}; make both from one catalogue"
        )
    lead = 0 if prompt is None else 1
    widths = (histories.targets - histories.starts) * num_tokens + lead + 1
    offsets = np.concatenate([[0], np.cumsum(widths)])
    # A history's tokens stand together in those of all interactions; so each source is copied
    # with its neighbours, which the prompt and the end then replace (hence one entry more at
    # either end).
    flat = np.empty(len(histories.items) * num_tokens + 2, dtype=np.int32)
    np.take(tokens, histories.items, axis=0, out=flat[1:-1].reshape(-1, num_tokens), mode="clip")
    places = np.repeat(histories.starts * num_tokens + 1 - lead - offsets[:-1], widths)
    places += np.arange(len(places))
    values = flat[places]
    values[offsets[1:] - 1] = end_id
    if prompt is not None:
        values[offsets[:-1]] = prompt
    return values, offsets


def _bounded(found: Windows, num_tokens: int) -> Iterator[Windows]:
    """Windows in parts whose sources have about `TOKENS_A_CHUNK` tokens at most."""
    if not len(found.users):
        return
    tokens = np.cumsum((found.targets - found.starts) * num_tokens + 2)
    cuts = np.flatnonzero(np.diff(tokens // TOKENS_A_CHUNK)) + 1
    for start, end in pairwise([0, *cuts.tolist(), len(tokens)]):
        yield found.part(start, end)
