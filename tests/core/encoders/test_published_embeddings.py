from __future__ import annotations

import numpy as np
import pytest

from macrec_core.artifacts import read_embeddings
from macrec_core.encoders import encode_images, encode_texts
from macrec_core.encoders.encoded import Encoded, write_embeddings
from macrec_core.errors import MacrecError
from macrec_core.params.data import PublishedEmbedding

PUBLISHED = PublishedEmbedding(encoder="published")


def test_published_embeddings_are_taken_over(tmp_path, make_items, make_images, runtime):
    values = np.arange(6, dtype=np.float64).reshape(2, 3) / 7
    np.save(tmp_path / "embeddings.text.npy", values)
    np.save(tmp_path / "embeddings.image.npy", values[:, :2])
    # Null texts and absent images do not matter here.
    texts = encode_texts(make_items([(None, None)] * 2), PUBLISHED, tmp_path, runtime, tmp_path)
    images = encode_images(make_images([], count=2), PUBLISHED, tmp_path, runtime, tmp_path)
    assert np.array_equal(texts.vectors, values.astype(np.float32))
    assert images.vectors.shape == (2, 2)
    assert texts.info["weights_sha256"] != images.info["weights_sha256"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((3, 4)), "holds 3 rows for 2 items"),
        (np.zeros((2, 4), int), "holds int64 .2, 4., expected floats"),
        (np.zeros(2), r"holds float64 .2,., expected floats"),
        (b"no array", "is no readable NumPy array"),
        (None, "does not exist, but embed.text.encoder is 'published'"),
    ],
)
def test_unfit_files_are_errors(content, message, tmp_path, make_items, runtime):
    path = tmp_path / "embeddings.text.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(MacrecError, match=message):
        encode_texts(make_items([("a", "b")] * 2), PUBLISHED, tmp_path, runtime, tmp_path)


def test_published_without_a_raw_folder_is_an_error(tmp_path, make_items, runtime):
    with pytest.raises(MacrecError, match="give it with --raw"):
        encode_texts(make_items([("a", "b")]), PUBLISHED, None, runtime, tmp_path)


def test_a_pickled_array_is_refused(tmp_path, make_items, runtime):
    np.save(tmp_path / "embeddings.text.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(MacrecError, match="is no readable NumPy array"):
        encode_texts(make_items([("a", "b")]), PUBLISHED, tmp_path, runtime, tmp_path)


@pytest.mark.parametrize("cuts", [[], [1], [2, 3]])
def test_an_artifact_of_any_width_and_parts_is_read_back(cuts, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    path = tmp_path / "text.parquet"
    encoded = Encoded(np.split(vectors, cuts), {"encoder": "published"}, {"texts": 3})
    write_embeddings(path, encoded)
    assert np.array_equal(read_embeddings(path), vectors)
    assert np.array_equal(encoded.vectors, vectors)
    figures = encoded.metrics()
    assert (figures["items"], figures["width"], figures["texts"]) == (4, 7, 3)
    assert figures["mean_norm"] == pytest.approx(np.linalg.norm(vectors, axis=1).mean(), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_one_line_that_names_file_and_column(bad, tmp_path):
    path = tmp_path / "text.parquet"
    vectors = np.ones((3, 2), np.float32)
    vectors[1, 0] = bad
    with pytest.raises(MacrecError, match=r"text\.parquet: column 'embedding' has 1 NaN") as caught:
        write_embeddings(path, Encoded([vectors], {}, {}))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
