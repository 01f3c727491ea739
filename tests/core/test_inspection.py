"""A folder of artifacts: everything in order, or one line for each thing that is not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from macrec_core.artifacts import fixed_lists, write_artifact, write_json
from macrec_core.inspection import inspect_artifacts
from macrec_core.ranking import Cases, Evaluation, Ranking
from macrec_core.recommendations import recommendations_table
from macrec_core.schemas import (
    EVALUATION_EXAMPLES,
    IMAGES,
    INTERACTIONS,
    ITEMS,
    RAW_IMAGES,
    RECOMMENDATIONS,
    TRAINING_EXAMPLES,
    USERS,
    embeddings,
    pseudo_labels,
    semantic_ids,
)
from macrec_core.semantic_ids import Vocabulary
from macrec_core.sequences import evaluation_examples, training_examples


def write_items(path, count):
    texts = {name: [""] * count for name in ("title", "description", "brand", "categories")}
    columns = {"item_id": range(count), "item_key": [f"B{i}" for i in range(count)], **texts}
    write_artifact(path, pa.table(columns), ITEMS)


def write_embeddings(path, count, width=3):
    values = np.arange(count * width, dtype=np.float32).reshape(count, width)
    table = pa.table({"item_id": range(count), "embedding": fixed_lists(values)})
    write_artifact(path, table, embeddings(width))


def write_ids(path, codes, nearest):
    text, before = (fixed_lists(np.array(c, dtype=np.int32)) for c in (codes, nearest))
    table = pa.table({"item_id": range(len(codes)), "text": text, "text_nearest": before})
    write_artifact(path, table, semantic_ids(["text"], 2), {"codebook_size": 4})


@pytest.fixture
def root(tmp_path):
    """Dataset `toy` of three items in good order."""
    home = tmp_path / "toy"
    write_items(home / "items.parquet", 3)
    write_embeddings(home / "embeddings" / "text.parquet", 3)
    labels = pa.table({"item_id": [0, 1, 2], "text": [0, 0, 1]})
    write_artifact(home / "labels.parquet", labels, pseudo_labels(["text"]))
    # A collision before reassignment is no problem.
    write_ids(home / "macrec" / "ids.parquet", [[0, 0], [0, 1], [1, 0]], [[0, 0], [0, 0], [1, 0]])
    return tmp_path


def test_good_artifacts_have_no_problem(root):
    found = inspect_artifacts(root, set())
    assert (found.num_files, found.problems) == (4, [])


def test_an_empty_folder_has_no_files(tmp_path):
    assert inspect_artifacts(tmp_path, set()).num_files == 0


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_items_is_a_problem(root, count):
    write_embeddings(root / "toy" / "embeddings" / "text.parquet", count)
    (problem,) = inspect_artifacts(root, set()).problems
    assert f"text.parquet: holds {count} items" in problem
    assert "items.parquet holds 3" in problem


def test_missing_items_are_a_problem_of_each_item_level_artifact(root):
    (root / "toy" / "items.parquet").unlink()
    problems = inspect_artifacts(root, set()).problems
    assert len(problems) == 3
    assert all("items.parquet: does not exist" in problem for problem in problems)


def test_learned_ids_that_collide_are_a_problem_and_imported_ones_are_not(root):
    codes = [[0, 0], [0, 0], [1, 0]]
    write_ids(root / "toy" / "macrec" / "ids.parquet", codes, codes)
    (problem,) = inspect_artifacts(root, set()).problems
    assert "ids.parquet: column 'text' has a collision rate of 0.3333, expected 0" in problem
    assert inspect_artifacts(root, {"toy"}).problems == []
    assert len(inspect_artifacts(root, {"other"}).problems) == 1


def test_a_truncated_file_is_one_problem_among_good_ones(root):
    path = root / "toy" / "labels.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    found = inspect_artifacts(root, set())
    assert found.num_files == 4
    (problem,) = found.problems
    assert problem.startswith(f"{path}: is no readable Parquet file")


def test_an_unknown_artifact_is_a_problem(root):
    pq.write_table(pa.table({"a": [1]}), root / "toy" / "notes.parquet")
    (problem,) = inspect_artifacts(root, set()).problems
    assert "notes.parquet: artifact name '' is unknown; remove the file" in problem


def test_nan_planted_past_the_writer_is_a_problem(root):
    path = root / "toy" / "embeddings" / "text.parquet"
    table = pq.read_table(path)
    values = np.array([[1, 2, 3], [4, np.nan, 6], [7, 8, 9]], dtype=np.float32)
    broken = table.set_column(1, "embedding", fixed_lists(values))
    metadata = table.schema.metadata
    pq.write_table(broken.cast(embeddings(3).schema).replace_schema_metadata(metadata), path)
    (problem,) = inspect_artifacts(root, set()).problems
    assert "text.parquet: column 'embedding' has 1 NaN or infinite values" in problem


def test_every_problem_is_listed_in_the_order_of_paths(root):
    for name in ("b", "a"):
        (root / "toy" / f"{name}.parquet").write_bytes(b"")
    problems = inspect_artifacts(root, set()).problems
    assert [problem.split(":")[0] for problem in problems] == [
        str(root / "toy" / "a.parquet"),
        str(root / "toy" / "b.parquet"),
    ]


CODES = {m: np.array([[0, 0], [0, 1], [1, 0]], np.int32) for m in ("text", "image")}
VOCABULARY = Vocabulary(("text", "image"), 2, 4, ("align_items",))


@pytest.fixture
def whole(root, make_interactions, committed_params):
    """The dataset with users, interactions, seq2seq data and recommendations in good order."""
    home, table = root / "toy", make_interactions([[0, 1, 2], [2, 1, 0, 1]])
    users = pa.table({"user_id": [0, 1], "user_key": ["A", "B"]})
    write_artifact(home / "users.parquet", users, USERS)
    write_artifact(home / "interactions.parquet", table, INTERACTIONS)
    seq2seq = committed_params.seq2seq.model_copy(update={"tasks": ["recommend", "align_items"]})
    cell = home / "macrec"
    train = training_examples(table, CODES, VOCABULARY, seq2seq)
    write_artifact(cell / "seq2seq" / "train.parquet", train, TRAINING_EXAMPLES)
    held_out = evaluation_examples(table, CODES, VOCABULARY, 20)
    write_artifact(cell / "seq2seq" / "eval.parquet", held_out, EVALUATION_EXAMPLES)
    write_json(cell / "seq2seq" / "vocabulary.json", VOCABULARY.to_json())
    ranking = Ranking(np.array([0, 1, 2]), np.array([0, 1]), np.array([-1.0, -1.0]))
    result = Evaluation({"ensemble": ranking}, {"ensemble": np.array([0, 1])})
    cases = Cases(np.array([0, 1]), np.array([2, 1]), np.array([0, 2]), np.array([0, 1, 2]))
    lists = recommendations_table(result, cases)
    write_artifact(cell / "recommendations.parquet", lists, RECOMMENDATIONS)
    return home


def rewrite(path, contract, column, change):
    """The artifact with `change` applied to one column's values."""
    table = pq.read_table(path)
    place = table.column_names.index(column)
    values = pa.array(change(table.column(column).to_pylist()), table.schema.field(column).type)
    write_artifact(path, table.set_column(place, column, values), contract)


def last_is_99(values):
    return [*values[:-1], 99]


def test_a_whole_dataset_in_good_order_has_no_problem(whole, root):
    found = inspect_artifacts(root, set())
    assert (found.num_files, found.problems) == (9, [])


@pytest.mark.parametrize(
    ("name", "contract", "column", "reference"),
    [
        ("interactions", INTERACTIONS, "item_id", "items.parquet holds 0..2"),
        ("macrec/seq2seq/train", TRAINING_EXAMPLES, "target_item", "items.parquet holds 0..2"),
        ("macrec/seq2seq/eval", EVALUATION_EXAMPLES, "target_item", "items.parquet holds 0..2"),
        ("macrec/recommendations", RECOMMENDATIONS, "target_item", "items.parquet holds 0..2"),
        ("macrec/seq2seq/eval", EVALUATION_EXAMPLES, "user_id", "users.parquet holds 0..1"),
        ("macrec/recommendations", RECOMMENDATIONS, "user_id", "users.parquet holds 0..1"),
    ],
)
def test_an_item_or_user_that_does_not_exist_is_a_problem(
    whole, root, name, contract, column, reference
):
    rewrite(whole / f"{name}.parquet", contract, column, last_is_99)
    (problem,) = inspect_artifacts(root, set()).problems
    assert f"{name}.parquet: column '{column}' names 99, but" in problem
    assert reference in problem


def test_an_interaction_of_an_unknown_user_is_a_problem(whole, root):
    users = pa.table({"user_id": [0], "user_key": ["A"]})
    write_artifact(whole / "users.parquet", users, USERS)
    problems = inspect_artifacts(root, set()).problems
    assert any("interactions.parquet: column 'user_id' names 1" in line for line in problems)


@pytest.mark.parametrize(
    ("name", "contract", "column"),
    [
        ("train", TRAINING_EXAMPLES, "source"),
        ("train", TRAINING_EXAMPLES, "target"),
        ("eval", EVALUATION_EXAMPLES, "source"),
    ],
)
def test_a_token_outside_the_vocabulary_is_a_problem(whole, root, name, contract, column):
    size = VOCABULARY.size

    def beyond(values):
        return [*values[:-1], [*values[-1][:-1], size]]

    path = whole / "macrec" / "seq2seq" / f"{name}.parquet"
    rewrite(path, contract, column, beyond)
    (problem,) = inspect_artifacts(root, set()).problems
    assert f"column '{column}' holds token {size} of a vocabulary of {size}" in problem
    assert "run build_seq2seq again" in problem


@pytest.mark.parametrize(("column", "beyond"), [("source", 0), ("target", 1)])
def test_visual_tokens_are_read_but_never_predicted(
    root, make_interactions, committed_params, column, beyond
):
    home = root / "toy"
    vocabulary = Vocabulary(("collab",), 2, 4, (), visual_tokens=2, visual_items=3)
    seq2seq = committed_params.seq2seq.model_copy(update={"tasks": ["recommend"]})
    users = pa.table({"user_id": [0], "user_key": ["A"]})
    write_artifact(home / "users.parquet", users, USERS)
    table = make_interactions([[2, 1, 0, 1]])
    train = training_examples(table, {"collab": CODES["text"]}, vocabulary, seq2seq)
    path = home / "vip5" / "seq2seq" / "train.parquet"
    write_artifact(path, train, TRAINING_EXAMPLES)
    write_json(path.parent / "vocabulary.json", vocabulary.to_json())
    last = vocabulary.input_size - 1
    assert train.column("source")[0].as_py()[-2] == last
    rewrite(path, TRAINING_EXAMPLES, column, lambda values: [[*values[0][:-1], last + beyond]])
    problems = inspect_artifacts(root, set()).problems
    size = vocabulary.size
    holds = f"column 'target' holds token {last + 1} of a vocabulary of {size};"
    assert [holds in problem for problem in problems] == [True] * beyond


def test_images_beside_the_ids_need_not_be_unique(root):
    codes, images = fixed_lists(CODES["text"]), fixed_lists(np.ones((3, 5), np.float32))
    columns = {"item_id": range(3), "collab": codes, "collab_nearest": codes, "visual": images}
    path = root / "toy" / "vip5" / "semantic_ids.parquet"
    write_artifact(path, pa.table(columns), semantic_ids(["collab"], 2, 5))
    assert inspect_artifacts(root, set()).problems == []


def test_examples_without_a_vocabulary_are_a_problem_each(whole, root):
    (whole / "macrec" / "seq2seq" / "vocabulary.json").unlink()
    problems = inspect_artifacts(root, set()).problems
    assert len(problems) == 2
    assert all("vocabulary.json: does not exist" in problem for problem in problems)


def test_empty_examples_are_no_problem(whole, root):
    path = whole / "macrec" / "seq2seq" / "eval.parquet"
    write_artifact(path, pq.read_table(path).slice(0, 0), EVALUATION_EXAMPLES)
    assert inspect_artifacts(root, set()).problems == []


def write_images(path, keys, name="item_key", contract=RAW_IMAGES):
    count = len(keys)
    columns = {name: keys, "url": ["x"] * count, "width": [1] * count, "height": [1] * count}
    write_artifact(path, pa.table({**columns, "image": [b"jpeg"] * count}), contract)


def test_images_are_checked_in_pieces(root, monkeypatch):
    monkeypatch.setattr("macrec_core.inspection._IMAGES_AT_ONCE", 2)
    home = root / "toy"
    write_images(home / "raw" / "images" / "part-00000.parquet", ["a", "b", "c"])
    write_images(home / "images.parquet", [0, 1, 2], "item_id", IMAGES)
    assert inspect_artifacts(root, set()).problems == []
    write_images(home / "images.parquet", [0, 1, 3], "item_id", IMAGES)
    part = home / "raw" / "images" / "part-00000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.take([0, 2, 1]), part)
    problems = inspect_artifacts(root, set()).problems
    assert len(problems) == 2
    assert "images.parquet: column 'item_id' names 3" in problems[0]
    assert "part-00000.parquet: rows are not in the order of key ['item_key']" in problems[1]
