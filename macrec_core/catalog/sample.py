"""Writes the sample, a synthetic shop, as raw files in the layout of the Amazon-2018 release.

What real raw data suffers from is in it too: users and items below the 5-core, repeated
purchases, items without metadata, image URL or image, empty and very long texts.

    categoryFilesSmall/Sample.csv        item,user,rating,timestamp without header
    categoryFilesSmall/Sample_5.json.gz  reviews of the 5-core, one JSON object a line
    metaFiles2/meta_Sample.json.gz       metadata, one JSON object a line
    images/NAME.jpg                      NAME.jpg is the last part of the image's URL
    truth.npz                            the generating process, an `Oracle`
"""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from macrec_core.catalog.oracle import Ints, Oracle, save_oracle
from macrec_core.catalog.sample_images import draw_item
from macrec_core.catalog.sample_words import (
    BRANDS,
    description,
    long_description,
    review,
    title,
)
from macrec_core.catalog.sample_world import (
    FINISHES,
    INSTRUMENTS,
    PRICE_BOUNDS,
    TYPES,
    Purchases,
    build_oracle,
    draw_purchases,
)
from macrec_core.params.data import SampleSource
from macrec_core.progress import Progress, Silent

CATEGORY = "Sample"
TRUTH = "truth.npz"
IMAGE_URL = "https://images.example.com/images/I/{name}.jpg"
JPEG_QUALITY = 90
REPEATED = 0.002  # share of purchases that occur once more, later
_DAY = 86_400  # seconds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blemishes:
    """Item rows that lack something, as real catalogues do; each row occurs at most once."""

    no_metadata: frozenset[int]
    no_image_url: frozenset[int]
    no_image_file: frozenset[int]
    empty_title: frozenset[int]
    long_description: frozenset[int]


def write_sample(folder: Path, spec: SampleSource, progress: Progress = Silent()) -> None:  # noqa: B008 - Silent is immutable
    """Write ratings, 5-core reviews, metadata, images and the truth behind them.

    Equal `spec` gives byte-identical files. The module's docstring shows the layout.

    Args:
        folder: where the files go; made if missing.
        spec: size, image size and seed. Tail items and light users come on top of
            `num_items` and `num_users`; most of them fall to a 5-core filter.
        progress: told of every image.

    Raises:
        MacrecError: `spec.num_items` is too small for a shop.
    """
    for part in ("categoryFilesSmall", "metaFiles2", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    oracle = build_oracle(spec)
    purchases = _with_repetitions(draw_purchases(oracle, spec), spec.seed)
    blemishes = _blemishes(spec)
    core = _five_core(purchases)
    _write_ratings(folder / "categoryFilesSmall" / f"{CATEGORY}.csv", oracle, purchases)
    reviews = _reviews(oracle, purchases, np.flatnonzero(core), spec.seed)
    _write_json_lines(folder / "categoryFilesSmall" / f"{CATEGORY}_5.json.gz", reviews)
    names = _image_names(oracle, spec.seed)
    metadata = _metadata(oracle, names, blemishes, spec.seed)
    _write_json_lines(folder / "metaFiles2" / f"meta_{CATEGORY}.json.gz", metadata)
    _write_images(folder / "images", oracle, names, blemishes, spec, progress)
    save_oracle(oracle, folder / TRUTH)
    _log_counts(oracle, core, blemishes)


def _log_counts(oracle: Oracle, core: npt.NDArray[np.bool_], blemishes: Blemishes) -> None:
    logger.info(
        "sample: %d items, %d users, %d ratings, of which %d in the 5-core; "
        "%d items without metadata, %d without image URL, %d without image file",
        len(oracle.item_keys),
        len(oracle.user_keys),
        len(core),
        core.sum(),
        len(blemishes.no_metadata),
        len(blemishes.no_image_url),
        len(blemishes.no_image_file),
    )


def _with_repetitions(purchases: Purchases, seed: int) -> Purchases:
    """Repeat a few purchases some days later, with a rating of their own."""
    rng = np.random.default_rng([seed, 3])
    count = max(2, round(REPEATED * len(purchases.user)))
    repeated = rng.choice(len(purchases.user), size=count, replace=False)
    later = purchases.time[repeated] + rng.integers(1, 60, size=count) * _DAY
    time = np.concatenate([purchases.time, later])
    order = np.argsort(time, kind="stable")
    return Purchases(
        user=np.concatenate([purchases.user, purchases.user[repeated]])[order],
        item=np.concatenate([purchases.item, purchases.item[repeated]])[order],
        rating=np.concatenate([purchases.rating, rng.integers(1, 6, size=count)])[order],
        time=time[order],
    )


def _blemishes(spec: SampleSource) -> Blemishes:
    rng = np.random.default_rng([spec.seed, 4])
    few, fewer = max(1, spec.num_items // 130), max(1, spec.num_items // 260)
    sizes = (few, few, fewer, fewer, 1)
    # Among the regular items, so that the filter meets them inside the core.
    rows = [int(row) for row in rng.permutation(spec.num_items)[: sum(sizes)]]
    ends = np.cumsum(sizes)
    return Blemishes(
        *(frozenset(rows[end - size : end]) for size, end in zip(sizes, ends, strict=True))
    )


def _five_core(purchases: Purchases) -> npt.NDArray[np.bool_]:
    """(P,) True for ratings whose user and item both keep at least five of the kept ones."""
    kept = np.ones(len(purchases.user), dtype=bool)
    while True:
        of_user = np.bincount(purchases.user[kept], minlength=purchases.user.max() + 1)
        of_item = np.bincount(purchases.item[kept], minlength=purchases.item.max() + 1)
        rest = kept & (of_user[purchases.user] >= 5) & (of_item[purchases.item] >= 5)
        if (rest == kept).all():
            return kept
        kept = rest


def _write_ratings(path: Path, oracle: Oracle, purchases: Purchases) -> None:
    columns = (
        oracle.item_keys[purchases.item],
        oracle.user_keys[purchases.user],
        purchases.rating,
        purchases.time,
    )
    lines = (
        f"{item},{user},{rating:.1f},{time}\n"
        for item, user, rating, time in zip(*columns, strict=True)
    )
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def _reviews(
    oracle: Oracle, purchases: Purchases, rows: Ints, seed: int
) -> Iterable[Mapping[str, Any]]:
    rng = np.random.default_rng([seed, 5])
    for row in rows:
        stars, seconds = int(purchases.rating[row]), int(purchases.time[row])
        text, summary = review(rng, stars)
        user = int(purchases.user[row])
        yield {
            "overall": float(stars),
            "verified": bool(rng.random() < 0.9),
            "reviewTime": datetime.fromtimestamp(seconds, tz=UTC).strftime("%m %d, %Y"),
            "reviewerID": str(oracle.user_keys[user]),
            "asin": str(oracle.item_keys[purchases.item[row]]),
            "reviewerName": f"Customer {user}",
            "reviewText": text,
            "summary": summary,
            "unixReviewTime": seconds,
        }


def _metadata(
    oracle: Oracle, names: list[str], blemishes: Blemishes, seed: int
) -> Iterable[Mapping[str, Any]]:
    for item, name in enumerate(names):
        if item in blemishes.no_metadata:
            continue
        rng = np.random.default_rng([seed, 6, item])
        brand = BRANDS[oracle.item_brand[item]]
        type_name, finish = TYPES[oracle.item_type[item]], FINISHES[oracle.item_finish[item]]
        price_class = int(oracle.item_price[item])
        heading = title(rng, brand, item, type_name, finish, price_class)
        paragraphs = description(rng, brand, type_name, price_class)
        if item in blemishes.long_description:
            paragraphs = [*paragraphs, *long_description(brand)]
        urls = [] if item in blemishes.no_image_url else [IMAGE_URL.format(name=name)]
        department = "Instruments" if type_name in INSTRUMENTS else "Accessories"
        related = [str(key) for key in rng.choice(oracle.item_keys, size=6, replace=False)]
        yield {
            "category": ["Musical Instruments", department],
            "description": paragraphs,
            "title": "" if item in blemishes.empty_title else heading,
            "also_buy": related[:3],
            "brand": brand.name,
            "feature": [],
            "rank": f"{int(rng.integers(100, 90_000)):,} in Musical Instruments (",
            "also_view": related[3:],
            "main_cat": "Musical Instruments",
            "price": _price(rng, price_class),
            "asin": str(oracle.item_keys[item]),
            "imageURL": urls,
            "imageURLHighRes": urls,
        }


def _price(rng: np.random.Generator, price_class: int) -> str:
    """A price such as `$29.99`, uniform in its logarithm; one item in thirty has none."""
    low, high = PRICE_BOUNDS[price_class]
    dollars = np.floor(np.exp(rng.uniform(np.log(low), np.log(high))))
    return "" if rng.random() < 1 / 30 else f"${dollars + 0.99:.2f}"


def _image_names(oracle: Oracle, seed: int) -> list[str]:
    """File names like the real ones, unique because they end in the item's row."""
    rng = np.random.default_rng([seed, 7])
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
    prefixes = rng.choice(letters, size=(len(oracle.item_keys), 5))
    return [f"51{''.join(prefix)}{item:04d}" for item, prefix in enumerate(prefixes)]


def _write_images(
    folder: Path,
    oracle: Oracle,
    names: list[str],
    blemishes: Blemishes,
    spec: SampleSource,
    progress: Progress,
) -> None:
    absent = blemishes.no_metadata | blemishes.no_image_url | blemishes.no_image_file
    progress.start("drawing the sample's images", len(names))
    for item, name in enumerate(names):
        if item not in absent:
            rng = np.random.default_rng([spec.seed, 8, item])
            type_name, finish = TYPES[oracle.item_type[item]], FINISHES[oracle.item_finish[item]]
            picture = draw_item(type_name, finish, spec.image_size, rng)
            picture.save(folder / f"{name}.jpg", quality=JPEG_QUALITY)
        progress.advance()


def _write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    # mtime=0: the compressed bytes must not depend on the clock.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
