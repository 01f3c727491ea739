"""The same work in one process or in several: `python shared_work.py FOLDER` is one of several.

FOLDER/work.pt holds a `Work`; each process writes what it has found to FOLDER/found_RANK.pt.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from macrec_core.checkpoints import Checkpoints
from macrec_core.encoders import encode_texts, shards
from macrec_core.errors import LostContactError, MacrecError
from macrec_core.params.data import MiniLMEncoder
from macrec_core.params.evaluation import EvalParams
from macrec_core.params.quantizer import QuantParams
from macrec_core.params.recommender import GrParams
from macrec_core.processes import Processes
from macrec_core.quantization.training import QuantizerData, train_quantizer
from macrec_core.ranking import Cases
from macrec_core.recommender.evaluation import Decodable, evaluate_recommender
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.t5 import T5
from macrec_core.recommender.training import TrainingData, train_recommender
from macrec_core.runtime import Runtime

ROOT = Path(__file__).resolve().parents[1]
COUNT = 2
ITEMS_A_SHARD = 2


@dataclass
class Work:
    """What the processes share."""

    data: TrainingData
    gr: GrParams
    model: T5
    modalities: Mapping[str, Decodable]
    targets: np.ndarray
    eval_params: EvalParams
    items: QuantizerData
    quant: QuantParams
    catalogue: Path
    text: MiniLMEncoder


class Counted:
    """Progress that counts."""

    def __init__(self):
        self.total, self.done = 0, 0

    def start(self, description, total):
        self.total = total

    def advance(self, units=1, status=""):
        self.done += units


def results(work: Work, runtime: Runtime, folder: Path) -> dict[str, Any]:
    """All shared works, one after another."""
    shards.SHARD_ITEMS = ITEMS_A_SHARD
    checkpoints = Checkpoints(folder / "gr", 1e9, writes=runtime.processes.first)
    counted = Counted()
    trained = train_recommender(work.data, work.gr, 3, runtime, checkpoints, counted)
    found = {
        "gr_history": trained.history,
        "gr_weights": dict(trained.model.state_dict()),
        "gr_updates": (counted.done, counted.total),
    }
    for users in (len(work.targets), 1):
        counted = Counted()
        parts = {
            name: Decodable(first(part.source, users), part.trie, part.level_offsets)
            for name, part in work.modalities.items()
        }
        targets = work.targets[:users]
        bought = np.where(targets > 0, targets - 1, 1)  # one item each
        cases = Cases(np.arange(users), targets, bought, np.arange(users + 1))
        outcome = evaluate_recommender(
            work.model, parts, targets, work.eval_params, runtime, counted, cases
        )
        found[f"ranks_{users}"] = dict(outcome.ranks)
        found[f"unseen_ranks_{users}"] = dict(outcome.unseen.ranks)
        found[f"lists_{users}"] = dict(outcome.rankings)
        found[f"decoded_{users}"] = (counted.done, counted.total)
    checkpoints = Checkpoints(folder / "rqvae", 1e9, writes=runtime.processes.first)
    quantizer = train_quantizer(work.items, work.quant, 3, runtime, checkpoints, Counted())
    found["rqvae_history"] = quantizer.history
    found["rqvae_weights"] = dict(quantizer.model.state_dict())
    counted = Counted()
    encoded = encode_texts(work.catalogue, work.text, None, runtime, folder / "text", counted)
    found["texts"] = (counted.done, counted.total)
    if runtime.processes.first:
        found["vectors"], found["counts"] = encoded.vectors, encoded.counts
    return found


def first(sequences: Sequences, count: int) -> Sequences:
    """The first `count` of them."""
    return Sequences(sequences.flat, sequences.offsets[: count + 1])


def exchanges(processes: Processes) -> dict[str, Any]:
    """`Processes` itself, on numbers that tests know."""
    rank = processes.rank
    first, second = torch.full((2, 2), rank + 1.0), torch.tensor([10.0 * (rank + 1)])
    processes.sum_([first, second])
    whole = torch.tensor([7, -(2**40)]) * rank
    processes.sum_([whole])
    found: dict[str, Any] = {"sums": (first, second), "whole_sum": whole}
    for total in (5, 4, 1):
        weights, inputs = gathering(total)
        rows = processes.gathered(processes.share(inputs) @ weights, total)
        loss_of(rows).backward()
        gradient = torch.zeros_like(weights) if weights.grad is None else weights.grad
        processes.sum_([gradient])
        found[f"gathered_{total}"] = (rows.detach(), gradient)
    processes.check_same("a number that is", 5)
    try:
        processes.check_same("a number that is not", rank)
    except MacrecError as error:
        found["different"] = str(error)
    processes.wait()
    return found


def gathering(total):
    """Weights and inputs of a product whose rows are gathered."""
    draws = torch.Generator().manual_seed(total)
    weights = torch.randn(3, 2, generator=draws).requires_grad_()
    return weights, torch.randn(total, 3, generator=draws)


def loss_of(rows):
    """A loss in which every row meets every other, as in a contrastive one."""
    return (rows @ rows.T).square().sum() + rows.sum()


def main(folder: Path) -> None:
    """Be one process: work, and then see another one go."""
    from macrec_core.params.whole import RuntimeParams
    from macrec_core.runtime import start

    params = RuntimeParams(
        device="cpu", precision="float32", num_threads=1, num_processes=COUNT,
        checkpoint_every_s=1e9,
    )  # fmt: skip
    runtime = start(params, shared=True)
    work = torch.load(folder / "work.pt", weights_only=False)
    found = exchanges(runtime.processes) | results(work, runtime, folder / "processes")
    found["processes"] = (runtime.processes.rank, runtime.processes.count)
    if not runtime.processes.first:
        torch.save(found, folder / f"found_{runtime.processes.rank}.pt")
        os._exit(0)
    began = time.monotonic()
    try:
        runtime.processes.sum_([torch.ones(1)])
    except LostContactError as error:
        found["lost"] = (str(error), time.monotonic() - began)
    torch.save(found, folder / "found_0.pt")


def run(folder: Path, work: Work) -> list[dict[str, Any]]:
    """What each of `COUNT` processes has found."""
    from stages.launch import loopback

    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    torch.save(work, folder / "work.pt")
    environment = os.environ | {
        "WORLD_SIZE": str(COUNT), "LOCAL_WORLD_SIZE": str(COUNT), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": loopback(),
        "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }  # fmt: skip
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(COUNT)
    ]  # fmt: skip
    try:
        said = [worker.communicate(timeout=300)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * COUNT, "\n".join(said)
    return [torch.load(folder / f"found_{r}.pt", weights_only=False) for r in range(COUNT)]


if __name__ == "__main__":
    # Under its own name, so that pickles find its classes.
    import shared_work

    shared_work.main(Path(sys.argv[1]))
