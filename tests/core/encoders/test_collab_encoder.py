"""Embeddings of who bought what: values by hand, groups, no leak of held-out purchases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse

from macrec_core.artifacts import write_artifact
from macrec_core.encoders import encode_interactions
from macrec_core.encoders.collab import shifted_ppmi
from macrec_core.encoders.encoded import write_embeddings
from macrec_core.errors import MacrecError
from macrec_core.params.data import CooccurrenceSvdEncoder, PublishedEmbedding
from macrec_core.schemas import INTERACTIONS


def section(width=2, shift=1.0, seed=0):
    return CooccurrenceSvdEncoder(encoder="cooccurrence_svd", width=width, shift=shift, seed=seed)


@pytest.fixture
def make_shop(make_items, make_interactions):
    """A catalogue's folder with interactions of the given histories."""

    def make(histories, num_items):
        folder = make_items([(f"item {i}", "") for i in range(num_items)])
        write_artifact(folder / "interactions.parquet", make_interactions(histories), INTERACTIONS)
        return folder

    return make


# Two groups of items that nobody mixes; the last two purchases are held out. Items 6 and 7 are
# bought only there, item 8 never.
HISTORIES = [
    [0, 1, 2, 6, 7], [1, 2, 0, 3, 4], [0, 2, 7, 3], [3, 4, 5, 0, 1], [4, 5, 3, 6, 2], [3, 5, 1, 7],
]  # fmt: skip


def vectors(folder, **changes):
    return encode_interactions(folder, section(**changes), None)


def test_shifted_positive_pmi_by_hand():
    # Users buy {0, 1}, {0, 1} (item 0 twice), {0, 2}, {1}: pairs (0,1) twice, (0,2) once.
    bought = sparse.csr_matrix(np.array([[1, 1, 0], [2, 1, 0], [1, 0, 1], [0, 1, 0]], float))
    # Ordered pairs: six in all; item 0 in three of them, 1 in two, 2 in one.
    ours = shifted_ppmi(bought, 1.0).toarray()
    expected = np.zeros((3, 3))
    expected[0, 1] = expected[1, 0] = math.log(2 * 6 / (3 * 2))
    expected[0, 2] = expected[2, 0] = math.log(1 * 6 / (3 * 1))
    np.testing.assert_allclose(ours, expected)
    np.testing.assert_allclose(
        shifted_ppmi(bought, 1.5).toarray(), np.maximum(expected - math.log(1.5), 0)
    )
    assert shifted_ppmi(bought, 3.0).nnz == 0


def test_items_bought_together_lie_together(make_shop):
    found = vectors(make_shop(HISTORIES, 9)).vectors
    unit = found[:6] / np.linalg.norm(found[:6], axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[:3, :3].min() > 0.9 and cosines[3:, 3:].min() > 0.9
    assert np.abs(cosines[:3, 3:]).max() < 0.1


def test_items_that_nobody_buys_in_training_are_zero_and_counted(make_shop):
    encoded = vectors(make_shop(HISTORIES, 9))
    assert encoded.vectors.dtype == np.float32
    assert encoded.vectors[:6].any(axis=1).all()
    assert not encoded.vectors[6:].any()
    assert encoded.counts["items_without_interactions"] == 3
    assert encoded.counts["items_without_neighbours"] == 3
    assert encoded.counts["interactions"] == sum(len(h) - 2 for h in HISTORIES)
    # Item 2's only buyer in training buys nothing else.
    alone = vectors(make_shop([[0, 1, 0, 0], [2, 0, 0], [0, 1, 0, 0]], 4))
    assert not alone.vectors[2].any()
    assert alone.counts["items_without_interactions"] == 1
    assert alone.counts["items_without_neighbours"] == 2


def test_held_out_purchases_do_not_change_a_byte(make_shop, tmp_path):
    rng = np.random.default_rng(3)
    histories = [list(rng.integers(0, 30, 8)) for _ in range(60)]
    others = [[*history[:-2], *rng.integers(0, 30, 2)] for history in histories]
    assert others != histories
    for name, each in (("one", histories), ("other", others)):
        write_embeddings(tmp_path / name, vectors(make_shop(each, 30), width=8))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    changed = [[(history[0] + 1) % 30, *history[1:]] for history in histories]
    write_embeddings(tmp_path / "train", vectors(make_shop(changed, 30), width=8))
    assert (tmp_path / "one").read_bytes() != (tmp_path / "train").read_bytes()


def test_all_axes_give_the_matrix_its_singular_values(make_shop):
    rng = np.random.default_rng(5)
    histories = [list(rng.integers(0, 12, 7)) for _ in range(40)]
    folder = make_shop(histories, 12)
    encoded = vectors(folder, width=11)
    bought = np.zeros((40, 12))
    for user, history in enumerate(histories):
        bought[user, history[:-2]] = 1
    weights = shifted_ppmi(sparse.csr_matrix(bought), 1.0).toarray()
    values = np.linalg.svd(weights, compute_uv=False)[:11]
    # U sqrt(S): the columns' squared lengths are the singular values.
    np.testing.assert_allclose(np.square(encoded.vectors).sum(axis=0), values, atol=1e-5)
    assert encoded.counts["explained"] == pytest.approx(
        np.square(values).sum() / np.square(weights).sum()
    )


def test_axes_beyond_the_rank_are_zero(make_shop):
    found = vectors(make_shop([[0, 1, 2, 2], [0, 1, 2, 2], [3, 0, 1]], 5), width=4).vectors
    assert np.isfinite(found).all()
    assert np.abs(found[:, 2:]).max() < 1e-5


def test_the_same_seed_gives_the_same_vectors(make_shop):
    folder = make_shop(HISTORIES, 9)
    assert np.array_equal(vectors(folder).vectors, vectors(folder).vectors)


def test_more_axes_than_items_allow_is_an_error(make_shop):
    with pytest.raises(MacrecError, match="width=9: 9 items allow at most 8; lower it"):
        vectors(make_shop(HISTORIES, 9), width=9)


def test_nothing_bought_together_is_an_error(make_shop):
    with pytest.raises(MacrecError, match="no two items are bought by one user more often"):
        vectors(make_shop([[0, 1, 2], [3, 4, 5]], 7))
    with pytest.raises(MacrecError, match=r"shift=100\.0"):
        vectors(make_shop(HISTORIES, 9), shift=100.0)


def test_published_embeddings_are_taken_as_they_are(make_items, tmp_path):
    np.save(tmp_path / "embeddings.collab.npy", np.eye(3, dtype=np.float32))
    folder = make_items([("a", ""), ("b", ""), ("c", "")])
    found = encode_interactions(folder, PublishedEmbedding(encoder="published"), tmp_path)
    assert np.array_equal(found.vectors, np.eye(3))
