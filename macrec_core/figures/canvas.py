"""Drawing without global state: a grid of panels, written as PNG without date or version."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.figure import Figure

_DOTS_PER_INCH = 110
# Colour-blind safe (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@contextmanager
def default_style() -> Iterator[None]:
    """Matplotlib's own settings, whatever the user's configuration says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.size": 9,
                "axes.titlesize": 9,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "legend.fontsize": 7.5,
                "legend.frameon": False,
            }
        )
        yield


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [rows, columns], each `width` x `height` inches."""
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def png(figure: Figure) -> bytes:
    """The figure's file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A sign that the font lacks, as in a brand, is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        # matplotlib would write its version into the file.
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
