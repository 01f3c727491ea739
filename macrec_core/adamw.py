"""torch's AdamW without torch's compiler.

The methods of torch's optimizers are wrapped so that a compiled program may call them, and the
wrapping imports the compiler: more than a second in each of the stages that train, which
compile nothing. Underneath are the same methods.
"""

from __future__ import annotations

import inspect

import torch
from torch.optim import Optimizer


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`: the same arguments, the same numbers."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
