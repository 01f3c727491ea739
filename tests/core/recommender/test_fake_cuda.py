"""Training, validation and evaluation where the data is not on the CPU, as on a GPU.

What a machine without one cannot show otherwise: that no operation mixes devices, that the
layout of other devices computes the same, and where the CPU would wait for a GPU.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from pretend_device import DEVICE, Elsewhere, NoCheckpoints, PretendDevice, prepare_torch

from macrec_core.progress import Silent
from macrec_core.ranking import Cases
from macrec_core.recommender import packing
from macrec_core.recommender.evaluation import Decodable, evaluate_recommender
from macrec_core.recommender.training import new_t5, train_recommender
from macrec_core.recommender.updates import State, update
from macrec_core.runtime import Runtime, generator


@pytest.fixture
def device(monkeypatch):
    prepare_torch(monkeypatch)
    # Several chunks of sequences also at the toy's size.
    monkeypatch.setattr(packing, "_CHUNK_SEQUENCES", 16)
    return PretendDevice()


@pytest.fixture(scope="module")
def gr(tiny_gr):
    return tiny_gr.model_copy(
        update={"num_layers": 2, "select_by": "ndcg@10", "lambda_implicit": 0.1,
                "learning_rate": 0.003, "batch_size": 256, "micro_batch_tokens": 2048}
    )  # fmt: skip


def trained(data, gr, mode=None, autocast=None):
    place = torch.device("cpu") if mode is None else DEVICE
    with mode or nullcontext():
        return train_recommender(data, gr, 0, Runtime(place, autocast), NoCheckpoints(), Silent())


def evaluated(model, data, params, mode=None):
    place = torch.device("cpu") if mode is None else DEVICE
    valid = data.validation
    parts = {
        name: Decodable(source, valid.tries[name], valid.level_offsets[name])
        for name, source in valid.source.items()
    }
    targets = valid.target_items.numpy()
    users = np.arange(len(targets))
    # Each has bought the item before their target, which always follows it.
    cases = Cases(users, targets, targets - 1 + 30 * (targets == 0), np.arange(len(users) + 1))
    with mode or nullcontext():
        return evaluate_recommender(
            model, parts, targets, params, Runtime(place, None), Silent(), cases
        )


def test_a_training_gives_the_weights_and_values_that_it_gives_on_a_cpu(device, toy, gr):
    found, expected = trained(toy, gr, device), trained(toy, gr)
    for row, other in zip(found.history, expected.history, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    for name, weight in expected.model.named_parameters():
        torch.testing.assert_close(
            found.model.get_parameter(name), weight, rtol=1e-3, atol=1e-4, msg=name
        )


def test_an_evaluation_ranks_as_on_a_cpu(device, toy, make_t5, committed_params):
    params = committed_params.eval.model_copy(update={"num_beams": 5, "batch_size": 16})
    model = make_t5(toy.vocabulary_size)
    expected = evaluated(model, toy, params)
    found = evaluated(model, toy, params, device)
    for name, ranks in expected.ranks.items():
        np.testing.assert_array_equal(found.ranks[name], ranks)
        np.testing.assert_array_equal(found.unseen.ranks[name], expected.unseen.ranks[name])
        np.testing.assert_allclose(
            found.rankings[name].scores, expected.rankings[name].scores, rtol=1e-5
        )


def test_dropout_and_bfloat16_mix_no_devices(device, toy, gr):
    params = gr.model_copy(update={"dropout": 0.1, "max_steps": 1, "select_by": "loss"})
    (row,) = trained(toy, params, device, torch.bfloat16).history
    assert np.isfinite(list(row.values())).all()


def test_an_update_never_waits(device, toy, gr):
    with device:
        data = toy.to(DEVICE)
        model = new_t5(toy.vocabulary_size, gr, generator(0, "test")).to(DEVICE)
        state = State(model, gr)
        device.waits.clear()
        for step in range(3):
            update(state, data.examples, torch.arange(200) + step, 1e-3, gr, 0,
                   Runtime(DEVICE, None))  # fmt: skip
        assert not device.waits
        state.look()
        assert device.waits["read"] == 1


def test_decoding_reads_once_a_modality(device, toy, make_t5, committed_params):
    params = committed_params.eval.model_copy(update={"num_beams": 5, "batch_size": 8})
    with device:
        model = make_t5(toy.vocabulary_size).to(DEVICE)
    device.waits.clear()
    evaluated(model, toy, params, device)
    assert device.waits["read"] == 2 * len(toy.validation.source)  # IDs and log-probabilities


# --------------------------------------------------------------- what the pretence itself can tell


def test_mixed_devices_are_an_error_and_waits_are_counted(device):
    with device:
        there = torch.arange(6.0, device=DEVICE).view(2, 3)
        assert isinstance(there, Elsewhere)
        assert there.device == DEVICE
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            there + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            there @ torch.ones(3, 2)
        assert float((there + torch.tensor(1.0)).sum()) == 21.0
        assert device.waits == {"read": 1}
        torch.ones(3).to(DEVICE)
        assert device.waits == {"read": 1, "sent": 1}
        torch.ones(3).to(DEVICE, non_blocking=True)
        assert device.waits == {"read": 1, "sent": 1}
        assert there[torch.tensor([1])].tolist() == [[3.0, 4.0, 5.0]]
        assert device.waits == {"read": 2, "sent": 2}
        assert there[there > 4].shape == (1,)
        assert device.waits["read"] == 3
