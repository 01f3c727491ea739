"""The toy catalogue of fixed successors as T5 training reads it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def toy(successors, committed_params, make_training_data):
    """Training data of `successors` with histories of up to 20 items."""
    interactions, codes = successors
    seq2seq = committed_params.seq2seq.model_copy(update={"max_history": 20})
    return make_training_data(interactions, codes, seq2seq, 8)
