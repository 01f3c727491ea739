"""Seq2seq data: leave-one-out windows over histories, and the tasks over modalities.

Tasks: `recommend` (history m -> next item m, for each modality), `align_sequences` (history m
-> next item m', for each ordered pair) and `align_items` (item m -> item m'). Two modalities
give the paper's six. A user's last item is the test target and the last but one the validation
target; neither occurs in a training example as a target, nor in its history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from macrec_core.artifacts import lists
from macrec_core.errors import MacrecError

if TYPE_CHECKING:
    from macrec_core.params import Seq2SeqParams
    from macrec_core.semantic_ids import Vocabulary

Ints = NDArray[np.int64]


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
    def num_cut(self) -> int:
        """Windows whose history was cut."""
        return int(np.sum(self.positions > self.targets - self.starts))

    @property
    def target_items(self) -> Ints:
        """[windows] target item ids."""
        return self.items[self.targets]


def windows(interactions: pa.Table, split: str, max_history: int) -> Windows:
    """Windows whose target lies in a split and has at least one item before it.

    Args:
        interactions: artifact INTERACTIONS, ordered by user and position.
        split: `train`, `valid` or `test`.
        max_history: items before the target that are kept.
    """
    items = np.asarray(interactions.column("item_id")).astype(np.int64)
    users = np.asarray(interactions.column("user_id")).astype(np.int64)
    positions = np.asarray(interactions.column("position")).astype(np.int64)
    in_split = np.asarray(interactions.column("split").to_numpy(zero_copy_only=False) == split)
    targets = np.flatnonzero(in_split & (positions > 0))
    place = positions[targets]
    starts = targets - np.minimum(place, max_history)
    return Windows(items, users[targets], place, starts, targets)


def training_examples(
    interactions: pa.Table,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    params: Seq2SeqParams,
) -> pa.Table:
    """All training examples of all tasks, artifact TRAINING_EXAMPLES.

    Args:
        interactions: artifact INTERACTIONS.
        codes: per modality [N, L], every item's semantic ID.
        vocabulary: token ids.
        params: window and tasks.

    Raises:
        MacrecError: an alignment task with a single modality.
    """
    modalities = list(codes)
    aligned = [task for task in params.tasks if task != "recommend"]
    if aligned and len(modalities) < 2:
        raise MacrecError(
            f"seq2seq.tasks={params.tasks}: {aligned} need two modalities, the variant has "
            f"{modalities}; remove them for this variant"
        )
    tokens = {m: vocabulary.encode(m, c) for m, c in codes.items()}
    train = windows(interactions, "train", params.max_history)
    parts = []
    for task in params.tasks:
        pairs = [(m, m) for m in modalities] if task == "recommend" else permutations(modalities, 2)
        for source, target in pairs:
            prompt = None if task == "recommend" else vocabulary.prompt_id(task, source, target)
            if task == "align_items":
                parts.append(_item_part(task, source, target, tokens, prompt, vocabulary.end_id))
            else:
                parts.append(
                    _window_part(task, source, target, tokens, train, prompt, vocabulary.end_id)
                )
    table = pa.concat_tables(parts)
    return table.add_column(0, "example_id", pa.array(np.arange(table.num_rows)))


def evaluation_examples(
    interactions: pa.Table,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    max_history: int,
) -> pa.Table:
    """Validation and test histories of every user and modality, artifact EVALUATION_EXAMPLES."""
    parts = []
    for split in ("test", "valid"):
        held_out = windows(interactions, split, max_history)
        for modality in sorted(codes):
            values, offsets = source_tokens(
                held_out, vocabulary.encode(modality, codes[modality]), None, vocabulary.end_id
            )
            count = len(held_out.users)
            parts.append(
                pa.table(
                    {
                        "split": pa.array([split] * count, pa.string()),
                        "modality": pa.array([modality] * count, pa.string()),
                        "user_id": held_out.users,
                        "target_item": held_out.target_items,
                        "source": lists(values, offsets),
                    }
                )
            )
    return pa.concat_tables(parts)


def source_tokens(
    histories: Windows, tokens: NDArray[np.int32], prompt: int | None, end_id: int
) -> tuple[NDArray[np.int32], Ints]:
    """Encoder inputs of many windows at once: [prompt] codes of the history, end.

    Args:
        histories: windows.
        tokens: [N, L] token ids of every item.
        prompt: token put first, or None.
        end_id: token put last.

    Returns:
        Flat token ids and [windows + 1] offsets.
    """
    num_levels = tokens.shape[1]
    lengths = histories.targets - histories.starts
    extra = 1 if prompt is None else 2
    offsets = np.concatenate([[0], np.cumsum(lengths * num_levels + extra)])
    values = np.empty(offsets[-1], dtype=np.int32)
    # Flat position of every history item: the window's start plus its place in the window.
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = histories.items[np.repeat(histories.starts, lengths) + place]
    first = np.repeat(offsets[:-1] + extra - 1, lengths) + place * num_levels
    values[first[:, None] + np.arange(num_levels)] = tokens[items]
    values[offsets[1:] - 1] = end_id
    if prompt is not None:
        values[offsets[:-1]] = prompt
    return values, offsets


def _window_part(
    task: str,
    source: str,
    target: str,
    tokens: Mapping[str, NDArray[np.int32]],
    train: Windows,
    prompt: int | None,
    end_id: int,
) -> pa.Table:
    values, offsets = source_tokens(train, tokens[source], prompt, end_id)
    return _part(
        task, source, target, train.users, train.positions, train.target_items,
        lists(values, offsets), tokens[target], end_id,
    )  # fmt: skip


def _item_part(
    task: str,
    source: str,
    target: str,
    tokens: Mapping[str, NDArray[np.int32]],
    prompt: int | None,
    end_id: int,
) -> pa.Table:
    count = len(tokens[source])
    # An item is a history of one item before a target that is never read.
    every = np.arange(count)
    single = Windows(items=every, users=every, positions=every, starts=every, targets=every + 1)
    values, offsets = source_tokens(single, tokens[source], prompt, end_id)
    return _part(
        task, source, target, None, None, np.arange(count),
        lists(values, offsets), tokens[target], end_id,
    )  # fmt: skip


def _part(
    task: str,
    source: str,
    target: str,
    users: Ints | None,
    positions: Ints | None,
    target_items: Ints,
    sources: pa.Array,
    target_tokens: NDArray[np.int32],
    end_id: int,
) -> pa.Table:
    count = len(target_items)
    ends = np.full((count, 1), end_id, dtype=np.int32)
    targets = np.concatenate([target_tokens[target_items], ends], axis=1)  # [count, L + 1]
    width = targets.shape[1]
    missing = pa.nulls(count, pa.int32())
    return pa.table(
        {
            "task": pa.array([task] * count, pa.string()),
            "source_modality": pa.array([source] * count, pa.string()),
            "target_modality": pa.array([target] * count, pa.string()),
            "user_id": missing if users is None else pa.array(users, pa.int32()),
            "position": missing if positions is None else pa.array(positions, pa.int32()),
            "target_item": pa.array(target_items, pa.int32()),
            "source": sources,
            "target": lists(targets.reshape(-1), np.arange(count + 1) * width),
        }
    )
