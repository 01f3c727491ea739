"""Members of the teams in tests/benchmarks/test_team.py, made in processes of their own."""

from __future__ import annotations

import os

import torch

from macrec_core.processes import joined


class Member:
    """Says what it sees."""

    def __init__(self):
        self.processes = joined(torch.device("cpu"))

    def __call__(self, order):
        if order == "end" and self.processes.rank == 1:
            os._exit(3)
        if order == "end":
            self.processes.wait()  # for one that never comes
        total = torch.ones(())
        self.processes.sum_([total])
        return self.processes.rank, torch.get_num_threads(), float(total), order


class Broken:
    """Cannot be made."""

    def __init__(self):
        raise ValueError("no such data")
