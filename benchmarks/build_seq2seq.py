"""Training examples of a data set like Instruments: six tasks, histories of at most 20 items.

Ours is the stage's core, from interactions and semantic IDs in memory to train.parquet on disk.
Plain is the loop over users that the field's code has: Python lists of token ids, one table at
the end, written with pyarrow's defaults but for zstd. It makes a tenth of the examples. The
ceiling is the rate at which one core compresses the examples' token ids as the file has them
(zstd, level 1): a Parquet writer has one thread. Memory bandwidth would allow fifty times more.

The second row reads ten times the users from a file, in a process of its own, and so does a
process with the first row's users: their peaks show what depends on the amount of data.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.measure import Row, interleaved, row, seconds
from benchmarks.worker import peak_memory_mb
from macrec_core.artifacts import read_chunks, write_artifact
from macrec_core.params.recommender import Seq2SeqParams
from macrec_core.schemas import INTERACTIONS
from macrec_core.semantic_ids import ALIGNMENT_TASKS, Vocabulary
from macrec_core.sequences import training_chunks, write_training
from macrec_core.windows import COLUMNS, scan_of

if TYPE_CHECKING:
    from benchmarks.instruments import Instruments

log = logging.getLogger(__name__)

_ROUNDS = 5
_PLAIN_SHARE = 10  # one in so many users
_TIMES = 10
SEQ2SEQ = Seq2SeqParams(max_history=20, tasks=["recommend", "align_items", "align_sequences"])
VOCABULARY = Vocabulary(("text", "image"), 4, 256, ALIGNMENT_TASKS)


def run(users: int | None = None, rounds: int = _ROUNDS) -> list[Row]:
    """Two rows in examples a second; `users` of them instead of all."""
    # Imported here: it loads torch, which would hide what the child processes need.
    from benchmarks.instruments import make

    data = _cut(make(), users)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, plain = partial(_ours, data, folder), _Plain(data, folder)
        examples = ours()
        best_ours, best_plain = interleaved(ours, plain, rounds)
        ceiling = _compressed_a_second(data)
        once, often = (_from_file(data, times, folder) for times in (1, _TIMES))
        size = (folder / "train.parquet").stat().st_size / examples
        log.info("%d examples of %.1f bytes in the file; peaks of %.0f and %.0f MB",
                 examples, size, once["peak_mb"], often["peak_mb"])  # fmt: skip
    of_items = 2 * len(data.codes["text"])  # do not grow with the users
    assert often["examples"] - of_items == _TIMES * (once["examples"] - of_items)
    many = often["examples"] / often["seconds"]
    return [
        row(
            "build_seq2seq", "examples/s", examples / best_ours, plain.examples / best_plain,
            ceiling, once["peak_mb"],
        ),
        row(f"build_seq2seq x{_TIMES}", "examples/s", many, None, ceiling, often["peak_mb"]),
    ]  # fmt: skip


def _ours(data: Instruments, folder: Path) -> int:
    counts = write_training(
        folder / "train.parquet", scan_of(data.interactions), data.codes, VOCABULARY, SEQ2SEQ
    )
    return sum(counts.values())


class _Plain:
    """Every user, target and task in turn."""

    def __init__(self, data: Instruments, folder: Path) -> None:
        self._path = folder / "plain.parquet"
        self._tokens = {m: VOCABULARY.encode(m, c).tolist() for m, c in data.codes.items()}
        histories: dict[int, list[int]] = {}
        users, items = (data.interactions.column(c).to_pylist() for c in ("user_id", "item_id"))
        for user, item in zip(users, items, strict=True):
            if user % _PLAIN_SHARE == 0:
                histories.setdefault(user, []).append(item)
        self._histories = histories
        self.examples = 0

    def __call__(self) -> None:
        rows: list[dict[str, Any]] = []
        names = list(self._tokens)
        pairs = [("recommend", m, m) for m in names]
        pairs += [("align_sequences", a, b) for a, b in permutations(names, 2)]
        for task, source, target in pairs:
            prompt = [] if source == target else [VOCABULARY.prompt_id(task, source, target)]
            inputs, outputs = self._tokens[source], self._tokens[target]
            for user, items in self._histories.items():
                for place in range(1, len(items) - 2):
                    history = items[max(0, place - SEQ2SEQ.max_history) : place]
                    tokens = prompt + [t for item in history for t in inputs[item]]
                    rows.append(
                        {
                            "task": task,
                            "source_modality": source,
                            "target_modality": target,
                            "user_id": user,
                            "position": place,
                            "target_item": items[place],
                            "source": [*tokens, VOCABULARY.end_id],
                            "target": [*outputs[items[place]], VOCABULARY.end_id],
                        }
                    )
        pq.write_table(pa.Table.from_pylist(rows), self._path, compression="zstd")
        self.examples = len(rows)


def _cut(data: Instruments, users: int | None) -> Instruments:
    if users is None:
        return data
    kept = data.interactions.filter(pc.less(data.interactions.column("user_id"), users))
    return replace(data, interactions=kept)


def _compressed_a_second(data: Instruments) -> float:
    """Examples whose token ids one core compresses in a second."""
    chunks = training_chunks(scan_of(data.interactions), data.codes, VOCABULARY, SEQ2SEQ)
    tables = [table for _, table in chunks]
    columns = [table.column(name) for table in tables for name in ("source", "target")]
    arrays = [np.asarray(pc.list_flatten(column)) for column in columns]
    codec = pa.Codec("zstd", 1)
    best = min(seconds(lambda: [codec.compress(array) for array in arrays]) for _ in range(_ROUNDS))
    return sum(len(table) for table in tables) / best


def _from_file(data: Instruments, times: int, folder: Path) -> dict[str, float]:
    """Examples, seconds and peak memory of a process that reads so many times the users."""
    users = np.asarray(data.interactions.column("user_id"))
    place = data.interactions.column_names.index("user_id")
    parts = [
        data.interactions.set_column(place, "user_id", pa.array(users + k * (users[-1] + 1)))
        for k in range(times)
    ]
    path = folder / f"interactions-{times}.parquet"
    write_artifact(path, pa.concat_tables(parts), INTERACTIONS)
    ids = folder / "codes.npz"
    np.savez(ids, allow_pickle=False, **data.codes)
    files = [str(file) for file in (path, ids, folder / "x.parquet")]
    command = [sys.executable, "-m", "benchmarks.build_seq2seq", *files]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _child(source: Path, ids: Path, target: Path) -> dict[str, float]:
    with np.load(ids) as file:
        codes = dict(file)
    start = time.perf_counter()
    counts = write_training(
        target, lambda rows: read_chunks(source, INTERACTIONS, rows, COLUMNS), codes, VOCABULARY,
        SEQ2SEQ,
    )  # fmt: skip
    spent = time.perf_counter() - start
    return {"examples": sum(counts.values()), "seconds": spent, "peak_mb": peak_memory_mb()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_child(*map(Path, sys.argv[1:]))))
