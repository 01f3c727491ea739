"""The processes that share one training or evaluation, each with a part of every batch.

One process is the ordinary case, and everything here is then the identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


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
        """Replace each tensor by its sum over the processes, in one exchange."""
        tensors = list(tensors)
        if self.count == 1:
            return
        flat = torch.cat([t.detach().flatten() for t in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.detach().copy_(summed.view_as(tensor))

    def gathered(self, own: Tensor, total: int) -> Tensor:
        """All rows [total, d] that `share` has split, from each process's part [n, d].

        The gradient goes to this process's rows alone. If every process computes the same loss
        of all rows, the sum over processes of the weights' gradients is the gradient of the
        loss: each row's gradient is complete where the row was computed.
        """
        if self.count == 1:
            return own
        size = -(-total // self.count)
        padded = own.detach().new_zeros(size, own.shape[1])
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        distributed.all_gather(parts, padded)
        rows = torch.stack(parts, dim=1).flatten(end_dim=1)[:total]  # row i of process r: i * n + r
        mine = torch.arange(total, device=own.device)[self.rank :: self.count]
        return rows.index_copy(0, mine, own)

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()
