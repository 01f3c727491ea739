from __future__ import annotations

import pytest
import torch

from macrec_core.semantic_ids import ALIGNMENT_TASKS, Vocabulary
from macrec_core.sequence_tensors import evaluation_data, training_data
from macrec_core.sequences import evaluation_examples, training_examples

VOCABULARY = Vocabulary(("text", "image"), 2, 8, ALIGNMENT_TASKS)


@pytest.fixture(scope="module")
def tables(successors, committed_params):
    interactions, codes = successors
    train = training_examples(interactions, codes, VOCABULARY, committed_params.seq2seq)
    return train, evaluation_examples(interactions, codes, VOCABULARY, 20), codes


def rows_of(sequences):
    return [
        sequences.flat[a:b].tolist()
        for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ]


def test_training_tensors_are_the_table(tables):
    train, held_out, codes = tables
    data = training_data(train, held_out, codes, VOCABULARY, None)
    assert rows_of(data.examples.source) == train.column("source").to_pylist()
    assert data.examples.target.tolist() == train.column("target").to_pylist()
    assert data.vocabulary_size == VOCABULARY.size


def test_item_ids_are_every_items_tokens_and_the_end(tables):
    train, held_out, codes = tables
    data = training_data(train, held_out, codes, VOCABULARY, None)
    for modality, values in codes.items():
        expected = [[*row, 1] for row in VOCABULARY.encode(modality, values).tolist()]
        assert data.examples.item_ids[modality].tolist() == expected


def test_validation_holds_the_valid_rows_in_the_order_of_users(tables):
    train, held_out, codes = tables
    validation = training_data(train, held_out, codes, VOCABULARY, None).validation
    for modality, values in codes.items():
        rows = [
            row for row in held_out.to_pylist()
            if (row["split"], row["modality"]) == ("valid", modality)
        ]  # fmt: skip
        assert rows_of(validation.source[modality]) == [row["source"] for row in rows]
        assert validation.target_items.tolist() == [row["target_item"] for row in rows]
        tokens = VOCABULARY.encode(modality, values)
        assert validation.target[modality].tolist() == [
            [*tokens[row["target_item"]].tolist(), 1] for row in rows
        ]


def test_a_limit_keeps_one_subset_for_all_modalities_and_counts_the_rest(tables):
    _, held_out, codes = tables
    part = evaluation_data(held_out, "test", codes, VOCABULARY, 7)
    assert (len(part.users), part.num_left_out) == (7, 33)
    assert part.users.tolist() == sorted(set(part.users.tolist()))
    alone = evaluation_data(held_out, "test", {"image": codes["image"]}, VOCABULARY, 7)
    assert alone.users.tolist() == part.users.tolist()
    rows = {(r["split"], r["modality"], r["user_id"]): r for r in held_out.to_pylist()}
    for modality in codes:
        expected = [rows["test", modality, user]["source"] for user in part.users.tolist()]
        assert rows_of(part.modalities[modality].source) == expected
    everyone = evaluation_data(held_out, "test", codes, VOCABULARY, 40)
    assert (everyone.users.tolist(), everyone.num_left_out) == (list(range(40)), 0)


def test_level_offsets_are_those_of_the_vocabulary(tables):
    _, held_out, codes = tables
    part = evaluation_data(held_out, "valid", codes, VOCABULARY, None)
    for modality in codes:
        expected = torch.from_numpy(VOCABULARY.level_offsets(modality))
        assert torch.equal(part.modalities[modality].level_offsets, expected)


def test_thinned_examples_are_histories_of_whole_items_before_the_same_targets(tables):
    train, held_out, codes = tables
    examples = training_data(train, held_out, codes, VOCABULARY, None).examples
    rows = torch.arange(len(examples) - 1, -1, -1)
    thin = examples.thinned(rows, 0.5, torch.Generator().manual_seed(1))
    whole = rows_of(examples.source)
    items = {
        modality: {tuple(row) for row in VOCABULARY.encode(modality, values).tolist()}
        for modality, values in codes.items()
    }
    known = items["text"] | items["image"]
    shorter = 0
    for row, found in zip(rows.tolist(), rows_of(thin.source), strict=True):
        lead = int(found[0] < VOCABULARY.first_code)
        assert found[:lead] == whole[row][:lead]  # the prompt
        assert found[-3:] == whole[row][-3:]  # the last item, the end
        body = found[lead:-1]
        assert all(tuple(body[i : i + 2]) in known for i in range(0, len(body), 2))
        shorter += len(found) < len(whole[row])
    assert thin.target.tolist() == examples.target[rows].tolist()
    assert shorter > len(rows) // 10
