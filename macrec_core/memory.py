"""One error for memory that does not suffice, whichever library ran out of it.

Nothing here shrinks a batch and tries again: a smaller one is another training, which the
user has to choose. A process that the system kills for want of memory cannot say anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from macrec_core.errors import MacrecError

# Of torch's CPU allocator (Linux and macOS, Windows), of CUDA beside torch's own allocator.
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


@contextmanager
def out_of_memory_names(advice: str) -> Iterator[None]:
    """Turn want of memory in a block, or in a function decorated with it, into a `MacrecError`.

    Args:
        advice: what to do, as in "lower quant.batch_size".

    Raises:
        MacrecError: memory did not suffice; names how much was asked for, and the advice.
    """
    try:
        yield
    except MemoryError as error:  # NumPy's, too
        raise _named(error, advice) from error
    except torch.OutOfMemoryError as error:
        raise _named(error, advice) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise _named(error, advice) from error
        raise


def _named(error: Exception, advice: str) -> MacrecError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return MacrecError(f"memory does not suffice ({reason}); {advice}")
