"""A small quantizer section and small embeddings with shared structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from macrec_core.params.quantizer import QuantParams
from macrec_core.quantization.training import QuantizerData

SECTION = {
    "codebook_size": 6,
    "num_levels": 3,
    "latent_dim": 4,
    "common_width": 12,
    "hidden_sizes": [16, 8],
    "standardize": "unit_norm",
    "lambda_con": [0.0, 0.1, 0.1],
    "lambda_align": 0.001,
    "temperature": 0.1,
    "commitment_weight": 0.25,
    "similarity": "inner_product",
    "reduction": "sum",
    "positives": "pseudo_label",
    "residual_gradient": "flows",
    "lambda_collab": 0.0,
    "lambda_diversity": 0.0,
    "diversity_clusters": 3,
    "batch_size": 32,
    "max_epochs": 4,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "kmeans_iterations": 5,
    "evaluate_every": 2,
}


@pytest.fixture(autouse=True)
def one_thread_and_known_weights():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def section():
    """Makes a valid `quant` section with changes."""

    def make(**changes):
        return QuantParams.model_validate(SECTION | changes)

    return make


@pytest.fixture
def data():
    """80 items of two modalities, each of whose pseudo-labels its embeddings show."""
    rng = np.random.default_rng(11)
    embeddings, labels = {}, {}
    for name, width, clusters in (("text", 12, 8), ("image", 9, 6)):
        owner = rng.integers(0, clusters, 80)
        values = rng.normal(size=(clusters, width))[owner] + 0.2 * rng.normal(size=(80, width))
        embeddings[name] = torch.tensor(values, dtype=torch.float32)
        labels[name] = torch.tensor(owner)
    return QuantizerData(embeddings, labels)
