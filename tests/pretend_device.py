"""A device that is not the CPU, on a machine that has no other.

Its tensors say that they are on `meta` but hold numbers, which the CPU computes. As on a GPU, an
operation on tensors of both devices is an error, and some operations make the CPU wait for all
the work that it has ordered: reading a number, results whose shape depends on numbers, and copies
to the device from memory that is not pinned. They are counted.
"""

from __future__ import annotations

import sys
from collections import Counter

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten

_COPIES = {aten._to_copy.default, aten.copy_.default}
_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
_NEED_NUMBERS = {
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default,
    aten.masked_select.default, aten.repeat_interleave.Tensor, aten.unique_consecutive.default,
    aten._unique2.default, aten.multinomial.default,
}  # fmt: skip


class Elsewhere(Tensor):
    """A tensor of the pretended device.

    Attributes:
        inner: its numbers, on the CPU.
    """

    is_cuda, is_meta = True, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=DEVICE,
        )  # fmt: skip

    def __init__(self, inner):
        self.inner = inner

    def tolist(self):
        """As torch does it, which refuses other classes: by way of the CPU."""
        return self.cpu().tolist()

    def __repr__(self):
        return f"Elsewhere({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func}: enter a PretendDevice first")


class PretendDevice(TorchDispatchMode):
    """While it is entered, tensors can be on DEVICE.

    Attributes:
        waits: operations for which the CPU would wait, counted by name.
    """

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in tensors if isinstance(x, Elsewhere)]
        goes = _result_is_there(func, args, kwargs, there)
        if not (there or goes):
            return func(*args, **kwargs)
        if func in _COPIES:
            self._count_copy(func, args, kwargs, goes)
        else:
            self._check(func, args, [x for x in tensors if not isinstance(x, Elsewhere)], there)
        if "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if not goes:
            return result
        known = {id(x.inner): x for x in there}
        return tree_map(lambda x: _wrapped(x, known), result)

    def _count_copy(self, func, args, kwargs, goes):
        source = args[0] if func is aten._to_copy.default else args[1]
        asynchronous = kwargs.get("non_blocking", False) or args[2:3] == (True,)
        if isinstance(source, Elsewhere) != goes and not (goes and asynchronous):
            self.waits["sent" if goes else "read"] += 1

    def _check(self, func, args, here, there):
        indices = [x for x in args[1] if x is not None] if func in _INDEXING else []
        # A GPU is sent the indices that it needs, and numbers.
        sent = [x for x in here if any(x is index for index in indices)]
        if sent:
            self.waits["sent"] += len(sent)
        mixed = [x for x in here if x.dim() and not any(x is each for each in sent)]
        if mixed and there:
            shapes = [tuple(x.shape) for x in mixed]
            raise RuntimeError(f"{func}: tensors on two devices, those on the CPU are {shapes}")
        if func in _NEED_NUMBERS or any(x.dtype == torch.bool for x in indices):
            self.waits["read"] += 1


def prepare_torch(monkeypatch):
    """Random generators, fused optimizers and `Module.to` for DEVICE, all on the CPU in truth."""

    class Anywhere(torch.Generator):
        def __new__(cls, device="cpu"):
            return super().__new__(cls, "cpu")

    monkeypatch.setattr(torch, "Generator", Anywhere)
    optimizer = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(
        optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", DEVICE.type]
    )
    # A module's parameters stay the same objects, as on the way to a GPU.
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)


def _result_is_there(func, args, kwargs, there):
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]) == DEVICE
    if func is aten.copy_.default:
        return isinstance(args[0], Elsewhere)
    return bool(there)


def _wrapped(value, known):
    """An in-place operation's result is its input, the tensor itself."""
    if not isinstance(value, Tensor):
        return value
    return known[id(value)] if id(value) in known else Elsewhere(value)


def _inner(value):
    return value.inner if isinstance(value, Elsewhere) else value


class NoCheckpoints:
    """Checkpoints of a training that saves nothing: the device's tensors have no bytes."""

    last = None

    def load(self):
        return None

    def offer(self, state):
        pass

    def save(self, state):
        pass
