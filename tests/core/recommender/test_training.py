from __future__ import annotations

import numpy as np
import pytest
import torch

from macrec_core.adamw import AdamW
from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError
from macrec_core.progress import Silent
from macrec_core.recommender import updates
from macrec_core.recommender.decoding import beam_search, prepare
from macrec_core.recommender.hugging_face import save_t5
from macrec_core.recommender.losses import next_token_loss
from macrec_core.recommender.training import new_t5, train_recommender
from macrec_core.runtime import Runtime, generator


@pytest.fixture
def train(cpu, tmp_path):
    """Trains with a checkpoint folder of its own; a checkpoint at the end only."""
    runs = iter(range(1000))

    def run(data, params, seed=0, checkpoints=None):
        checkpoints = checkpoints or Checkpoints(tmp_path / f"run{next(runs)}", 1e9)
        return train_recommender(data, params, seed, cpu, checkpoints, Silent())

    return run


def saved_bytes(trained, folder):
    folder.mkdir(exist_ok=True)
    save_t5(trained.model, folder, 2)
    return (folder / "model.safetensors").read_bytes()


def test_a_provable_successor_is_learned(train, successors, committed_params, make_training_data,
                                         tiny_gr):  # fmt: skip
    interactions, codes = successors
    text = {"text": codes["text"]}
    seq2seq = committed_params.seq2seq.model_copy(update={"tasks": ["recommend"], "max_history": 2})
    data = make_training_data(interactions, text, seq2seq, 8)
    params = tiny_gr.model_copy(
        update={"d_model": 32, "d_ff": 64, "batch_size": 32, "learning_rate": 0.01,
                "max_epochs": 60, "patience": 60}
    )  # fmt: skip
    trained = train(data, params)
    validation = data.validation
    source = validation.source["text"].packed(torch.arange(40))
    beams = beam_search(
        trained.model, prepare(trained.model, source), validation.tries["text"],
        validation.level_offsets["text"], 5,
    )  # fmt: skip
    trie = validation.tries["text"]
    first = trie.members[trie.member_offsets[beams.ids[:, 0].numpy()]]
    assert np.mean(first == validation.target_items.numpy()) >= 0.95
    assert trained.history[-1]["validation_loss"] < 0.3 * trained.history[0]["validation_loss"]


@pytest.mark.parametrize(
    ("micro", "reduction", "factor"),
    # Eq. 19 sums over an ID's L + 1 = 3 tokens.
    [(300, "sum", 3), (100_000, "sum", 3), (40, "mean", 1)],
)
def test_micro_batches_give_the_gradient_of_one_big_batch(
    train, toy, tiny_gr, monkeypatch, micro, reduction, factor
):
    # Plain gradient descent of rate 1 for one update: the change of weights is the gradient.
    monkeypatch.setattr(updates, "AdamW", lambda weights, lr, **_: torch.optim.SGD(weights, lr))
    params = tiny_gr.model_copy(
        update={"batch_size": 1000, "micro_batch_tokens": micro, "max_steps": 1,
                "token_reduction": reduction, "learning_rate": 1.0, "warmup_fraction": 0.0,
                "max_grad_norm": 1e9}
    )  # fmt: skip
    trained = train(toy, params, seed=5)
    expected = new_t5(toy.vocabulary_size, params, generator(5, "gr-weights"))
    source = toy.examples.source.packed(torch.arange(len(toy.examples)))
    loss = next_token_loss(expected, source, toy.examples.target.long(), 0.0)
    loss.backward()
    row = trained.history[0]
    assert row["rec"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert row["loss"] == pytest.approx(factor * row["rec"], rel=1e-6)
    for (name, found), weights in zip(
        trained.model.named_parameters(), expected.parameters(), strict=True
    ):
        torch.testing.assert_close(
            found, weights.detach() - factor * weights.grad, rtol=1e-4, atol=2e-5, msg=name
        )


@pytest.mark.parametrize(("reduction", "tokens"), [("sum", 3), ("mean", 1)])
def test_the_reported_loss_adds_the_weighted_implicit_term(train, toy, tiny_gr, reduction, tokens):
    update = {"lambda_implicit": 0.5, "max_epochs": 1, "token_reduction": reduction}
    row = train(toy, tiny_gr.model_copy(update=update)).history[0]
    assert row["implicit"] > 0
    assert row["loss"] == pytest.approx(tokens * row["rec"] + 0.5 * row["implicit"], rel=1e-6)


def test_without_weight_the_implicit_term_is_not_computed(train, toy, tiny_gr, caplog):
    params = tiny_gr.model_copy(update={"max_steps": 1, "implicit_batch_size": 1000})
    assert "implicit" not in train(toy, params).history[0]
    assert "implicit_batch_size" not in caplog.text


@pytest.mark.parametrize(("size", "told"), [(30, False), (31, True)])
def test_an_implicit_batch_larger_than_the_catalogue_is_told(
    train, toy, tiny_gr, caplog, size, told
):
    update = {"lambda_implicit": 0.5, "max_steps": 1, "implicit_batch_size": size}
    assert train(toy, tiny_gr.model_copy(update=update)).history[0]["implicit"] > 0
    message = "gr.implicit_batch_size=31: the catalogue has 30 items, all of them are drawn"
    assert (message in caplog.text) == told


def test_implicit_alignment_brings_the_two_ids_of_an_item_together(train, toy, tiny_gr):
    def last(weight):
        params = tiny_gr.model_copy(
            update={"lambda_implicit": weight, "max_epochs": 8, "learning_rate": 0.01}
        )
        return train(toy, params).history[-1]["implicit"]

    assert last(1.0) < 0.8 * last(1e-9)


def test_patience_ends_training_and_the_best_epoch_is_kept(train, toy, tiny_gr):
    # So small a rate changes nothing: no epoch is better than the first.
    params = tiny_gr.model_copy(
        update={"learning_rate": 1e-30, "weight_decay": 0.0, "max_epochs": 9, "patience": 2}
    )
    trained = train(toy, params)
    assert trained.stopped_by == "patience"
    assert trained.best_epoch == 1
    assert [row["epoch"] for row in trained.history] == [1, 2, 3]


def test_the_weights_returned_are_those_of_the_best_epoch(train, toy, tiny_gr, monkeypatch):
    script, seen = [3.0, 1.0, 2.0, 1.0, 4.0], []

    def scripted(model, *_):
        seen.append({name: weights.clone() for name, weights in model.state_dict().items()})
        return script[len(seen) - 1]

    monkeypatch.setattr("macrec_core.recommender.training.validation_loss", scripted)
    trained = train(toy, tiny_gr.model_copy(update={"max_epochs": 5}))
    # The first of two equal values: a tie is no improvement.
    assert trained.best_epoch == 2
    assert [row["validation_loss"] for row in trained.history] == script
    found = trained.model.state_dict()
    assert all(torch.equal(found[name], weights) for name, weights in seen[1].items())
    assert not all(torch.equal(found[name], weights) for name, weights in seen[4].items())
    assert not trained.model.training


def test_the_best_epoch_may_be_chosen_by_ndcg(train, toy, tiny_gr):
    params = tiny_gr.model_copy(
        update={"select_by": "ndcg@10", "max_epochs": 6, "learning_rate": 0.01}
    )
    trained = train(toy, params)
    values = [row["validation_ndcg@10"] for row in trained.history]
    assert trained.best_epoch == 1 + int(np.argmax(values))
    assert max(values) > 0


@pytest.mark.parametrize(("max_steps", "updates"), [(5, None), (1, [1.0])])
def test_a_budget_of_updates_is_kept_and_reported(train, toy, tiny_gr, max_steps, updates):
    params = tiny_gr.model_copy(
        update={"max_steps": max_steps, "max_epochs": 50, "batch_size": 400}
    )
    steps_an_epoch = -(-len(toy.examples) // 400)
    assert 1 < steps_an_epoch < 5
    trained = train(toy, params)
    assert trained.stopped_by == "max_steps"
    ends = [*np.arange(steps_an_epoch, max_steps, steps_an_epoch).tolist(), max_steps]
    assert [row["update"] for row in trained.history] == ends
    assert updates is None or ends == updates


def test_epochs_end_training_where_no_budget_does(train, toy, tiny_gr):
    trained = train(toy, tiny_gr)
    assert trained.stopped_by == "max_epochs"
    assert len(trained.history) == 2
    assert trained.history[-1]["update"] == 2 * -(-len(toy.examples) // 64)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(train, toy, tiny_gr, tmp_path):
    params = tiny_gr.model_copy(update={"dropout": 0.1, "lambda_implicit": 0.01})
    first = saved_bytes(train(toy, params, seed=3), tmp_path / "a")
    torch.rand(17)  # the state of the global generator does not matter
    assert saved_bytes(train(toy, params, seed=3), tmp_path / "b") == first
    assert saved_bytes(train(toy, params, seed=4), tmp_path / "c") != first


class Interrupted(Exception):
    """Stands for a kill right after a save."""


class Mortal(Checkpoints):
    """Dies right after the given number of saves."""

    def __init__(self, folder, lives):
        super().__init__(folder, 0.0)
        self.lives = lives

    def save(self, state):
        super().save(state)
        self.lives -= 1
        if self.lives == 0:
            raise Interrupted


def test_a_training_killed_at_any_save_goes_on_to_the_same_result(train, toy, tiny_gr, tmp_path):
    params = tiny_gr.model_copy(
        update={"dropout": 0.1, "lambda_implicit": 0.01, "batch_size": 300, "max_epochs": 3,
                "select_by": "ndcg@10"}
    )  # fmt: skip
    whole = train(toy, params)
    expected = saved_bytes(whole, tmp_path / "whole")
    saves = 0
    while True:
        folder = tmp_path / f"killed{saves}"
        try:
            train(toy, params, checkpoints=Mortal(folder, saves + 1))
        except Interrupted:
            saves += 1
        else:
            break
        resumed = train(toy, params, checkpoints=Checkpoints(folder, 0.0))
        assert resumed.history == whole.history, f"killed after save {saves}"
        assert (resumed.best_epoch, resumed.stopped_by) == (whole.best_epoch, whole.stopped_by)
        assert saved_bytes(resumed, tmp_path / f"resumed{saves}") == expected
    # One save an update, one after each epoch's validation.
    assert saves >= whole.history[-1]["update"] + len(whole.history)


def test_a_finished_training_is_exported_again_without_training(
    train, toy, tiny_gr, tmp_path, monkeypatch
):
    folder = tmp_path / "done"
    first = train(toy, tiny_gr, checkpoints=Checkpoints(folder, 1e9))
    # What only further updates would need is not kept.
    assert Checkpoints(folder, 1e9).load()["optimizer"] is None
    monkeypatch.setattr(
        "macrec_core.recommender.training.update",
        lambda *_: pytest.fail("a finished training was trained on"),
    )
    again = train(toy, tiny_gr, checkpoints=Checkpoints(folder, 1e9))
    assert saved_bytes(again, tmp_path / "b") == saved_bytes(first, tmp_path / "a")
    assert again.history == first.history


def test_a_loss_that_is_no_number_is_an_error_naming_update_and_learning_rate(train, toy, tiny_gr):
    params = tiny_gr.model_copy(update={"learning_rate": 1e30, "warmup_fraction": 0.0})
    with pytest.raises(
        MacrecError,
        match=r"loss is .*norm nan at update 2, learning rate \d.*lower gr\.learning_rate",
    ):
        train(toy, params)


@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_the_remedy_names_a_precision_only_where_it_helps(toy, tiny_gr, tmp_path, half):
    params = tiny_gr.model_copy(update={"learning_rate": 1e30, "warmup_fraction": 0.0})
    runtime = Runtime(torch.device("cpu"), half)
    with pytest.raises(MacrecError) as caught:
        train_recommender(toy, params, 0, runtime, Checkpoints(tmp_path, 1e9), Silent())
    precision = " or set runtime.precision to 'float32'" if half is torch.bfloat16 else ""
    assert f"; lower gr.learning_rate{precision} (last good" in str(caught.value)


def test_a_validation_value_that_is_no_number_is_an_error(train, toy, tiny_gr, monkeypatch):
    monkeypatch.setattr("macrec_core.recommender.training.validation_loss", lambda *_: float("nan"))
    message = r"validation loss nan after update 5; lower gr\.learning_rate"
    with pytest.raises(MacrecError, match=message):
        train(toy, tiny_gr.model_copy(update={"max_steps": 5}))


def test_the_learning_rate_warms_up_and_falls_to_zero(train, toy, tiny_gr, monkeypatch):
    rates = []
    plain = AdamW.step

    def step(self, *arguments, **named):
        rates.append(self.param_groups[0]["lr"])
        return plain(self, *arguments, **named)

    monkeypatch.setattr(AdamW, "step", step)
    params = tiny_gr.model_copy(
        update={"max_steps": 10, "warmup_fraction": 0.2, "learning_rate": 0.01}
    )
    train(toy, params)
    cosine = [0.005 * (1 + np.cos(np.pi * done / 8)) for done in range(8)]
    assert rates == pytest.approx([0.005, 0.01, *cosine])
