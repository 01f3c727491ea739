"""Encoders that need no pretrained weights: TF-IDF with SVD, colour histogram with HOG.

An explicit choice for a comparison or a test; never a replacement for a missing model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import rgb2hsv
from skimage.feature import hog
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from macrec_core.artifacts import read_artifact
from macrec_core.encoders.encoded import Encoded
from macrec_core.encoders.fields import check_fields, field_texts
from macrec_core.encoders.pictures import check_images, image_chunks, pictures
from macrec_core.errors import MacrecError
from macrec_core.params.data import HsvHogEncoder, TfidfEncoder
from macrec_core.progress import Progress
from macrec_core.schemas import ITEMS

# Bins of the joint histogram: hue matters most, and each finer axis multiplies the width.
HUE_BINS, SATURATION_BINS, VALUE_BINS = 8, 4, 4
# HOG of Dalal and Triggs (2005): 9 orientations, blocks of 2 x 2 cells; 8 x 8 cells an image.
CELLS, BLOCK, ORIENTATIONS = 8, 2, 9
IMAGES_A_CHUNK = 1024


def tfidf_svd(path: Path, section: TfidfEncoder) -> Encoded:
    """TF-IDF of the fields joined into one document, reduced by truncated SVD.

    The fields are joined, not averaged: one vocabulary serves them all. An item without any
    word of the vocabulary gets the zero vector and is counted.

    Raises:
        MacrecError: a field without texts, no words at all, or `width` beyond what N items and
            the vocabulary allow.
    """
    items = read_artifact(path, ITEMS, ["item_id", *section.fields])
    check_fields(items, section.fields)
    texts = field_texts(items, section.fields)
    documents = [" ".join(row) for row in zip(*texts.values(), strict=True)]
    try:
        weights = TfidfVectorizer(dtype=np.float64).fit_transform(documents)
    except ValueError as error:
        raise MacrecError(f"items: columns {list(texts)} hold no words to count") from error
    limit = min(weights.shape) - 1
    if section.width > limit:
        raise MacrecError(
            f"embed.text.width={section.width}: {weights.shape[0]} items with {weights.shape[1]} "
            f"distinct words allow at most {limit}; lower it"
        )
    svd = TruncatedSVD(section.width, random_state=section.seed)
    with threadpool_limits(limits=1):  # sums in one order: equal bytes on every run
        vectors = svd.fit_transform(weights).astype(np.float32)
    info: dict[str, object] = {
        "encoder": section.encoder,
        "model": "tfidf_svd",
        "weights_sha256": None,
        "fields": list(section.fields),
        "seed": section.seed,
    }
    counts: dict[str, float] = {
        "vocabulary": weights.shape[1],
        "explained_variance": float(svd.explained_variance_ratio_.sum()),
        "items_without_text": int((weights.getnnz(axis=1) == 0).sum()),
    }
    return Encoded([vectors], info, counts)


def hsv_hog(path: Path, num_items: int, section: HsvHogEncoder, progress: Progress) -> Encoded:
    """HSV histogram (128 wide) and HOG (1,764 wide), each of unit length.

    Pictures are resized to a square of `image_size` pixels first.

    Raises:
        MacrecError: an item without a readable image, or an `image_size` that does not divide
            into cells.
    """
    if section.image_size % CELLS:
        raise MacrecError(
            f"embed.image.image_size={section.image_size}: must be a multiple of {CELLS}"
        )
    check_images(path, num_items)
    rows = []
    progress.start("embed image", num_items)
    for images in image_chunks(path, IMAGES_A_CHUNK):
        for picture in pictures(images):
            rows.append(_hsv_hog(picture, section.image_size))
            progress.advance()
    info: dict[str, object] = {
        "encoder": section.encoder,
        "model": "hsv_hog",
        "weights_sha256": None,
        "image_size": section.image_size,
    }
    return Encoded([np.stack(rows).astype(np.float32)], info, {})


def _hsv_hog(picture: Image.Image, size: int) -> np.ndarray:
    square = picture.resize((size, size), Image.Resampling.BICUBIC)
    hsv = rgb2hsv(np.asarray(square)).reshape(-1, 3)
    histogram, _ = np.histogramdd(
        hsv, bins=(HUE_BINS, SATURATION_BINS, VALUE_BINS), range=((0, 1),) * 3
    )
    gradients = hog(
        np.asarray(square.convert("L"), dtype=np.float64) / 255,
        orientations=ORIENTATIONS,
        pixels_per_cell=(size // CELLS, size // CELLS),
        cells_per_block=(BLOCK, BLOCK),
    )
    # Square roots, so that one background colour does not outweigh all others.
    return np.concatenate([_unit(np.sqrt(histogram.reshape(-1))), _unit(gradients)])


def _unit(vector: np.ndarray) -> np.ndarray:
    """Scaled to length 1; a picture without any gradient keeps its zero vector."""
    length = np.linalg.norm(vector)
    return vector / length if length else vector
