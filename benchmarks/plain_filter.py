"""The filter as one would write it in plain Python: lists, sets and counters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from pathlib import Path

from macrec_core.catalog.filtering import MIN_SEQUENCE

_KEY = re.compile("[^\\s\x00-\x1f\x7f\ufffd]+")

Rating = tuple[int, int, str, str]  # time, line, user, item


def core_plainly(path: Path, known: Container[str], k: int) -> list[tuple[str, str, int]]:
    """User, item and time of each interaction of the core, chronological.

    Args:
        path: ratings file.
        known: keys of items with metadata.
        k: of the core.
    """
    seen: set[tuple[str, str]] = set()
    ratings = []
    for rating in sorted(_read(path)):
        pair = rating[2:]
        if pair[1] in known and pair not in seen:
            seen.add(pair)
            ratings.append(rating)
    while True:
        users = Counter(user for _, _, user, _ in ratings)
        items = Counter(item for _, _, _, item in ratings)
        kept = [
            rating
            for rating in ratings
            if users[rating[2]] >= max(k, MIN_SEQUENCE) and items[rating[3]] >= k
        ]
        if len(kept) == len(ratings):
            return [(user, item, time) for time, _, user, item in kept]
        ratings = kept


def _read(path: Path) -> list[Rating]:
    """Readable lines."""
    ratings = []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file):
            try:
                item, user, stars, time = line.rstrip("\r\n").split(",")
                float(stars)
                rating = (int(time), number, user, item)
            except ValueError:
                continue
            if _KEY.fullmatch(user) and _KEY.fullmatch(item):
                ratings.append(rating)
    return ratings
