"""Seq2seq data: leave-one-out windows over histories, and the tasks over modalities.

Tasks: `recommend` (history m -> next item m, for each modality), `align_sequences` (history m
-> next item m', for each ordered pair) and `align_items` (item m -> item m'). Two modalities
give the paper's six. A user's last item is the test target and the last but one the validation
target; neither occurs in a training example as a target, nor in its history.

Examples are made in chunks, each written before the next is made: what must fit into memory is
a chunk and the semantic IDs, not the interactions, which are read once for each task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from macrec_core.artifacts import artifact_writer, lists, write_json
from macrec_core.errors import MacrecError
from macrec_core.lookahead import ahead
from macrec_core.schemas import EVALUATION_EXAMPLES, TRAINING_EXAMPLES
from macrec_core.windows import (
    ROWS_A_CHUNK,
    Scan,
    Windows,
    item_chunks,
    scan_of,
    source_tokens,
    window_chunks,
)

if TYPE_CHECKING:
    from macrec_core.params.recommender import Seq2SeqParams
    from macrec_core.semantic_ids import Vocabulary

SPLITS = ("train", "valid", "test")
_TRAINING, _EVALUATION, _VOCABULARY = "train.parquet", "eval.parquet", "vocabulary.json"
EXAMPLE_FILES = (_TRAINING, _EVALUATION, _VOCABULARY)


@dataclass(frozen=True)
class Pair:
    """One task from one modality to another (or to itself).

    Attributes:
        task: its name.
        source: modality of the history.
        target: modality of the next item.
        prompt: token put before the history, or None.
    """

    task: str
    source: str
    target: str
    prompt: int | None

    @property
    def name(self) -> str:
        """As the metrics name it."""
        return f"{self.task}:{self.source}>{self.target}"


def write_examples(
    folder: Path,
    scan: Scan,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    params: Seq2SeqParams,
) -> dict[str, object]:
    """Write train.parquet, eval.parquet and vocabulary.json.

    Returns:
        Counts of examples, of users a split and of histories cut to `max_history`.

    Raises:
        MacrecError: an alignment task with a single modality, or interactions that break their
            contract.
    """
    tasks = write_training(folder / _TRAINING, scan, codes, vocabulary, params)
    with artifact_writer(folder / _EVALUATION, EVALUATION_EXAMPLES) as evaluation:
        for table in ahead(evaluation_chunks(scan, codes, vocabulary, params.max_history)):
            evaluation.write(table)
    write_json(folder / _VOCABULARY, vocabulary.to_json())
    return {
        "examples": sum(tasks.values()),
        "tasks": tasks,
        "vocabulary": vocabulary.size,
        **split_counts(scan, params.max_history),
    }


def write_training(
    path: Path,
    scan: Scan,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    params: Seq2SeqParams,
) -> dict[str, int]:
    """Write artifact TRAINING_EXAMPLES, the next chunk being made while one is written.

    Returns:
        Examples of each task.
    """
    counts = {pair.name: 0 for pair in task_pairs(list(codes), vocabulary, params)}
    with artifact_writer(path, TRAINING_EXAMPLES) as writer:
        for pair, table in ahead(training_chunks(scan, codes, vocabulary, params)):
            writer.write(table)
            counts[pair.name] += table.num_rows
    return counts


def split_counts(scan: Scan, max_history: int) -> dict[str, int]:
    """Users of each held-out split, and histories of each split that `max_history` cuts."""
    counts = Counter({f"{split}_histories_cut": 0 for split in SPLITS})
    for table in scan(ROWS_A_CHUNK):
        long = np.asarray(table.column("position")) > max_history
        for split in SPLITS:
            chosen = np.asarray(pc.equal(table.column("split"), split))
            counts[f"{split}_histories_cut"] += int((chosen & long).sum())
            if split != "train":
                counts[f"{split}_users"] += int(chosen.sum())
    return dict(counts)


def task_pairs(modalities: list[str], vocabulary: Vocabulary, params: Seq2SeqParams) -> list[Pair]:
    """The tasks over all modalities, in the order of their examples.

    Raises:
        MacrecError: an alignment task with a single modality.
    """
    aligned = [task for task in params.tasks if task != "recommend"]
    if aligned and len(modalities) < 2:
        raise MacrecError(
            f"seq2seq.tasks={params.tasks}: {aligned} need two modalities, the variant has "
            f"{modalities}; remove them for this variant"
        )
    pairs = []
    for task in params.tasks:
        if task == "recommend":
            pairs += [Pair(task, m, m, None) for m in modalities]
        else:
            pairs += [
                Pair(task, a, b, vocabulary.prompt_id(task, a, b))
                for a, b in permutations(modalities, 2)
            ]
    return pairs


def training_chunks(
    scan: Scan,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    params: Seq2SeqParams,
) -> Iterator[tuple[Pair, pa.Table]]:
    """Artifact TRAINING_EXAMPLES in chunks of bounded size, each of one task.

    Args:
        scan: reads artifact INTERACTIONS.
        codes: per modality [N, L], every item's semantic ID.
        vocabulary: token ids.
        params: window and tasks.

    Raises:
        MacrecError: an alignment task with a single modality.
    """
    inputs = {m: vocabulary.encode_inputs(m, c) for m, c in codes.items()}
    ids = {m: vocabulary.encode(m, c) for m, c in codes.items()}
    first = 0
    for pair in task_pairs(list(codes), vocabulary, params):
        num_items, num_tokens = inputs[pair.source].shape
        if pair.task == "align_items":
            histories = item_chunks(num_items)
        else:
            histories = window_chunks(scan, "train", params.max_history, num_tokens)
        for chunk in histories:
            table = _training_table(
                pair, chunk, inputs[pair.source], ids[pair.target], vocabulary.end_id
            )
            numbers = pa.array(np.arange(first, first + table.num_rows))
            first += table.num_rows
            yield pair, table.add_column(0, "example_id", numbers)


def evaluation_chunks(
    scan: Scan, codes: Mapping[str, NDArray[np.int32]], vocabulary: Vocabulary, max_history: int
) -> Iterator[pa.Table]:
    """Artifact EVALUATION_EXAMPLES in chunks: histories of every held-out target and modality."""
    for split in ("test", "valid"):
        for modality in sorted(codes):
            tokens = vocabulary.encode_inputs(modality, codes[modality])
            for chunk in window_chunks(scan, split, max_history, tokens.shape[1]):
                count = len(chunk.users)
                yield pa.table(
                    {
                        "split": pa.repeat(split, count),
                        "modality": pa.repeat(modality, count),
                        "user_id": chunk.users,
                        "target_item": chunk.target_items,
                        "source": lists(*source_tokens(chunk, tokens, None, vocabulary.end_id)),
                    }
                )


def training_examples(
    interactions: pa.Table,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    params: Seq2SeqParams,
) -> pa.Table:
    """`training_chunks` of interactions in memory, as one table."""
    chunks = training_chunks(scan_of(interactions), codes, vocabulary, params)
    empty = TRAINING_EXAMPLES.schema.empty_table()
    return pa.concat_tables([empty, *(table.cast(empty.schema) for _, table in chunks)])


def evaluation_examples(
    interactions: pa.Table,
    codes: Mapping[str, NDArray[np.int32]],
    vocabulary: Vocabulary,
    max_history: int,
) -> pa.Table:
    """`evaluation_chunks` of interactions in memory, as one table."""
    chunks = evaluation_chunks(scan_of(interactions), codes, vocabulary, max_history)
    empty = EVALUATION_EXAMPLES.schema.empty_table()
    return pa.concat_tables([empty, *(table.cast(empty.schema) for table in chunks)])


def _training_table(
    pair: Pair, chunk: Windows, inputs: NDArray[np.int32], ids: NDArray[np.int32], end_id: int
) -> pa.Table:
    """Columns of TRAINING_EXAMPLES but the first, of every item's input tokens and ID."""
    sources = lists(*source_tokens(chunk, inputs, pair.prompt, end_id))
    count, items = len(chunk.users), chunk.target_items
    targets = np.full((count, ids.shape[1] + 1), end_id, dtype=np.int32)
    targets[:, :-1] = ids[items]
    no_user = pair.task == "align_items"
    missing = pa.nulls(count, pa.int32())
    return pa.table(
        {
            "task": pa.repeat(pair.task, count),
            "source_modality": pa.repeat(pair.source, count),
            "target_modality": pa.repeat(pair.target, count),
            "user_id": missing if no_user else pa.array(chunk.users, pa.int32()),
            "position": missing if no_user else pa.array(chunk.positions, pa.int32()),
            "target_item": pa.array(items, pa.int32()),
            "source": sources,
            "target": lists(targets.reshape(-1), np.arange(count + 1) * targets.shape[1]),
        }
    )
