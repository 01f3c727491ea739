"""Real sequences as a release in the Amazon-2018 layout, under noise that a filter must remove.

`write_release` takes the published Instruments data (17,112 users, 6,250 items, 136,226
interactions, already the 5-core) apart into ratings, reviews, metadata and images, and adds what
must go again: users and items that fall in several waves, repeated purchases, items without
metadata or image. What `filter` must give back is what it was made of.
"""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

CATEGORY = "Musical_Instruments"
_HOST = "https://images.example.com/images"
_WAVES = 120
_KINDS_WITHOUT_IMAGE = ("nourl", "nofile", "nopicture")


@dataclass(frozen=True)
class Rating:
    """One line of the ratings file.

    Attributes:
        item: key.
        user: key.
        time: seconds.
        stars: 1 to 5.
    """

    item: str
    user: str
    time: int
    stars: float = 5.0

    def line(self) -> str:
        return f"{self.item},{self.user},{self.stars},{self.time}"


def real_sequences(data: Path) -> dict[str, list[str]]:
    """User key to item keys (ASINs), chronological, from the folder of published data."""
    folder = data / "instruments"
    lines = gzip.decompress((folder / "Instruments.item2id.gz").read_bytes()).decode().splitlines()
    asin_of = {int(number): asin for asin, number in (line.split("\t") for line in lines)}
    published = json.loads(gzip.decompress((folder / "Instruments.inter.json.gz").read_bytes()))
    return {f"A{user:0>13}": [asin_of[item] for item in items] for user, items in published.items()}


def write_release(
    folder: Path, sequences: dict[str, list[str]], seed: int = 0, line_end: str = "\r\n"
) -> None:
    """Write ratings, 5-core reviews, metadata and images below a folder.

    Args:
        folder: of the release; made if missing.
        sequences: as of `real_sequences`, or a part of it that is a 5-core.
        seed: of times, noise and order.
        line_end: of the ratings file.
    """
    rng = random.Random(seed)
    items = sorted({item for sequence in sequences.values() for item in sequence})
    ratings = [rating for user, found in sequences.items() for rating in _timed(user, found, rng)]
    ratings += _of_real_users(sequences, rng)
    ratings += _of_others(items, rng)
    mixed = _shuffled_but_for_ties(ratings, rng)
    known = sorted({r.item for r in ratings if not r.item.startswith("nometa")})
    small = folder / "categoryFilesSmall"
    for path in (small, folder / "metaFiles2", folder / "images"):
        path.mkdir(parents=True, exist_ok=True)
    text = "".join(rating.line() + line_end for rating in mixed)
    (small / f"{CATEGORY}.csv").write_bytes(text.encode())
    # Of every item, so that the filter decides, not the list of images.
    _write_json_lines(small / f"{CATEGORY}_5.json.gz", ({"asin": item} for item in known))
    records = [_record(item, number) for number, item in enumerate(known)]
    rng.shuffle(records)
    _write_json_lines(folder / "metaFiles2" / f"meta_{CATEGORY}.json.gz", records)
    _write_images(folder / "images", known)


def _timed(user: str, items: Sequence[str], rng: random.Random) -> list[Rating]:
    """A sequence with times that do not decrease; many are equal."""
    start = rng.randrange(10**9)
    times = sorted(start + rng.randrange(2 * len(items)) for _ in items)
    return [Rating(item, user, time) for item, time in zip(items, times, strict=True)]


def _of_real_users(sequences: dict[str, list[str]], rng: random.Random) -> list[Rating]:
    """Of users that stay: repeated purchases, and items that must go."""
    late = 2 * 10**9  # after everything else
    found = []
    for user, items in sequences.items():
        if rng.random() < 0.1:
            found += [Rating(item, user, late, 1.0) for item in rng.sample(items, 2)] * 2
        if rng.random() < 0.1:
            time = rng.randrange(late)
            without = f"{rng.choice(_KINDS_WITHOUT_IMAGE)}{rng.randrange(3)}"
            gone = (f"nometa{rng.randrange(3)}", without, f"rare{rng.randrange(10**6)}")
            found += [Rating(item, user, time) for item in gone]
    return found


def _of_others(items: Sequence[str], rng: random.Random) -> list[Rating]:
    """Of users that must go, in the first round or a later one."""
    found = []
    for wave in range(_WAVES):  # user n falls once item n has, item n + 1 once user n has
        found += [Rating(f"wave{wave + step}", f"W{wave}", wave) for step in range(5)]
    for number in range(1000):
        four = rng.sample(items, 4)
        kinds = {
            "one": four[:1],
            "four": four,
            "rare": [*four, f"rareonce{number}"],  # five, until the fifth falls
            "nometa": [*four, "nometa0", "nometa1"],
            "noimage": [*four, *(f"{kind}0" for kind in _KINDS_WITHOUT_IMAGE)],
            "again": [*four, *four],  # eight purchases of four items
        }
        kind = rng.choice(list(kinds))
        user = f"{kind}{number}"
        found += [Rating(item, user, rng.randrange(10**9), 3.0) for item in kinds[kind]]
    return found


def _shuffled_but_for_ties(ratings: list[Rating], rng: random.Random) -> list[Rating]:
    """Shuffled; what one user did at one time keeps its order, which is what defines it."""
    places = list(range(len(ratings)))
    rng.shuffle(places)
    groups: dict[tuple[str, int], list[tuple[Rating, int]]] = {}
    for rating, place in zip(ratings, places, strict=True):
        groups.setdefault((rating.user, rating.time), []).append((rating, place))
    placed: dict[int, Rating] = {}
    for group in groups.values():
        for (rating, _), place in zip(group, sorted(place for _, place in group), strict=True):
            placed[place] = rating
    return [placed[place] for place in range(len(ratings))]


def _record(item: str, number: int) -> dict[str, object]:
    record: dict[str, object] = {
        "asin": item,
        "title": f"Item &amp; {item}",
        "description": [f"Number {number}", "<b>of all</b>"],
        "brand": f"Brand {number % 50}",
        "category": ["Musical Instruments", f"Kind {number % 20}"],
        "price": '<span class="a-color-price">$9.99</span>',
    }
    if not item.startswith("nourl"):
        record["imageURLHighRes"] = [f"{_HOST}/{item}.jpg"]
    return record


def _write_images(folder: Path, items: Iterable[str]) -> None:
    for number, item in enumerate(items):
        if item.startswith("nopicture"):
            (folder / f"{item}.jpg").write_bytes(b"<html>no picture</html>")
        elif not item.startswith(("nourl", "nofile")):
            colour = (number % 256, number // 256 % 256, 0)
            packed = io.BytesIO()
            Image.new("RGB", (8, 8), colour).save(packed, "JPEG")
            (folder / f"{item}.jpg").write_bytes(packed.getvalue())


def _write_json_lines(path: Path, records: Iterable[dict[str, object]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=1, mtime=0))
