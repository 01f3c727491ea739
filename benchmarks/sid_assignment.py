"""Semantic IDs from given latents: nearest codes (Eq. 2), then conflict reassignment.

At the paper's 4 levels of 256 codes of 32 numbers, for 10^4 to 10^7 items. The items are made
up: latents in clusters of very unequal size, codebooks by k-means over the residuals of a
sample, as at the start of a training. In the case `clustered` three items of ten are moreover
copies, exact or nearly so, of a few others, so that prefixes overflow at every level.

Plain is the direct formula for the distances and the reassignment item by item; beyond 10^6
items nobody waits for it. The ceiling counts the multiplications of Eq. 2 alone, at the
machine's float32 matrix rate. Each case runs in a process of its own, which gives its memory.
"""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import Row, interleaved, matrix_rate, row, seconds
from benchmarks.plain_conflicts import make_unique_plainly
from macrec_core.quantization.conflicts import UniqueCodes, make_unique
from macrec_core.quantization.nearest import nearest_codes, nearest_directly
from macrec_core.quantization.residual import ResidualQuantizer

log = logging.getLogger(__name__)

_LEVELS, _CODES, _DIM = 4, 256, 32
_CLUSTERS = 3000
_SAMPLE = 16384  # latents that k-means sees
_PART = 1 << 17  # latents made at a time
_LARGEST_PLAIN = 10**6

Floats = NDArray[np.float32]


def run() -> list[Row]:
    """One row for each number of items, and one for the clustered ten millions."""
    cases = [(6250, False), *((10**power, False) for power in range(4, 8)), (10**7, True)]
    flops = 2 * _LEVELS * _CODES * _DIM
    rows = []
    for count, copies in cases:
        name = f"10^{len(str(count)) - 1}" if str(count).strip("0") == "1" else f"{count}"
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            took, plain_took, rate, peak, moved = process.submit(measure, count, copies).result()
        rows.append(
            row(
                f"sid_assignment {name}{' clustered' if copies else ''}",
                "items/s",
                count / took,
                None if plain_took is None else count / plain_took,
                rate * 1e9 / flops,
                peak,
            )
        )
        log.info(
            "%s: %.2f s, %.0f MB; %d items moved, %d of them from a last level that was exhausted",
            rows[-1].work, took, peak, *moved,
        )  # fmt: skip
    return rows


def measure(count: int, copies: bool) -> tuple[float, float | None, float, float, tuple[int, int]]:
    """Seconds of ours and of plain, GFLOP/s of float32 products, MB at the highest, items moved.

    The last is two counts: all that moved, and those from a last level that was exhausted.
    """
    latents, codebooks = made_up(count, copies)
    assign(latents[:1000], codebooks)  # starts threads, chooses kernels
    plain_took = None
    found: list[UniqueCodes] = []

    def ours() -> None:
        found[:] = [assign(latents, codebooks)]

    if count <= _LARGEST_PLAIN:
        rounds = 3 if count <= 10**4 else 1
        took, plain_took = interleaved(ours, lambda: assign_plainly(latents, codebooks), rounds)
    else:
        took = seconds(ours)
    (unique,) = found
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    moved = unique.num_moved, unique.num_moved_above
    return took, plain_took, matrix_rate(torch.float32), peak * 1024 / 1e6, moved


def assign(latents: Floats, codebooks: Floats) -> UniqueCodes:
    """As macrec_core.assignment does it."""
    nearest = nearest_codes(torch.from_numpy(latents), torch.from_numpy(codebooks))
    return make_unique(latents, codebooks, nearest.numpy())


def assign_plainly(latents: Floats, codebooks: Floats) -> NDArray[np.int32]:
    """The same codes, each step as one would write it down."""
    residual, codes = torch.from_numpy(latents), []
    for codebook in torch.from_numpy(codebooks):
        codes.append(nearest_directly(residual, codebook))
        residual = residual - codebook[codes[-1]]
    nearest = torch.stack(codes, dim=1).int().numpy()
    return make_unique_plainly(latents, codebooks, nearest)[0]


def made_up(count: int, copies: bool) -> tuple[Floats, Floats]:
    """Latents [N, d] in clusters, and codebooks [L, M, d] that fit them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CLUSTERS, _DIM), dtype=np.float32)
    weights = 1 / np.arange(1, _CLUSTERS + 1)
    latents = np.empty((count, _DIM), dtype=np.float32)
    for start in range(0, count, _PART):
        part = latents[start : start + _PART]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= 0.4
        part += centres[rng.choice(_CLUSTERS, len(part), p=weights / weights.sum())]
        if copies:
            _copy_some(rng, part, latents[: len(part)])
    quantizer = ResidualQuantizer(_LEVELS, _CODES, _DIM, "flows")
    sample = torch.from_numpy(rng.choice(latents, min(count, _SAMPLE), replace=False))
    quantizer.initialise(sample, 10, torch.Generator().manual_seed(0))
    return latents, quantizer.codebooks.detach().numpy()


def _copy_some(rng: np.random.Generator, part: Floats, sources: Floats) -> None:
    """Make three of ten latents copies of few others; half of the copies are not quite exact."""
    rows = rng.choice(len(part), 3 * len(part) // 10, replace=False)
    # Zipf's law: the first source has a sixth of all copies, the thousandth a few thousandths
    # of that.
    part[rows] = sources[rng.zipf(1.2, len(rows)) % len(sources)]
    nearly = rows[: len(rows) // 2]
    part[nearly] += 1e-3 * rng.standard_normal((len(nearly), _DIM), dtype=np.float32)
