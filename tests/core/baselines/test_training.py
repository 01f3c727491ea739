from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from macrec_core.baselines import training
from macrec_core.baselines.evaluation import evaluate_sequence_model
from macrec_core.baselines.training import ranks_of_targets, train_sequence_model
from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError
from macrec_core.metrics import ranking_metrics
from macrec_core.progress import Silent
from macrec_core.runtime import Runtime

from .conftest import NAMES, NUM_ITEMS

every_model = pytest.mark.parametrize("name", NAMES)
CPU = Runtime(torch.device("cpu"), None)


@pytest.fixture
def train(make_model, toy, tiny, tmp_path):
    """Trains a model of the toy; `folder` names the checkpoint's."""

    def run(name="sasrec", seed=0, folder="run", every_s=1e9, **changes):
        params = tiny.model_copy(update=changes)
        model = make_model(name, seed=seed, dropout=params.dropout, hidden_size=params.hidden_size)
        checkpoints = Checkpoints(tmp_path / folder, every_s)
        return train_sequence_model(model, toy[0], toy[1], params, seed, CPU, checkpoints, Silent())

    return run


def weights_of(trained):
    return dict(trained.model.state_dict())


@every_model
def test_items_that_always_follow_each_other_are_learned(train, toy, name):
    # Guessing from both sides takes smaller steps and longer.
    rate, epochs = (0.003, 30) if name == "bert4rec" else (0.02, 15)
    trained = train(name, hidden_size=32, learning_rate=rate, max_epochs=epochs, patience=epochs)
    assert (ranks_of_targets(trained.model, toy[2]) == 1).mean() > 0.95
    assert trained.history[0]["loss"] > 2 * trained.history[-1]["loss"]
    assert not trained.model.training


@every_model
def test_one_seed_gives_the_same_bytes_and_another_gives_others(train, name):
    settings = {"dropout": 0.3, "max_epochs": 2}
    first = train(name, folder="a", **settings)
    torch.manual_seed(99)  # the global stream must not matter
    again = train(name, folder="b", **settings)
    other = train(name, seed=1, folder="c", **settings)
    assert again.history == first.history
    for label, weights in weights_of(first).items():
        assert torch.equal(weights_of(again)[label], weights), label
    assert other.history != first.history


@every_model
def test_a_training_goes_on_from_its_checkpoint_to_the_same_bytes(train, monkeypatch, name):
    settings = {"dropout": 0.3, "max_epochs": 5}
    whole = train(name, folder="whole", **settings)
    plain, epochs = training._epoch, []

    def interrupted(*arguments):
        if len(epochs) == 3:
            raise KeyboardInterrupt
        epochs.append(1)
        return plain(*arguments)

    monkeypatch.setattr(training, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(name, folder="cut", every_s=0, **settings)
    monkeypatch.setattr(training, "_epoch", plain)
    resumed = train(name, folder="cut", **settings)
    assert resumed.history == whole.history
    for label, weights in weights_of(whole).items():
        assert torch.equal(weights_of(resumed)[label], weights), label


def test_a_finished_training_is_not_trained_on(train, monkeypatch):
    first = train(max_epochs=3)
    monkeypatch.setattr(training, "_epoch", lambda *_: pytest.fail("trained on"))
    again = train(max_epochs=3)
    assert again.history == first.history
    assert (again.best_epoch, again.stopped_by) == (first.best_epoch, first.stopped_by)


def test_the_epoch_that_ranks_best_is_kept_and_patience_ends_the_training(train, monkeypatch):
    values = iter([0.1, 0.3, 0.2, 0.3, 0.1, 0.9])
    kept = []
    plain = training._epoch

    def recorded(model, *rest):
        loss = plain(model, *rest)
        kept.append({name: t.clone() for name, t in model.state_dict().items()})
        return loss

    monkeypatch.setattr(training, "_epoch", recorded)
    monkeypatch.setattr(training, "ranks_of_targets", lambda *_: None)
    monkeypatch.setattr(training, "ranking_metrics", lambda _: {"ndcg@10": next(values)})
    trained = train(patience=3)
    # An equal value is no better one.
    assert (trained.best_epoch, trained.stopped_by, len(kept)) == (2, "patience", 5)
    for name, weights in weights_of(trained).items():
        assert torch.equal(weights, kept[1][name])


def test_nothing_to_learn_from_is_an_error(train, toy, make_model, tiny, tmp_path):
    empty = replace(toy[0], **{n: getattr(toy[0], n)[:0] for n in ("starts", "lengths", "targets")})
    for parts, what in (((empty, toy[1]), "training"), ((toy[0], empty), "validation")):
        with pytest.raises(MacrecError, match=rf"{what}: 0 examples, at least 1 is needed"):
            train_sequence_model(
                make_model("sasrec"), *parts, tiny, 0, CPU, Checkpoints(tmp_path, 1e9), Silent()
            )


def test_a_model_of_fewer_items_is_an_error(make_model, toy):
    _, _, histories, cases = toy
    with pytest.raises(MacrecError, match=r"name item 29, the model knows 0\.\.\.9; run train"):
        evaluate_sequence_model("x", make_model("sasrec", 10), histories, cases, 5, CPU)


def test_updates_are_counted(train, toy):
    trained = train(max_epochs=2)
    an_epoch = -(-len(toy[0]) // 32)
    assert [row["update"] for row in trained.history] == [an_epoch, 2 * an_epoch]
    assert trained.stopped_by == "max_epochs"


def test_every_example_counts_once_an_epoch(make_model, toy, tiny, monkeypatch):
    seen = []
    model = make_model("sasrec")
    plain = model.loss

    def recorded(batch, draws):
        seen.append(batch.targets)
        return plain(batch, draws)

    model.loss = recorded
    optimizer = SimpleNamespace(zero_grad=lambda **_: None, step=lambda: None)
    loss = training._epoch(model, optimizer, toy[0], tiny, 0, 0, CPU, None)
    assert sorted(torch.cat(seen).tolist()) == sorted(toy[0].targets.tolist())
    # Nothing was updated, so the mean loss is that of one batch with everything.
    everything = plain(toy[0].batch(torch.arange(len(toy[0]))), torch.Generator()).detach()
    assert loss == pytest.approx(float(everything) / len(toy[0]), rel=1e-5)


def test_a_loss_that_is_no_number_names_epoch_learning_rate_and_remedy(train):
    with pytest.raises(
        MacrecError,
        match=r"loss is (nan|inf) in epoch \d+ at learning rate 1e\+30; lower "
        r"sequential\.learning_rate \(last good checkpoint: none was saved\)",
    ):
        train(learning_rate=1e30)


@every_model
def test_ranks_of_validation_and_evaluation_agree(make_model, toy, name):
    model = make_model(name, scale=5.0)
    _, _, histories, cases = toy
    found = evaluate_sequence_model(name, model, histories, cases, 7, CPU)
    ranks = ranks_of_targets(model, histories)
    assert found.ranks[name].tolist() == ranks.tolist()
    assert ranking_metrics(ranks)["hr@10"] < 1
    ranking = found.rankings[name]
    assert np.diff(ranking.offsets).tolist() == [7] * len(cases)
    # Scores are log-probabilities of all items.
    batch = histories.batch(torch.arange(len(cases)))
    expected = model.scores(batch).log_softmax(1).detach().numpy()
    np.testing.assert_allclose(ranking.scores, expected[ranking.users, ranking.items], rtol=1e-5)


def test_unseen_items_are_all_but_those_of_the_history(make_model, toy):
    _, _, histories, cases = toy
    model = make_model("sasrec", scale=5.0)
    found = evaluate_sequence_model("x", model, histories, cases, NUM_ITEMS, CPU).unseen
    for user, history in enumerate(cases.histories):
        part = slice(found.rankings["x"].offsets[user], found.rankings["x"].offsets[user + 1])
        items = found.rankings["x"].items[part].tolist()
        assert sorted(items) == sorted(set(range(NUM_ITEMS)) - set(history.tolist()))
