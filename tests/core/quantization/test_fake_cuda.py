"""Training of the quantizer where the data is not on the CPU, as on a GPU."""

from __future__ import annotations

import pytest
import torch
from pretend_device import DEVICE, NoCheckpoints, PretendDevice, prepare_torch

from macrec_core.progress import Silent
from macrec_core.quantization.training import QuantizerData, train_quantizer
from macrec_core.runtime import Runtime

LETTER = {"lambda_collab": 0.3, "lambda_diversity": 0.3, "diversity_clusters": 3}


@pytest.mark.parametrize("changes", [{}, {"positives": "none"}, LETTER])
def test_a_training_gives_what_it_gives_on_a_cpu(monkeypatch, committed_params, changes):
    prepare_torch(monkeypatch)
    params = committed_params.quant.model_copy(
        update={"codebook_size": 6, "num_levels": 2, "lambda_con": [0.1, 0.1], "latent_dim": 4,
                "common_width": 12, "hidden_sizes": [8], "batch_size": 32, "max_epochs": 3,
                "evaluate_every": 2, "kmeans_iterations": 2, **changes}
    )  # fmt: skip
    draws = torch.Generator().manual_seed(0)
    data = QuantizerData(
        {
            name: torch.randn(80, width, generator=draws)
            for name, width in (("text", 10), ("image", 6))
        },
        {name: torch.randint(7, (80,), generator=draws) for name in ("text", "image")},
        torch.randn(80, 4, generator=draws),
    )

    def train(device):
        return train_quantizer(data, params, 0, Runtime(device, None), NoCheckpoints(), Silent())

    with PretendDevice():
        found = train(DEVICE)
    expected = train(torch.device("cpu"))
    for row, other in zip(found.history, expected.history, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
