from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from macrec_core.encoders import encode_images, encode_texts
from macrec_core.errors import MacrecError
from macrec_core.params.data import HsvHogEncoder, TfidfEncoder

ROWS = [
    ("red guitar", "maple neck"),
    ("blue guitar", "maple neck"),
    ("snare drum", "steel shell"),
    ("", ""),
]


def tfidf(width=2):
    return TfidfEncoder(encoder="tfidf_svd", fields=["title", "description"], width=width, seed=0)


def hsv_hog(image_size=64):
    return HsvHogEncoder(encoder="hsv_hog", image_size=image_size)


def picture(colour, shape):
    image = Image.new("RGB", (64, 64), "white")
    getattr(ImageDraw.Draw(image), shape)((12, 12, 52, 52), fill=colour)
    return image


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_tfidf_places_shared_words_together_and_counts_the_empty_item(make_items, runtime, scratch):
    encoded = encode_texts(make_items(ROWS), tfidf(), None, runtime, scratch)
    assert encoded.vectors.shape == (4, 2)
    assert cosine(encoded.vectors[0], encoded.vectors[1]) > 0.9
    assert abs(cosine(encoded.vectors[0], encoded.vectors[2])) < 0.1
    assert not encoded.vectors[3].any()
    assert encoded.counts["items_without_text"] == 1
    assert encoded.counts["vocabulary"] == 9


def test_tfidf_keeps_inner_products_at_full_rank(make_items, runtime, scratch):
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = [*ROWS[:3], ("red drum", "")]
    encoded = encode_texts(make_items([*rows, rows[0]]), tfidf(4), None, runtime, scratch)
    documents = [" ".join(row) for row in [*rows, rows[0]]]
    weights = TfidfVectorizer().fit_transform(documents).toarray()
    np.testing.assert_allclose(encoded.vectors @ encoded.vectors.T, weights @ weights.T, atol=1e-5)


def test_tfidf_is_the_same_twice(make_items, runtime, scratch):
    first, second = (
        encode_texts(make_items(ROWS), tfidf(), None, runtime, scratch) for _ in range(2)
    )
    assert first.vectors.tobytes() == second.vectors.tobytes()


def test_tfidf_wider_than_the_texts_allow_is_an_error(make_items, runtime, scratch):
    with pytest.raises(MacrecError, match=r"width=4: 4 items with 9 distinct words .*at most 3"):
        encode_texts(make_items(ROWS), tfidf(4), None, runtime, scratch)


def test_tfidf_without_any_word_is_an_error(make_items, runtime, scratch):
    with pytest.raises(MacrecError, match="hold no words"):
        encode_texts(make_items([("", ""), ("!", "?")]), tfidf(1), None, runtime, scratch)


def test_hsv_part_follows_colour_and_hog_part_follows_shape(make_images, runtime, scratch):
    pictures = [
        picture("red", "rectangle"),
        picture("red", "ellipse"),
        picture("blue", "rectangle"),
    ]
    encoded = encode_images(make_images(pictures), hsv_hog(), None, runtime, scratch)
    colour, shape = encoded.vectors[:, :128], encoded.vectors[:, 128:]
    assert encoded.vectors.shape == (3, 128 + 1764)
    assert cosine(colour[0], colour[1]) > cosine(colour[0], colour[2])
    assert cosine(shape[0], shape[2]) > cosine(shape[0], shape[1])
    np.testing.assert_allclose(np.linalg.norm(colour, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(shape, axis=1), 1, atol=1e-6)


def test_a_flat_picture_has_no_gradients_and_no_nan(make_images, runtime, scratch):
    flat = Image.new("RGB", (40, 40), (128, 128, 128))
    encoded = encode_images(make_images([flat]), hsv_hog(), None, runtime, scratch)
    assert not encoded.vectors[0, 128:].any()
    assert np.isfinite(encoded.vectors).all()


def test_a_size_that_does_not_divide_into_cells_is_an_error(
    make_images, noise_pictures, runtime, scratch
):
    with pytest.raises(MacrecError, match="image_size=60: must be a multiple of 8"):
        encode_images(make_images(noise_pictures), hsv_hog(60), None, runtime, scratch)
