"""NARM and STAMP against examples worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from math import atanh, exp, tanh

import pytest
import torch

from macrec_core.baselines.histories import Batch
from macrec_core.baselines.narm import NARM
from macrec_core.baselines.stamp import STAMP
from macrec_core.baselines.transformer import Shape

SHAPE = Shape(num_items=3, hidden_size=2, num_layers=1, inner_size=2, dropout=0.0, max_history=3)
PADDING = [1000.0, -1000.0]
# The worked example, beside a history of one item.
BATCH = Batch(torch.tensor([[0, 1, 2], [1, 3, 3]]), torch.tensor([3, 1]), torch.tensor([0, 0]))


@pytest.fixture(autouse=True)
def no_gradient():
    with torch.no_grad():
        yield


def sigmoid(value):
    return 1 / (1 + exp(-value))


def put(weights, values):
    weights.copy_(torch.tensor(values))


@pytest.fixture
def narm():
    """Update and reset gates are 1/2, the candidate is tanh(x): h_j = (tanh(x_j) + h_j-1) / 2."""
    model = NARM(SHAPE, representation_dropout=0.0).eval()
    for weights in model.network.parameters():
        weights.zero_()
    put(model.network.weight_ih_l0[4:], [[1.0, 0.0], [0.0, 1.0]])  # reset, update, candidate
    inputs = [[0.8, 0.0], [0.2, 0.4], [0.6, -0.4]]
    put(model.items.weight, [*[[atanh(value) for value in row] for row in inputs], PADDING])
    put(model.query.weight, [[1.0, 2.0], [0.0, 1.0]])
    put(model.key.weight, [[1.0, 0.0], [3.0, 1.0]])
    put(model.importance.weight, [[2.0, -1.0]])
    put(model.bilinear.weight, [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 2.0, 0.0]])
    return model


STATES = [[0.4, 0.0], [0.3, 0.2], [0.45, -0.1]]


def narm_weights():
    # A_1 h_3 = (0.25, -0.1); A_2 h_j = (0.4, 1.2), (0.3, 1.1), (0.45, 1.25).
    sums = [(0.65, 1.1), (0.55, 1.0), (0.7, 1.15)]
    scores = [exp(2 * sigmoid(first) - sigmoid(second)) for first, second in sums]
    return [score / sum(scores) for score in scores]


def test_narm_weighs_states_against_the_last_one(narm):
    states, _ = narm.network(narm.items(BATCH.items))
    torch.testing.assert_close(states[0], torch.tensor(STATES))
    weights = narm.attention(states, BATCH.last(states), BATCH.inside())
    torch.testing.assert_close(weights, torch.tensor([narm_weights(), [1.0, 0.0, 0.0]]))
    assert weights[0].std() > 0.001


def test_narms_vector_joins_the_last_state_and_the_weighted_mean(narm):
    local = [
        sum(weight * state[axis] for weight, state in zip(narm_weights(), STATES, strict=True))
        for axis in (0, 1)
    ]
    # The single item's state (0.1, 0.2) is its own mean.
    expected = [[0.45 + local[1], -0.1 + 2 * local[0]], [0.1 + 0.2, 0.2 + 2 * 0.1]]
    torch.testing.assert_close(narm.represent(BATCH), torch.tensor(expected))


def test_narm_drops_of_both_vectors_in_training_alone():
    model = NARM(replace(SHAPE, hidden_size=4), representation_dropout=0.5)
    model.initialise(torch.Generator().manual_seed(0))
    put(model.bilinear.weight, torch.eye(4).tolist())
    whole = model.eval().represent(BATCH)
    assert torch.equal(model.represent(BATCH), whole)
    torch.manual_seed(0)
    draws = torch.stack([model.train().represent(BATCH) for _ in range(400)])
    dropped = draws == 0
    # What is kept counts double.
    torch.testing.assert_close(draws, torch.where(dropped, 0.0, 2 * whole))
    assert ((dropped.float().mean(dim=0) - 0.5).abs() < 0.1).all()


@pytest.fixture
def stamp():
    model = STAMP(SHAPE).eval()
    put(model.items.weight, [[1.0, 0.0], [0.0, 1.0], [1.0, 2.0], PADDING])
    put(model.key.weight, [[1.0, 0.0], [1.0, 1.0]])
    put(model.key.bias, [0.0, -1.0])
    put(model.query.weight, [[0.0, 0.5], [0.0, 0.0]])
    put(model.context.weight, [[-1.5, 0.0], [0.0, -1.0]])
    put(model.importance.weight, [[1.0, -2.0]])
    put(model.general.weight, [[1.0, 1.0], [0.0, 1.0]])
    put(model.general.bias, [0.5, 0.0])
    put(model.current.weight, [[0.5, 0.0], [1.0, -0.5]])
    put(model.current.bias, [0.0, 0.25])
    return model


def stamp_weights():
    # m_s = (2/3, 1), x_t = (1, 2): W_2 x_t + W_3 m_s + b_a = (1, 0) + (-1, -1) + (0, -1) = (0, -2);
    # W_1 x_i = (1, 1), (0, 1), (1, 3).
    sums = [(1, -1), (0, -1), (1, 1)]
    return [sigmoid(first) - 2 * sigmoid(second) for first, second in sums]


def test_stamp_weighs_items_by_the_last_one_and_the_mean(stamp, monkeypatch):
    found = []
    plain = stamp.attention
    monkeypatch.setattr(
        stamp, "attention", lambda *arguments: found.append(plain(*arguments)) or found[-1]
    )
    stamp.represent(BATCH)
    # The single item is last and mean: W_2 (0, 1) + W_3 (0, 1) + b_a + W_1 (0, 1) = (0.5, -1).
    single = sigmoid(0.5) - 2 * sigmoid(-1)
    torch.testing.assert_close(found[0], torch.tensor([stamp_weights(), [single, 0.0, 0.0]]))


def test_stamps_score_is_a_trilinear_product(stamp):
    first, second, third = stamp_weights()
    memory = (first + third, second + 2 * third)
    general = tanh(memory[0] + memory[1] + 0.5), tanh(memory[1])
    current = tanh(0.5), tanh(0.25)  # of W_t (1, 2) + b_t
    vector = [general[axis] * current[axis] for axis in (0, 1)]
    torch.testing.assert_close(stamp.represent(BATCH)[0], torch.tensor(vector))
    expected = [vector[0], vector[1], vector[0] + 2 * vector[1]]
    torch.testing.assert_close(stamp.scores(BATCH)[0], torch.tensor(expected))


def test_stamp_drops_of_embeddings_in_training_alone(stamp):
    whole = stamp.represent(BATCH)
    stamp.dropout = 0.5
    assert torch.equal(stamp.represent(BATCH), whole)
    torch.manual_seed(0)
    assert not torch.equal(stamp.train().represent(BATCH), whole)
