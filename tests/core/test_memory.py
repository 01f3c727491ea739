"""Want of memory as one error, whichever library it comes from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from macrec_core.errors import MacrecError
from macrec_core.memory import out_of_memory_names

HUGE = 1 << 60  # elements; more than any machine's addresses reach


def torch_on_cpu():
    torch.empty(HUGE, dtype=torch.uint8)


def numpy():
    np.ones(HUGE, dtype=np.uint8)


def plain_python():
    bytearray(HUGE)


def raising(error):
    def raise_it():
        raise error

    return raise_it


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
DRIVER = RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`")


@pytest.mark.parametrize(
    "work",
    [torch_on_cpu, numpy, plain_python, raising(CUDA), raising(CUBLAS), raising(DRIVER)],
    ids=["torch", "numpy", "python", "cuda", "cublas", "driver"],
)
def test_want_of_memory_is_one_line_with_the_advice(work):
    with (
        pytest.raises(MacrecError, match=r"memory does not suffice \(.+\); lower it$") as e,
        out_of_memory_names("lower it"),
    ):
        work()
    assert "\n" not in str(e.value)
    assert e.value.__cause__ is not None


def test_how_much_was_asked_for_is_told():
    with pytest.raises(MacrecError, match=str(HUGE)), out_of_memory_names("lower it"):
        torch_on_cpu()


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("x"), KeyError("x")])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as caught, out_of_memory_names("lower it"):
        raise error
    assert caught.value is error


def test_an_inner_block_has_the_say():
    with (
        pytest.raises(MacrecError, match=r"lower the inner$"),
        out_of_memory_names("lower the outer"),
        out_of_memory_names("lower the inner"),
    ):
        torch_on_cpu()


def test_a_function_can_be_decorated_and_called_twice():
    @out_of_memory_names("lower it")
    def work(size):
        return torch.empty(size, dtype=torch.uint8)

    assert len(work(3)) == len(work(3)) == 3
    for _ in range(2):
        with pytest.raises(MacrecError, match="lower it"):
            work(HUGE)
