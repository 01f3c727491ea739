"""What a search for images counts: failures by cause, rate, time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from macrec_core.catalog.image_trials import Trial
from macrec_core.errors import MacrecError
from macrec_core.params.data import ImageParams

# Of items without an image, in the error, and letters of their URLs.
_EXAMPLES, _SHOWN = 3, 120


class Tally:
    """Counts of a search.

    Attributes:
        wanted: items for which an image is looked for.
        missing: items searched without finding one.
        causes: URLs that failed, and items without any, by cause.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.missing = 0
        self.causes: Counter[str] = Counter()
        self._examples: list[str] = []

    def add(self, trials: Mapping[str, Sequence[Trial]]) -> None:
        """Count some items."""
        for _, of_item in sorted(trials.items()):  # threads finish in any order
            failed = [trial.cause for trial in of_item if trial.cause]
            self.causes.update(failed)
            if len(failed) == len(of_item):
                self.missing += 1
                self._remember(of_item[-1])

    def check(self, params: ImageParams, kept: Path) -> None:
        """Check the share of items without an image.

        Args:
            params: with the limit.
            kept: folder of the trials, which the error names.

        Raises:
            MacrecError: it is above `params.max_failure_rate`, however the rest may turn out.
        """
        if self.missing > params.max_failure_rate * self.wanted:
            raise MacrecError(
                f"images: {self.missing} of {self.wanted} items have no usable image (failures by "
                f"cause: {dict(sorted(self.causes.items()))}; such as "
                f"{', '.join(self._examples)}), more than "
                f"images.max_failure_rate={params.max_failure_rate}; check the source and run "
                "again, or raise the rate. The next run keeps the images that were found, and the "
                "failures that are final, unless it finds other images in a folder; to look for "
                f"all anew, delete {kept}"
            )

    def _remember(self, trial: Trial) -> None:
        if len(self._examples) < _EXAMPLES:
            self._examples.append(f"{trial.key} {trial.url[:_SHOWN]!r} {trial.cause}")


class Pace:
    """Rate and time left of a long work.

    Args:
        total: units to do.
        clock: seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._began = clock()
        self._done = 0

    def advance(self) -> str:
        """Count one unit; the text gives the mean rate so far and the time left at it."""
        self._done += 1
        seconds = max(self._clock() - self._began, 1e-6)
        left = round((self._total - self._done) * seconds / self._done)
        hours, minutes = left // 3600, left // 60 % 60
        text = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left % 60:02d} s"
        return f"{self._done / seconds:.1f}/s, {text} left"
