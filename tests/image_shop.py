"""Hosts of images that answer in any order: good ones, useless ones, and such as pass.

Run as a program, it collects its images until it is killed:

    python tests/image_shop.py SCRATCH RAW ITEMS
"""

from __future__ import annotations

import io
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from macrec_core.artifacts import atomic_folder
from macrec_core.catalog import image_trials
from macrec_core.catalog.image_collection import collect_images
from macrec_core.catalog.images import ImageError
from macrec_core.catalog.scratch import Scratch
from macrec_core.params.data import ImageParams
from macrec_core.progress import Silent

PARAMS = ImageParams(
    max_side=64, max_pixels=10_000, jpeg_quality=90, concurrency=6, per_host=4, timeout_s=1.0,
    max_failure_rate=0.5, shard_mb=1,
)  # fmt: skip
KINDS = ("good", "good", "good", "large", "gone", "html", "refused")


def noise(number, side):
    """A JPEG that hardly shrinks: about a byte a pixel."""
    values = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    packed = io.BytesIO()
    Image.fromarray(values).save(packed, "JPEG", quality=95)
    return packed.getvalue()


def shop_urls(items):
    """Item key to URLs; every 20th item has none. The kind of answer stands in the URL."""
    rng = random.Random(0)
    urls = {}
    for item in range(items):
        count = 0 if item % 20 == 7 else rng.randint(1, 3)
        urls[f"B{item:05d}"] = [
            f"https://{rng.choice('abc')}.example.com/{rng.choice(KINDS)}/{item}-{place}"
            for place in range(count)
        ]
    return urls


class Shop:
    """Answers after a random time; notes who asked, and how many at once.

    Attributes:
        overrides: URL to cause or bytes, instead of the usual answer.
    """

    def __init__(self, seed, longest_s=0.0):
        self.overrides = {}
        self.asked = Counter()
        self.busy = Counter()
        self.most = Counter()
        self._rng = random.Random(seed)
        self._longest_s = longest_s
        self._lock = threading.Lock()

    def load(self, url):
        host = url.split("/")[2] if "//" in url else ""
        with self._lock:
            self.asked[url] += 1
            self.busy[host] += 1
            self.busy["all"] += 1
            for name in (host, "all"):
                self.most[name] = max(self.most[name], self.busy[name])
            wait = self._rng.random() * self._longest_s
        time.sleep(wait)
        try:
            return self._answer(url)
        finally:
            with self._lock:
                self.busy[host] -= 1
                self.busy["all"] -= 1

    def _answer(self, url):
        answer = self.overrides.get(url)
        if isinstance(answer, str):
            raise ImageError(answer)
        if answer is not None:
            return answer
        kind, name = url.split("/")[3:]
        number = int(name.split("-")[0])
        if kind == "gone":
            raise ImageError("status_404")
        if kind == "refused":
            raise ImageError("status_503")
        return b"<html>" if kind == "html" else noise(number, 96 if kind == "large" else 48)


class Announced(Silent):
    """Prints the name of the phase as it begins and at every step, for the parent process."""

    def start(self, description, total):
        self._description = description
        self.advance()

    def advance(self, units=1, status=""):
        print(self._description, flush=True)  # noqa: T201 - above
        if self._description.startswith("packing"):
            time.sleep(0.002)  # long enough to be met at it


def main(scratch, raw, items):
    """Collect the shop's images into a folder, as `download` does."""
    image_trials.BLOCK_ITEMS = 8
    urls = shop_urls(int(items))
    shop = Shop(seed=time.time_ns(), longest_s=0.02)
    with Scratch(Path(scratch)) as held:
        trials = image_trials.claimed_trials(held, urls, PARAMS, "")
        with atomic_folder(Path(raw), "*", "images/*") as target:
            collect_images(urls, shop.load, PARAMS, trials, target, Announced())


if __name__ == "__main__":
    main(*sys.argv[1:])
