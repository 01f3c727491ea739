"""Real quality: T5 trained on Instruments with published semantic IDs, all test users ranked.

A case is a set of IDs, with or without implicit alignment, and a seed; it is trained by
`train_recommender` until patience or the epochs end it, then evaluated on every test user, and
stands beside the published row (Table 2). A case whose time is up keeps its checkpoint, so that
the same command goes on with it, and is evaluated with the best epoch so far; its row says so.

MQL4GRec's text IDs are ambiguous: 5,988 for 6,250 items. The rows count a hit on such an ID
pessimistically, as `eval.ambiguous_ids` does; both ways are in the details.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_input import SMALL_EXAMPLES, Inputs, TestUsers, few
from benchmarks.gpu_measure import Budget, GpuRow, Machine, gpu_row
from benchmarks.gpu_rqvae import OutOfTimeError
from benchmarks.gpu_settings import SMALL_EVAL, Eval, Gr
from macrec_core.checkpoints import Checkpoints
from macrec_core.fusion import target_ranks
from macrec_core.metrics import ranking_metrics
from macrec_core.progress import Silent
from macrec_core.ranking import ENSEMBLE
from macrec_core.recommender.evaluation import evaluate_recommender
from macrec_core.recommender.t5 import T5
from macrec_core.recommender.training import TrainingData, new_t5, train_recommender
from macrec_core.runtime import Runtime, code_files, fingerprint, generator

log = logging.getLogger("benchmarks.gpu")

# Table 2, Instruments, MQL4GRec.
PUBLISHED = {"hr@10": 0.1291, "ndcg@10": 0.0997}
_TRAINING_GOAL = 600.0
_CHECKPOINT_S = 30.0
_EVALUATION_S = 25.0  # kept back for the evaluation of a case


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        ids: name of the semantic IDs.
        gr: settings.
        seed: of the run.
        label: of settings that were changed, for the row's name.
    """

    ids: str
    gr: Gr
    seed: int
    label: str

    @property
    def name(self) -> str:
        """As the rows name it."""
        implicit = " implicit" if self.gr.lambda_implicit else ""
        label = f" {self.label}" if self.label else ""
        return f"quality {self.ids}{implicit}{label} s{self.seed}"


@dataclass(frozen=True)
class Trained:
    """A training's outcome, whole or cut short.

    Attributes:
        model: of the best epoch.
        history: one row an epoch.
        best_epoch: counted from 1.
        stopped_by: `patience`, `max_epochs`, `max_steps` or `time`.
        seconds: of this call; `resumed` says whether an earlier one began it.
        resumed: whether a checkpoint was found.
    """

    model: T5
    history: list[dict[str, float]]
    best_epoch: int
    stopped_by: str
    seconds: float
    resumed: bool


def cases(
    ids: Sequence[str], implicit: Sequence[float], seeds: Sequence[int], gr: Gr, label: str
) -> list[Case]:
    """The product of the lists: every set of IDs of one seed before the next seed."""
    return [
        Case(name, replace(gr, lambda_implicit=weight), seed, label)
        for seed in seeds
        for weight in implicit
        for name in ids
    ]


def quality(
    machine: Machine,
    inputs: Inputs,
    data_file: Path,
    chosen: Sequence[Case],
    scratch: Path,
    budget: Budget,
) -> Iterator[GpuRow]:
    """Rows of every case for which there is time."""
    for case in chosen:
        if budget.left <= (0 if machine.small else _EVALUATION_S):
            log.warning("%s: no time left, not run", case.name)
            continue
        machine.start()
        data, users = inputs.training(case.ids), inputs.test_users(case.ids)
        if machine.small:
            data, users = few(data, users, SMALL_EXAMPLES)
        trained = _train(machine, data, case, data_file, scratch, budget)
        if trained is None:
            log.warning("%s: no epoch ended in time; nothing to evaluate", case.name)
            continue
        yield from _rows(machine, case, trained, users, inputs.facts["origin"])


def _train(
    machine: Machine, data: TrainingData, case: Case, data_file: Path, scratch: Path, budget: Budget
) -> Trained | None:
    key = fingerprint(
        [json.dumps(asdict(case.gr)), str(case.seed), case.ids, str(machine.small)], [data_file],
        code_files("contrastive", "metrics", "processes", "recommender", "runtime"),
        machine.runtime,
    )  # fmt: skip
    checkpoints = _Kept(scratch / key, _CHECKPOINT_S)
    found = checkpoints.load()
    resumed = bool(found and not found["stopped_by"])
    reserve = 0.0 if machine.small else _EVALUATION_S
    updates = -(-len(data.examples) // case.gr.batch_size)
    watch = _Watch(case.name, lambda: budget.left <= reserve, checkpoints, updates)
    start = time.perf_counter()
    try:
        trained = train_recommender(
            data, case.gr.core, case.seed, machine.runtime, checkpoints, watch
        )
    except OutOfTimeError:
        state = checkpoints.state()
        checkpoints.save(state)
        log.warning("%s: time is up after update %d", case.name, state["step"])
        if not state["best"]:
            return None
        model = new_t5(data.vocabulary_size, case.gr.core, generator(0))
        model.load_state_dict(state["best"])
        return Trained(
            model.eval(), state["history"], state["best_epoch"], "time",
            time.perf_counter() - start, resumed,
        )  # fmt: skip
    return Trained(
        trained.model, trained.history, trained.best_epoch, trained.stopped_by,
        time.perf_counter() - start, resumed or found is not None,
    )  # fmt: skip


class _Kept(Checkpoints):
    """Checkpoints whose state can be asked for between two saves."""

    _latest: Callable[[], dict[str, Any]] | None = None

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        """Remember how to ask for the state."""
        self._latest = state
        super().offer(state)

    def state(self) -> dict[str, Any]:
        """The state now; a GPU is waited for."""
        assert self._latest is not None
        return self._latest()


class _Watch:
    """Progress that tells of each epoch, and ends a training whose time is up.

    Args:
        name: of the case.
        over: whether the time is up.
        checkpoints: know the history.
        updates: of an epoch.
    """

    def __init__(
        self, name: str, over: Callable[[], bool], checkpoints: _Kept, updates: int
    ) -> None:
        self._name, self._over, self._checkpoints = name, over, checkpoints
        self._updates, self._done, self._since = updates, 0, time.perf_counter()

    def start(self, description: str, total: int) -> None:
        """Tell how long it may be."""
        log.info("%s: %d updates at most, %d an epoch", self._name, total, self._updates)

    def advance(self, units: int = 1, status: str = "") -> None:
        """Tell of an epoch with the first update after it.

        Raises:
            OutOfTimeError: the time is up.
        """
        before, self._done = self._done, self._done + units
        if units != 1:  # the updates of an earlier call
            return
        if before and before % self._updates == 0:
            row, now = self._checkpoints.state()["history"][-1], time.perf_counter()
            values = ", ".join(f"{name} {value:.4f}" for name, value in row.items())
            log.info("%s: %s (%.1f s)", self._name, values, now - self._since)
            self._since = now
        if self._over():
            raise OutOfTimeError


def _rows(
    machine: Machine, case: Case, trained: Trained, users: TestUsers, origin: str
) -> Iterator[GpuRow]:
    settings = SMALL_EVAL if machine.small else Eval()
    start = time.perf_counter()
    result = evaluate_recommender(
        trained.model, users.modalities, users.targets, settings.core,
        Runtime(machine.device, None), Silent(),
    )  # fmt: skip
    machine.synchronise()
    took = time.perf_counter() - start
    metrics = {name: ranking_metrics(ranks) for name, ranks in result.ranks.items()}
    lenient = target_ranks(result.rankings[ENSEMBLE], users.targets, "optimistic")
    found = metrics[ENSEMBLE]
    log.info("%s: %s (stopped by %s, best epoch %d of %d)", case.name, found, trained.stopped_by,
             trained.best_epoch, len(trained.history))  # fmt: skip
    whole = trained.stopped_by != "time"
    details: dict[str, object] = {
        "data": origin, "users": len(users.targets), "gr": asdict(case.gr), "seed": case.seed,
        "stopped_by": trained.stopped_by, "best_epoch": trained.best_epoch,
        "epochs": len(trained.history), "resumed": trained.resumed,
        "training_seconds": trained.seconds, "evaluation_seconds": took, "lists": metrics,
        "optimistic": ranking_metrics(lenient), "published": PUBLISHED,
        "precision": str(machine.runtime.autocast), "history": trained.history,
    }  # fmt: skip
    for name, published in PUBLISHED.items():
        reached = found[name] >= published
        # The best epoch so far may already reach it; that it does not, a cut training cannot tell.
        yield gpu_row(
            machine, case.name, name.upper(), found[name], plain=published,
            goal=f">= {published}", reached=reached if whole or reached else None,
            details={**details, "plain": "published"} if name == "hr@10" else {},
        )  # fmt: skip
    if whole and not trained.resumed:
        yield gpu_row(
            machine, case.name, "epochs/s", len(trained.history) / trained.seconds,
            seconds=trained.seconds, goal="a whole training <= 600 s",
            reached=trained.seconds <= _TRAINING_GOAL,
        )  # fmt: skip
