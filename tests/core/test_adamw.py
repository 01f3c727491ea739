from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from macrec_core.adamw import AdamW


@pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}])
def test_it_is_torchs_own_to_the_last_bit(kind):
    found = []
    for optimizer_class in (torch.optim.AdamW, AdamW):
        draws = torch.Generator().manual_seed(0)
        weights = torch.nn.Parameter(torch.randn(50, generator=draws))
        optimizer = optimizer_class([weights], 0.1, weight_decay=0.2, **kind)
        for step in range(6):
            optimizer.zero_grad()
            (weights * torch.randn(50, generator=draws)).sum().backward()
            optimizer.step()
            if step == 3:  # as a training that goes on from a checkpoint
                saved = optimizer.state_dict()
                optimizer = optimizer_class([weights], 0.1, weight_decay=0.2, **kind)
                optimizer.load_state_dict(saved)
        found.append(weights.detach())
    assert torch.equal(*found)
    assert not torch.equal(found[0], torch.randn(50, generator=torch.Generator().manual_seed(0)))


def test_it_loads_no_compiler():
    program = (
        "import sys, torch; from macrec_core.adamw import AdamW\n"
        "w = torch.nn.Parameter(torch.ones(2)); o = AdamW([w], 0.1, fused=True)\n"
        "o.zero_grad(); w.sum().backward(); o.step(); o.load_state_dict(o.state_dict())\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
