from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from macrec_core import schemas, sequences, windows
from macrec_core.artifacts import read_artifact, read_chunks, write_artifact
from macrec_core.errors import MacrecError
from macrec_core.semantic_ids import ALIGNMENT_TASKS, Vocabulary
from macrec_core.sequences import (
    evaluation_chunks,
    evaluation_examples,
    split_counts,
    training_chunks,
    training_examples,
    write_examples,
)
from macrec_core.windows import scan_of

NUM_ITEMS = 20
histories = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=3, max_size=9), min_size=1, max_size=6
)
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VOCABULARY = Vocabulary(("text", "image"), 2, 6, ALIGNMENT_TASKS)
END = VOCABULARY.end_id


@pytest.fixture(scope="module")
def codes(make_codes):
    return {"text": make_codes(NUM_ITEMS, 2, 6, 1), "image": make_codes(NUM_ITEMS, 2, 6, 2)}


@pytest.fixture(scope="module")
def seq2seq(committed_params):
    def make(max_history=4, tasks=("recommend", "align_items", "align_sequences")):
        update = {"max_history": max_history, "tasks": list(tasks)}
        return committed_params.seq2seq.model_copy(update=update)

    return make


def tokens_of(codes, modality, items):
    """Token ids of some items, one after another, by the plain definition."""
    offsets = VOCABULARY.level_offsets(modality)
    return [
        int(offsets[level] + codes[modality][item][level]) for item in items for level in (0, 1)
    ]


@relaxed
@given(histories, st.integers(1, 5))
def test_examples_are_exactly_those_of_a_plain_enumeration(
    make_interactions, codes, seq2seq, histories, max_history
):
    table = training_examples(make_interactions(histories), codes, VOCABULARY, seq2seq(max_history))
    expected = Counter()
    pairs = [(m, m, "recommend") for m in codes]
    pairs += [(a, b, "align_sequences") for a, b in permutations(codes, 2)]
    for source, target, task in pairs:
        prompt = [] if source == target else [VOCABULARY.prompt_id(task, source, target)]
        for user, history in enumerate(histories):
            for position in range(1, len(history) - 2):
                past = history[max(0, position - max_history) : position]
                item = history[position]
                expected[
                    task, source, target, user, position, item,
                    (*prompt, *tokens_of(codes, source, past), END),
                    (*tokens_of(codes, target, [item]), END),
                ] += 1  # fmt: skip
    for source, target in permutations(codes, 2):
        prompt = VOCABULARY.prompt_id("align_items", source, target)
        for item in range(NUM_ITEMS):
            expected[
                "align_items", source, target, None, None, item,
                (prompt, *tokens_of(codes, source, [item]), END),
                (*tokens_of(codes, target, [item]), END),
            ] += 1  # fmt: skip
    found = Counter(
        (
            row["task"], row["source_modality"], row["target_modality"], row["user_id"],
            row["position"], row["target_item"], tuple(row["source"]), tuple(row["target"]),
        )
        for row in table.to_pylist()
    )  # fmt: skip
    assert found == expected
    assert table.column("example_id").to_pylist() == list(range(table.num_rows))


@relaxed
@given(histories)
def test_counts_follow_the_formula(make_interactions, codes, seq2seq, histories):
    interactions = make_interactions(histories)
    one_task = sum(len(history) - 3 for history in histories)
    count = training_examples(interactions, codes, VOCABULARY, seq2seq()).num_rows
    assert count == 4 * one_task + 2 * NUM_ITEMS
    held_out = evaluation_examples(interactions, codes, VOCABULARY, 4)
    assert held_out.num_rows == 2 * 2 * len(histories)


@relaxed
@given(st.lists(st.integers(3, 9), min_size=1, max_size=6))
def test_held_out_items_never_reach_training(make_interactions, codes, seq2seq, lengths):
    # Every interaction is of an item of its own, so that an item tells the interaction.
    total = sum(lengths)
    starts = np.cumsum([0, *lengths])
    own = [list(range(a, b)) for a, b in pairwise(starts.tolist())]
    numbers = np.arange(total)
    text = np.stack([numbers // 8, numbers % 8], axis=1).astype(np.int32)
    vocabulary = Vocabulary(("text",), 2, 8, ())
    table = training_examples(
        make_interactions(own), {"text": text}, vocabulary, seq2seq(20, ["recommend"])
    )
    held_out = {item for history in own for item in history[-2:]}
    offsets = vocabulary.level_offsets("text")
    for row in table.to_pylist():
        body = np.array(row["source"][:-1]).reshape(-1, 2) - offsets
        past = (body[:, 0] * 8 + body[:, 1]).tolist()
        assert row["target_item"] not in held_out
        assert not held_out & set(past)
        # The history ends right before the target: nothing of the future.
        history = own[row["user_id"]]
        assert past == history[: row["position"]]
        assert history[row["position"]] == row["target_item"]


def test_visual_tokens_follow_each_item_of_a_history_and_never_stand_in_a_target(
    make_interactions, seq2seq
):
    codes = {"collab": np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int32)}
    vocabulary = Vocabulary(("collab",), 2, 2, (), visual_tokens=2, visual_items=4)
    interactions = make_interactions([[2, 0, 3, 1]])
    # Codes 2, 3 and 4, 5; images from 6 on, two an item.
    item = {0: [2, 4, 6, 7], 2: [3, 4, 10, 11], 3: [3, 5, 12, 13]}
    params = seq2seq(2, ["recommend"])
    (row,) = training_examples(interactions, codes, vocabulary, params).to_pylist()
    assert row["source"] == [*item[2], END]
    assert row["target"] == [2, 4, END]
    test, valid = evaluation_examples(interactions, codes, vocabulary, 2).to_pylist()
    assert valid["source"] == [*item[2], *item[0], END]
    assert test["source"] == [*item[0], *item[3], END]


@relaxed
@given(histories, st.integers(1, 5))
def test_evaluation_histories_hold_everything_before_the_target(
    make_interactions, codes, histories, max_history
):
    table = evaluation_examples(make_interactions(histories), codes, VOCABULARY, max_history)
    rows = {(r["split"], r["modality"], r["user_id"]): r for r in table.to_pylist()}
    assert len(rows) == table.num_rows == 4 * len(histories)
    for user, history in enumerate(histories):
        for split, last in (("test", len(history) - 1), ("valid", len(history) - 2)):
            for modality in codes:
                row = rows[split, modality, user]
                past = history[max(0, last - max_history) : last]
                assert row["target_item"] == history[last]
                assert row["source"] == [*tokens_of(codes, modality, past), END]


def test_prompts_stand_on_alignment_tasks_only(make_interactions, codes, seq2seq):
    table = training_examples(make_interactions([list(range(9))]), codes, VOCABULARY, seq2seq())
    prompts = range(2, 2 + len(VOCABULARY.prompts))
    seen = set()
    for row in table.to_pylist():
        found = [token for token in row["source"] if token in prompts]
        assert not set(row["target"]) & set(prompts)
        if row["task"] == "recommend":
            assert found == []
        else:
            assert found == [row["source"][0]]
            seen.add(found[0])
    assert seen == set(prompts)


@pytest.mark.parametrize("tasks", [["recommend", "align_items"], ["recommend", "align_sequences"]])
def test_an_alignment_task_with_one_modality_is_an_error(make_interactions, codes, seq2seq, tasks):
    vocabulary = Vocabulary(("text",), 2, 6, ())
    with pytest.raises(MacrecError, match=f"{tasks[1]}.*need two modalities.*remove them"):
        training_examples(
            make_interactions([[1, 2, 3, 4]]), {"text": codes["text"]}, vocabulary,
            seq2seq(tasks=tasks),
        )  # fmt: skip


def test_users_of_three_items_train_nothing_but_are_evaluated(make_interactions, codes, seq2seq):
    interactions = make_interactions([[1, 2, 3], [4, 5, 6]])
    table = training_examples(interactions, codes, VOCABULARY, seq2seq(tasks=["recommend"]))
    assert table.num_rows == 0
    assert evaluation_examples(interactions, codes, VOCABULARY, 4).num_rows == 8


def test_both_tables_meet_their_contracts(make_interactions, codes, seq2seq, tmp_path):
    interactions = make_interactions([[1, 2, 3, 4, 5], [6, 7, 8, 9], [1, 9, 0]])
    train = training_examples(interactions, codes, VOCABULARY, seq2seq())
    held_out = evaluation_examples(interactions, codes, VOCABULARY, 4)
    for name, table, contract in (
        ("train", train, schemas.TRAINING_EXAMPLES),
        ("eval", held_out, schemas.EVALUATION_EXAMPLES),
    ):
        path = tmp_path / f"{name}.parquet"
        write_artifact(path, table, contract)
        assert read_artifact(path, contract).to_pylist() == table.to_pylist()


@relaxed
@given(histories, st.integers(1, 5), st.integers(1, 7), st.integers(1, 60))
def test_chunks_of_any_size_give_the_same_rows_in_the_same_order(
    make_interactions, codes, seq2seq, histories, max_history, rows, tokens
):
    table, params = make_interactions(histories), seq2seq(max_history)
    train = training_examples(table, codes, VOCABULARY, params)
    held_out = evaluation_examples(table, codes, VOCABULARY, max_history)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "ROWS_A_CHUNK", rows)
        patch.setattr(windows, "TOKENS_A_CHUNK", tokens)
        chunks = [t for _, t in training_chunks(_of(rows, table), codes, VOCABULARY, params)]
        parts = list(evaluation_chunks(_of(rows, table), codes, VOCABULARY, max_history))
    # A window more than the bound, or one item a row.
    most = max(tokens + max_history * VOCABULARY.num_levels + 2, rows * (VOCABULARY.num_levels + 2))
    for chunk in [*chunks, *parts]:
        assert 0 < chunk.num_rows <= rows
        assert sum(map(len, chunk.column("source").to_pylist())) <= most
    assert [row for t in chunks for row in t.to_pylist()] == train.to_pylist()
    assert [row for t in parts for row in t.to_pylist()] == held_out.to_pylist()


def _of(rows, table):
    """A scan that reads `rows` rows at a time, whatever is asked for."""
    return lambda _: scan_of(table)(rows)


def test_what_is_written_is_what_the_tables_hold(make_interactions, codes, seq2seq, tmp_path):
    interactions = make_interactions([[1, 2, 3, 4, 5], [6, 7, 8, 9], [1, 9, 0]])
    write_artifact(tmp_path / "i", interactions, schemas.INTERACTIONS)
    counts = write_examples(
        tmp_path,
        lambda rows: read_chunks(tmp_path / "i", schemas.INTERACTIONS, rows, windows.COLUMNS),
        codes, VOCABULARY, seq2seq(2),
    )  # fmt: skip
    train = read_artifact(tmp_path / "train.parquet", schemas.TRAINING_EXAMPLES)
    held_out = read_artifact(tmp_path / "eval.parquet", schemas.EVALUATION_EXAMPLES)
    assert train.equals(training_examples(interactions, codes, VOCABULARY, seq2seq(2)))
    assert held_out.equals(evaluation_examples(interactions, codes, VOCABULARY, 2))
    names = [
        f"{r['task']}:{r['source_modality']}>{r['target_modality']}" for r in train.to_pylist()
    ]
    assert counts["tasks"] == dict(Counter(names))
    assert counts["examples"] == train.num_rows
    assert (counts["valid_users"], counts["test_users"]) == (3, 3)


def test_chunks_become_row_groups_and_equal_runs_equal_bytes(
    make_interactions, codes, seq2seq, tmp_path, monkeypatch
):
    import pyarrow.parquet as pq

    monkeypatch.setattr(windows, "ROWS_A_CHUNK", 4)
    monkeypatch.setattr(sequences, "ROWS_A_CHUNK", 4)
    scan = _of(4, make_interactions([list(range(9)), list(range(5, 12))]))
    for name in "ab":
        write_examples(tmp_path / name, scan, codes, VOCABULARY, seq2seq())
    for name in ("train.parquet", "eval.parquet", "vocabulary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    chunks = [t.num_rows for _, t in training_chunks(scan, codes, VOCABULARY, seq2seq())]
    groups = pq.ParquetFile(tmp_path / "a" / "train.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == chunks
    assert len(chunks) > 10


@relaxed
@given(histories, st.integers(1, 5), st.integers(1, 7))
def test_users_and_cut_histories_are_counted(make_interactions, histories, max_history, rows):
    table = make_interactions(histories)
    expected = {"valid_users": len(histories), "test_users": len(histories)}
    for split in ("train", "valid", "test"):
        expected[f"{split}_histories_cut"] = sum(
            row["split"] == split and row["position"] > max_history for row in table.to_pylist()
        )
    assert split_counts(_of(rows, table), max_history) == expected


def test_an_item_without_an_id_is_an_error(make_interactions, codes, seq2seq):
    interactions = make_interactions([[1, 2, NUM_ITEMS, 4, 5]])
    with pytest.raises(MacrecError, match=f"item {NUM_ITEMS} has no semantic ID, there are 20"):
        training_examples(interactions, codes, VOCABULARY, seq2seq())
