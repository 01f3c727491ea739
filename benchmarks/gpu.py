"""Benchmarks of one GPU: `python -m benchmarks.gpu DATA.npz --out results/gpu.json`.

Needs torch, transformers, safetensors and numpy, nothing else, and no network; DATA.npz comes
from `python -m benchmarks.gpu_data`. Each row goes to the JSON file and to a table beside it as
soon as it is measured, so that a call that is killed loses one work at most; rows of works that
were not run stay. `--minutes` bounds the whole call: what there is no time for is cut short and
scaled, or left out, and either is said. `--small` runs everything at toy size on any machine.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu_encoders import llama, vit
from benchmarks.gpu_evaluation import evaluation
from benchmarks.gpu_input import Inputs
from benchmarks.gpu_measure import Budget, GpuRow, Machine, keep, matrix_rate, table
from benchmarks.gpu_profile import write_profile
from benchmarks.gpu_quality import cases, quality
from benchmarks.gpu_rqvae import rqvae
from benchmarks.gpu_settings import SMALL_GR, Gr, Runtime, changed
from benchmarks.gpu_t5 import t5_training
from macrec_core.errors import MacrecError
from macrec_core.runtime import start

log = logging.getLogger("benchmarks.gpu")

# Each work and the seconds that it may take; the quality gets what is left.
WORKS = {
    "t5_training": 90.0, "evaluation": 60.0, "rqvae": 100.0, "llama": 90.0, "vit": 30.0,
    "quality": float("inf"),
}  # fmt: skip
PROFILE = "profile"  # only where it is named: tables of kernels beside the JSON file, no row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the works, print the table.

    Returns:
        The exit code: 2 for wrong arguments, 1 where a work has failed, otherwise 0.
    """
    wanted = _parser().parse_args(arguments)
    deadline = time.monotonic() + 60 * wanted.minutes
    try:
        gr = changed(SMALL_GR if wanted.small else Gr(), wanted.set)
        inputs = Inputs(wanted.data)
        for name in wanted.ids or ():
            inputs.codes(name)
    except MacrecError as error:
        log.error("error: %s", error)
        return 2
    machine = _machine(wanted)
    failed = []
    for name in wanted.only or WORKS:
        try:
            for row in _work(name, machine, inputs, gr, wanted, deadline):
                keep(wanted.out, [replace(row, details={**row.details, **_facts(machine)})])
        except Exception:  # the others are still worth their time
            log.error("%s: failed\n%s", name, traceback.format_exc())
            failed.append(name)
    sys.stdout.write(table(keep(wanted.out, [])))
    if failed:
        log.error("error: failed: %s; their rows, if any, are of an earlier run", ", ".join(failed))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    add = parser.add_argument
    add("data", type=Path, help=".npz file of `benchmarks.gpu_data`")
    add("--out", type=Path, default=Path("benchmarks/results/gpu.json"), help="JSON file")
    add("--only", nargs="+", choices=[*WORKS, PROFILE], metavar="NAME",
        help=f"of {', '.join(WORKS)}; or {PROFILE}")  # fmt: skip
    add("--minutes", type=float, default=9.0, help="for all of it")
    add("--small", action="store_true", help="toy sizes; no goal counts")
    add("--lenient", action="store_true",
        help="warn of kernels that are not deterministic, where a stage would stop")  # fmt: skip
    add("--scratch", type=Path, default=Path("scratch/gpu"), help="folder of checkpoints")
    add("--ids", nargs="+", metavar="NAME", help="semantic IDs of the quality runs; all of them")
    add("--seeds", nargs="+", type=int, default=[0], help="of the quality runs")
    add("--implicit", nargs="+", type=float, default=[0.0, 0.01],
        help="values of lambda_implicit of the quality runs")  # fmt: skip
    add("--set", nargs="+", default=[], metavar="NAME=VALUE",
        help="other values of section gr, for training and quality")  # fmt: skip
    return parser


def _machine(wanted: argparse.Namespace) -> Machine:
    """Device, precision and determinism as every stage has them, and the matrix rate."""
    runtime = start(Runtime().core, use_precision=True)
    if wanted.lenient:
        torch.set_deterministic_debug_mode("warn")
    dtype = torch.bfloat16 if runtime.device.type == "cuda" else torch.float32
    rate = matrix_rate(runtime.device, dtype, wanted.small)
    log.info("%s: %.1f TFLOP/s of %s matrix products", _name(runtime.device), rate / 1e12, dtype)
    return Machine(runtime, rate, wanted.small)


def _work(
    name: str,
    machine: Machine,
    inputs: Inputs,
    gr: Gr,
    wanted: argparse.Namespace,
    deadline: float,
) -> Iterator[GpuRow]:
    """The rows of one work, each as soon as it is measured."""
    budget = Budget(WORKS.get(name, float("inf")), deadline)
    if budget.spent:
        log.warning("%s: no time left, not run", name)
        return
    log.info("%s ...", name)
    machine.start()
    if name == "t5_training":
        yield from t5_training(machine, inputs, gr, budget)
    elif name == "evaluation":
        yield from evaluation(machine, inputs, gr, budget)
    elif name == "rqvae":
        yield from rqvae(machine, budget)
    elif name == "llama":
        yield from llama(machine, inputs, budget)
    elif name == "vit":
        yield from vit(machine, budget)
    elif name == PROFILE:
        write_profile(machine, inputs, gr, wanted.out.with_suffix(".profile.txt"))
    else:
        chosen = cases(
            wanted.ids or inputs.ids, wanted.implicit, wanted.seeds, gr, " ".join(wanted.set)
        )
        yield from quality(machine, inputs, wanted.data, chosen, wanted.scratch, budget)


def _facts(machine: Machine) -> dict[str, object]:
    return {
        "device": _name(machine.device), "torch": torch.__version__, "small": machine.small,
        "deterministic": torch.get_deterministic_debug_mode() == 2,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
    }  # fmt: skip


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    sys.exit(main())
