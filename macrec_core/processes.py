"""The processes that share one training or evaluation, each with a part of every batch.

One process is the ordinary case, and everything here is then the identity. Several are started
by `stages.launch`, by `torchrun` or by `accelerate launch`; `joined` makes them a group, gloo on
CPUs and NCCL on GPUs.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from macrec_core.errors import LostContactError, MacrecError

# How long one process waits for another before it gives up. A process that ends is noticed at
# once; this is for one that hangs, and longer than any honest wait for a slower one.
_LONGEST_WAIT = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process among those that work together.

    Attributes:
        rank: number of this process, from 0.
        count: of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of rows; parts differ by one row at most and lose none."""
        return rows[self.rank :: self.count]

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in one exchange.

        Every process gets the same bytes. The tensors are of one type.

        Raises:
            LostContactError: another process is gone.
        """
        tensors = list(tensors)
        if self.count == 1:
            return
        flat = torch.cat([t.detach().flatten() for t in tensors])
        with self._exchange():
            distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.detach().copy_(summed.view_as(tensor))

    def sum_gradients_(self, weights: Iterable[nn.Parameter], others: Iterable[Tensor]) -> None:
        """Replace the weights' gradients, and other tensors with them, by their sums.

        Raises:
            LostContactError: another process is gone.
        """
        if self.count == 1:
            return
        gradients = []
        for weight in weights:
            # All send as many numbers, also one to which none of the batch has fallen.
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            gradients.append(weight.grad)
        self.sum_([*gradients, *others])

    def gathered(self, own: Tensor, total: int) -> Tensor:
        """All rows [total, d] that `share` has split, from each process's part [n, d].

        The gradient goes to this process's rows alone. If every process computes the same loss
        of all rows, the sum over processes of the weights' gradients is the gradient of the
        loss: each row's gradient is complete where the row was computed.

        Raises:
            LostContactError: another process is gone.
        """
        if self.count == 1:
            return own
        size = -(-total // self.count)
        padded = own.detach().new_zeros(size, own.shape[1])
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        with self._exchange():
            distributed.all_gather(parts, padded)
        rows = torch.stack(parts, dim=1).flatten(end_dim=1)[:total]  # row i of process r: i * n + r
        mine = torch.arange(total, device=own.device)[self.rank :: self.count]
        return rows.index_copy(0, mine, own)

    def wait(self) -> None:
        """Return once every process has come here.

        Raises:
            LostContactError: another process is gone.
        """
        if self.count > 1:
            with self._exchange():
                distributed.barrier()

    def check_same(self, what: str, value: object) -> None:
        """Compare a value that has to be the same everywhere, such as where training goes on.

        Args:
            what: name of the value.
            value: this process's; anything that can be pickled.

        Raises:
            MacrecError: the processes hold different ones, as on machines that share no folder.
            LostContactError: another process is gone.
        """
        if self.count == 1:
            return
        values: list[object] = [None] * self.count
        with self._exchange():
            distributed.all_gather_object(values, value)
        if any(each != values[0] for each in values):
            raise MacrecError(
                f"{what}: differs between the processes ({values}); let all machines share one "
                "MACREC_SCRATCH folder and the same code, parameters and inputs"
            )

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise LostContactError(
                f"process {self.rank + 1} of {self.count} lost contact with another "
                f"({_reason(error)})"
            ) from error


ALONE = Processes()


def joined(device: torch.device) -> Processes:
    """The processes that a launcher has started, this one among them, ready to exchange tensors.

    A launcher says so in the environment (RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE);
    without it this process is alone. They meet at MASTER_ADDR and MASTER_PORT, or, started by
    `stages.launch`, in the file MACREC_RENDEZVOUS. On GPUs each process takes the one of its
    local rank as its current device.

    Args:
        device: where the tensors to exchange are.

    Raises:
        MacrecError: fewer GPUs than processes on this machine, or the others do not come.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda" and here > torch.cuda.device_count():
        raise MacrecError(
            f"runtime.num_processes: {here} processes here, but {torch.cuda.device_count()} "
            "GPU(s), and each process needs its own; start fewer, or set runtime.device to 'cpu'"
        )
    # Imported here: one process, the ordinary case, needs none of it.
    from accelerate import PartialState

    options: dict[str, object] = {"timeout": _LONGEST_WAIT}
    if meeting := os.environ.get("MACREC_RENDEZVOUS"):
        options["init_method"] = Path(meeting).as_uri()
        options["rank"], options["world_size"] = int(os.environ["RANK"]), count
    try:
        state = PartialState(cpu=device.type == "cpu", **options)
    except RuntimeError as error:
        raise MacrecError(
            f"runtime.num_processes: the processes cannot be joined ({_reason(error)}); "
            "run the same again"
        ) from error
    atexit.register(state.destroy_process_group)
    return Processes(state.process_index, state.num_processes)


def _reason(error: Exception) -> str:
    """The first sentence of a library's message, without the place in its source."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[[^\]]*\] *", "", first).split(". ")[0]
