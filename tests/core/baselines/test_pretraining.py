from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from macrec_core.baselines import pretraining
from macrec_core.baselines.pretraining import pretrain
from macrec_core.baselines.training import train_sequence_model
from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError
from macrec_core.progress import Silent
from macrec_core.runtime import Runtime

CPU = Runtime(torch.device("cpu"), None)


@pytest.fixture
def run(make_model, small_content, tiny, tmp_path):
    """Pre-trains S³-Rec: the model and its history; `folder` names the checkpoint's."""

    def go(folder="run", every_s=1e9, seed=0, epochs=5, **changes):
        params = tiny.model_copy(update={"dropout": 0.3} | changes)
        model = make_model(
            "s3rec", features=small_content.features, seed=seed, spec={"pretrain_epochs": epochs},
            dropout=params.dropout,
        )  # fmt: skip
        checkpoints = Checkpoints(tmp_path / folder, every_s)
        return model, pretrain(
            model, small_content.sequences, params, seed, CPU, checkpoints, Silent()
        )  # fmt: skip

    return go


def test_every_loss_falls_and_stands_in_the_history(run):
    _, history = run(epochs=25, dropout=0.0)
    assert [row["epoch"] for row in history] == list(range(1, 26))
    assert history[-1]["update"] == 25 * 5  # 160 sequences, 32 an update
    for name in ("loss", "aap", "mip", "map", "sp"):
        assert history[-1][name] < history[0][name], name
    first = history[0]
    total = 0.2 * first["aap"] + first["mip"] + first["map"] + 0.5 * first["sp"]
    assert first["loss"] == pytest.approx(total, rel=1e-5)


def test_one_seed_gives_the_same_bytes_and_another_gives_others(run):
    model, history = run("a", epochs=2)
    torch.manual_seed(99)  # the global stream must not matter
    again, same = run("b", epochs=2)
    _, other = run("c", seed=1, epochs=2)
    assert history == same != other
    for name, weights in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weights), name


def test_it_goes_on_from_its_checkpoint_to_the_same_bytes(run, monkeypatch):
    whole, history = run("whole")
    plain, epochs = pretraining._epoch, []

    def interrupted(*arguments):
        if len(epochs) == 3:
            raise KeyboardInterrupt
        epochs.append(1)
        return plain(*arguments)

    monkeypatch.setattr(pretraining, "_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("cut", every_s=0)
    monkeypatch.setattr(pretraining, "_epoch", plain)
    resumed, found = run("cut")
    assert found == history
    for name, weights in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weights), name
    # Once finished, it is not made again.
    monkeypatch.setattr(pretraining, "_epoch", lambda *_: pytest.fail("trained on"))
    exported, found = run("cut")
    assert found == history
    assert torch.equal(exported.items.weight, whole.items.weight)


def test_most_models_have_none(make_model, small_content, tiny, tmp_path):
    model = make_model("sasrec")
    before = {name: w.clone() for name, w in model.state_dict().items()}
    checkpoints = Checkpoints(tmp_path, 0)
    assert pretrain(model, small_content.sequences, tiny, 0, CPU, checkpoints, Silent()) == []
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, before[name])
    with pytest.raises(NotImplementedError, match="SASRec has no pre-training"):
        model.pretrain_losses(small_content.sequences, torch.arange(1), torch.Generator())


def test_nothing_to_learn_from_is_an_error(make_model, small_content, tiny, tmp_path):
    whole = small_content.sequences
    empty = replace(
        whole, **{name: getattr(whole, name)[:0] for name in ("starts", "lengths", "targets")}
    )
    with pytest.raises(MacrecError, match="pre-training: 0 sequences, at least 1 is needed"):
        pretrain(make_model("s3rec"), empty, tiny, 0, CPU, Checkpoints(tmp_path, 1e9), Silent())


def test_a_loss_that_is_no_number_is_an_error(run):
    with pytest.raises(MacrecError, match=r"loss is (nan|inf) in epoch \d+ at learning rate 1e"):
        run(learning_rate=1e30)


@pytest.mark.parametrize(("epochs", "solves"), [(60, True), (0, False)])
def test_new_items_are_understood_by_what_pretraining_saw_of_their_attributes(
    run, small_content, tiny, tmp_path, epochs, solves
):
    model, _ = run(epochs=epochs, dropout=0.1)
    params = tiny.model_copy(update={"learning_rate": 0.003, "max_epochs": 10, "patience": 10})
    trained = train_sequence_model(
        model, small_content.train, small_content.validation, params, 0, CPU,
        Checkpoints(tmp_path, 1e9), Silent(),
    )  # fmt: skip
    share = small_content.share_right(trained.model)
    assert share >= 0.8 if solves else share <= 0.5
