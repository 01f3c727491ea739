from __future__ import annotations

import io
import math

import pytest
import torch
from torch.nn import functional

from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError
from macrec_core.processes import Processes
from macrec_core.progress import Silent
from macrec_core.recommender import updates as module
from macrec_core.recommender.batches import epoch_batches
from macrec_core.recommender.hugging_face import to_names
from macrec_core.recommender.training import new_t5, train_recommender
from macrec_core.recommender.updates import Examples, State, learning_rate, update
from macrec_core.runtime import Runtime, generator

WORDS, COUNT = 30, 40


@pytest.fixture
def data(pack, cpu):
    """Forty random examples and ten items of two modalities."""
    draws = torch.Generator().manual_seed(4)
    lengths = torch.randint(1, 12, (COUNT,), generator=draws)
    mask = torch.arange(12) < lengths[:, None]
    source = torch.randint(2, WORDS, mask.shape, generator=draws) * mask
    offsets = torch.cat([torch.zeros(1).long(), lengths.cumsum(0)])
    ids = {m: torch.randint(2, WORDS, (10, 3), generator=draws) for m in ("text", "image")}
    return Examples(
        module.Sequences(source[mask].int(), offsets),
        torch.randint(1, WORDS, (COUNT, 3), generator=draws),
        ids,
        item_tokens=3,
        first_code=2,
    )


@pytest.fixture
def new_state(tiny_gr, cpu):
    def make(params=tiny_gr):
        return State(new_t5(WORDS, params, generator(0, "weights")), params)

    return make


class Elsewhere(torch.Tensor):
    """Values that pretend to be on a GPU, where nobody looks at each of them at once."""

    device = property(lambda _: torch.device("cuda"))


def elsewhere(**values):
    return {name: torch.as_tensor(v).detach().as_subclass(Elsewhere) for name, v in values.items()}


def noted(state, losses, norms=None):
    """Updates whose losses stay unseen for a while, at rates 0.1, 0.2, ..."""
    for place, loss in enumerate(losses):
        state.step += 1
        norm = 1.0 if norms is None else norms[place]
        state.note(elsewhere(rec=loss / 2, loss=loss, norm=norm), 0.1 * (place + 1))


@pytest.fixture
def seen_late(monkeypatch):
    """Makes every update of a training look as if it were made on a GPU."""

    def start():
        plain = State.note
        monkeypatch.setattr(
            State, "note", lambda self, values, rate: plain(self, elsewhere(**values), rate)
        )

    return start


# ------------------------------------------------------------------------------ losses


def test_losses_on_a_gpu_are_looked_at_many_at_once(new_state):
    state = new_state()
    noted(state, [1.0] * (module._UPDATES_A_LOOK - 1))
    assert state.sums == {}
    noted(state, [2.0])
    count = module._UPDATES_A_LOOK
    assert state.sums == {"rec": (count + 1) / 2, "loss": count + 1.0, "updates": count}
    noted(state, [4.0])
    assert state.sums["updates"] == count
    assert state.snapshot()["sums"]["updates"] == count + 1  # a save looks first
    state.look()
    assert state.sums["updates"] == count + 1


def test_losses_on_a_cpu_are_looked_at_at_once(new_state):
    state = new_state()
    state.step = 1
    state.note({"loss": torch.tensor(3.0), "norm": torch.tensor(1.0)}, 0.1)
    assert state.sums == {"loss": 3.0, "updates": 1.0}


def test_when_losses_are_looked_at_does_not_change_their_sum(new_state):
    losses = torch.rand(33, generator=torch.Generator().manual_seed(1)).tolist()
    late, early = new_state(), new_state()
    noted(late, losses)
    late.look()
    for loss in losses:
        noted(early, [loss])
        early.look()
    assert late.sums == early.sums


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 4, 7])
def test_a_bad_loss_seen_late_is_named_by_its_own_update_and_rate(new_state, place, bad):
    state = new_state()
    noted(state, [1.0] * module._UPDATES_A_LOOK)  # seen, and fine
    losses = [1.0] * 8
    losses[place] = bad
    noted(state, losses)
    number, rate = module._UPDATES_A_LOOK + place + 1, 0.1 * (place + 1)
    with pytest.raises(MacrecError, match=f"at update {number}, learning rate {rate:.3g};"):
        state.look()


def test_the_first_of_many_bad_losses_is_named(new_state):
    with pytest.raises(MacrecError, match=r"loss is inf.* at update 3, learning rate 0\.3;"):
        noted(new_state(), [1.0, 1.0, math.inf] + [math.nan] * 17)


def test_a_bad_gradient_norm_is_told_though_the_loss_is_fine(new_state):
    state = new_state()
    noted(state, [1.0, 2.0], [1.0, math.nan])
    with pytest.raises(MacrecError, match=r"loss is 2\.0, gradient norm nan at update 2"):
        state.look()


def test_no_snapshot_is_made_after_a_bad_loss_however_often_one_is_asked_for(new_state):
    state = new_state()
    noted(state, [1.0, math.nan, 1.0])
    for _ in range(3):
        with pytest.raises(MacrecError, match="at update 2"):
            state.snapshot()


def test_a_training_whose_losses_are_seen_late_saves_nothing_bad(
    toy, tiny_gr, cpu, tmp_path, seen_late
):
    seen_late()
    params = tiny_gr.model_copy(
        update={"learning_rate": 1e30, "warmup_fraction": 0.0, "batch_size": 20}
    )
    at_the_end = Checkpoints(tmp_path / "end", 1e9)
    with pytest.raises(MacrecError, match="at update 2, learning rate"):
        train_recommender(toy, params, 0, cpu, at_the_end, Silent())
    assert at_the_end.load() is None
    # Saved at every chance: the good first update is what remains.
    every = Checkpoints(tmp_path / "every", 0.0)
    with pytest.raises(MacrecError, match="at update 2, learning rate"):
        train_recommender(toy, params, 0, cpu, every, Silent())
    saved = every.load()
    assert saved["step"] == 1
    assert all(torch.isfinite(weights).all() for weights in saved["model"].values())


def test_a_training_whose_losses_are_seen_late_tells_the_same(
    toy, tiny_gr, cpu, tmp_path, seen_late
):
    def history(name):
        checkpoints = Checkpoints(tmp_path / name, 1e9)
        return train_recommender(toy, tiny_gr, 0, cpu, checkpoints, Silent()).history

    at_once = history("at once")
    seen_late()
    assert history("late") == at_once


# ------------------------------------------------------------------------------ schedule


@pytest.mark.parametrize(("total", "fraction", "warmup"), [(10, 0.2, 2), (7, 0.3, 3), (5, 0.0, 0)])
def test_the_learning_rate_by_its_formula(tiny_gr, total, fraction, warmup):
    params = tiny_gr.model_copy(update={"learning_rate": 0.4, "warmup_fraction": fraction})
    found = [learning_rate(step, total, params) for step in range(total)]
    up = [0.4 * (step + 1) / warmup for step in range(warmup)]
    left = total - warmup
    down = [0.2 * (1 + math.cos(math.pi * done / left)) for done in range(left)]
    assert found == pytest.approx(up + down)
    assert found[warmup] == pytest.approx(0.4)
    assert learning_rate(total, total, params) == pytest.approx(0.0)


def test_a_training_that_only_warms_up_ends_at_the_full_rate(tiny_gr):
    params = tiny_gr.model_copy(update={"learning_rate": 0.4, "warmup_fraction": 1.0})
    found = [learning_rate(step, 4, params) for step in range(4)]
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4])


# ------------------------------------------------------------------------------ streams


@pytest.fixture
def streams(monkeypatch):
    """Seeds of the dropout streams that updates open, in turn."""
    seeds, plain = [], module.Dropout

    def opened(rate, seed, device):
        seeds.append(seed)
        return plain(rate, seed, device)

    monkeypatch.setattr(module, "Dropout", opened)
    return seeds


def test_every_update_process_and_seed_has_a_dropout_stream_of_its_own(
    new_state, data, tiny_gr, streams
):
    params = tiny_gr.model_copy(update={"dropout": 0.1})
    state, rows = new_state(params), torch.arange(COUNT)

    def one(seed, processes):
        update(state, data, rows, 0.0, params, seed, Runtime(torch.device("cpu"), None, processes))

    for _ in range(3):
        one(0, Processes())
    state.step = 0
    one(1, Processes())
    state.step = 0
    one(0, deaf(1, 2, []))
    assert len(streams) == len(set(streams)) == 5
    state.step = 1
    one(0, Processes())
    assert streams[5] == streams[1]


def deaf(rank, count, sent):
    """One of several processes, which hears nothing from the others; `sent` gets what it sends."""

    class Deaf(Processes):
        def sum_(self, tensors):
            sent.append([tensor.shape for tensor in tensors])

    return Deaf(rank, count)


def test_without_dropout_no_stream_is_opened(new_state, data, tiny_gr, cpu, streams):
    update(new_state(), data, torch.arange(COUNT), 0.1, tiny_gr, 0, cpu)
    assert streams == []


def test_an_update_after_a_resume_is_the_one_that_would_have_been(
    new_state, data, tiny_gr, cpu, streams
):
    params = tiny_gr.model_copy(
        update={"dropout": 0.3, "lambda_implicit": 0.2, "history_dropout": 0.4}
    )
    state = new_state(params)
    for _ in range(2):
        update(state, data, torch.arange(COUNT), 0.01, params, 0, cpu)
    file = io.BytesIO()
    torch.save(state.snapshot(), file)
    file.seek(0)
    resumed = new_state(params)
    resumed.restore(torch.load(file, weights_only=True))
    for either in (state, resumed):
        torch.rand(5)  # the global stream does not matter
        update(either, data, torch.arange(COUNT), 0.01, params, 0, cpu)
    assert streams[2] == streams[3]
    assert streams[2] not in streams[:2]
    assert (resumed.step, resumed.sums) == (state.step, state.sums)
    for one, other in zip(state.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_history_dropout_is_an_update_on_thinned_examples(new_state, data, tiny_gr, cpu):
    rows, seed = torch.tensor([3, 30, 7, 21, 12]), 5
    params = tiny_gr.model_copy(update={"history_dropout": 0.6})
    found, expected, whole = new_state(), new_state(), new_state()
    for step in range(2):  # each update draws anew
        update(found, data, rows, 0.01, params, seed, cpu)
        thin = data.thinned(rows, 0.6, generator(seed, "gr-histories", step))
        update(expected, thin, torch.arange(len(rows)), 0.01, tiny_gr, seed, cpu)
        update(whole, data, rows, 0.01, tiny_gr, seed, cpu)
    weights = [
        torch.cat([w.flatten() for w in state.model.parameters()])
        for state in (found, expected, whole)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


def test_a_process_without_an_example_sends_as_much_as_the_others(new_state, data, tiny_gr):
    state = new_state()
    expected = [*(weights.shape for weights in state.model.parameters()), torch.Size([])]
    sent = []
    # The one example goes to the first process.
    second = Runtime(torch.device("cpu"), None, deaf(1, 2, sent))
    update(state, data, torch.tensor([3]), 0.1, tiny_gr, 0, second)
    assert sent == [expected]


# ------------------------------------------------------------------------------ the whole


def implicit_by_hand(reference, ids, items, temperature):
    """Eqs. 14-18 with cosine similarity, by Hugging Face's encoder."""
    pooled = [
        functional.normalize(
            reference.encoder(input_ids=tokens[items].long()).last_hidden_state.mean(dim=1)
        )
        for tokens in ids.values()
    ]
    positives = torch.arange(len(items))
    text, image = pooled
    return sum(
        functional.cross_entropy(one @ other.T / temperature, positives)
        for one, other in ((text, image), (image, text))
    )


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_training_is_plain_adamw_on_hugging_faces_t5(
    toy, tiny_gr, cpu, tmp_path, monkeypatch, hugging_face, weight
):
    params = tiny_gr.model_copy(
        update={"num_layers": 2, "batch_size": 100, "micro_batch_tokens": 700, "max_epochs": 2,
                "learning_rate": 0.003, "warmup_fraction": 0.3, "weight_decay": 0.1,
                "max_grad_norm": 0.5, "lambda_implicit": weight, "implicit_similarity": "cosine"}
    )  # fmt: skip
    falling = iter([2.0, 1.0])  # so that the last epoch is the one returned
    monkeypatch.setattr(
        "macrec_core.recommender.training.validation_loss", lambda *_: next(falling)
    )
    checkpoints = Checkpoints(tmp_path, 1e9)
    trained = train_recommender(toy, params, 5, cpu, checkpoints, Silent())

    start = new_t5(toy.vocabulary_size, params, generator(5, "gr-weights"))
    reference = hugging_face(start).train()  # without dropout
    optimizer = torch.optim.AdamW(reference.parameters(), weight_decay=0.1)
    examples, step, history = toy.examples, 0, []
    tokens, total = examples.target.shape[1], 2 * math.ceil(len(examples) / 100)
    for epoch in range(2):
        batches, sums = epoch_batches(len(examples), 100, 5, epoch), {}
        for rows in batches:
            optimizer.param_groups[0]["lr"] = learning_rate(step, total, params)
            optimizer.zero_grad()
            values = {"rec": plain_loss(reference, examples, rows)}
            loss = tokens * values["rec"]
            if weight:
                draws = generator(5, "gr-items", step)
                items = torch.randperm(30, generator=draws)[: params.implicit_batch_size]
                values["implicit"] = implicit_by_hand(
                    reference, examples.item_ids, items, params.temperature
                )
                loss = loss + weight * values["implicit"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
            optimizer.step()
            step += 1
            for name, value in {**values, "loss": loss}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batches)
        history.append(sums)
    assert step == trained.history[-1]["update"] >= 10
    for found, expected in zip(trained.history, history, strict=True):
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert history[1]["loss"] < history[0]["loss"] - 0.1
    first = to_names(start)
    for name, weights in to_names(trained.model).items():
        moved = dict(reference.named_parameters())[name].detach() - first[name].detach()
        error = (weights.detach() - first[name].detach() - moved).norm() / moved.norm()
        assert float(error) < 1e-4, name


def plain_loss(reference, examples, rows):
    sequences = [
        examples.source.flat[examples.source.offsets[row] : examples.source.offsets[row + 1]]
        for row in rows.tolist()
    ]
    source = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True).long()
    labels = examples.target[rows].long()
    return reference(input_ids=source, attention_mask=(source > 0).long(), labels=labels).loss
