from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import shared_work
import torch

from macrec_core import processes as processes_module
from macrec_core.artifacts import write_artifact
from macrec_core.encoders import shards
from macrec_core.errors import MacrecError
from macrec_core.params.whole import RuntimeParams
from macrec_core.processes import ALONE, Processes, joined
from macrec_core.quantization.training import QuantizerData
from macrec_core.ranking import ENSEMBLE
from macrec_core.recommender.evaluation import Decodable
from macrec_core.recommender.training import _check_catalogue
from macrec_core.runtime import Runtime, fingerprint, start
from macrec_core.schemas import ITEMS

USERS = 41  # odd: the two shares differ


@pytest.fixture(scope="module")
def work(
    make_interactions, make_codes, committed_params, make_training_data, tiny_gr, make_t5,
    tmp_path_factory,
):  # fmt: skip
    rng = np.random.default_rng(7)
    lengths = rng.integers(5, 12, USERS)
    histories = [[int((rng.integers(30) + 3 * s) % 31) for s in range(n)] for n in lengths]
    codes = {"text": make_codes(31, 2, 8, 1), "image": make_codes(31, 2, 8, 2)}
    seq2seq = committed_params.seq2seq.model_copy(update={"max_history": 20})
    data = make_training_data(make_interactions(histories), codes, seq2seq, 8)
    # The last batch of an epoch is a single example: one of the processes has none of it.
    count = len(data.examples)
    batch_size = next(size for size in range(60, count) if count % size == 1)
    gr = tiny_gr.model_copy(
        update={
            "batch_size": batch_size, "micro_batch_tokens": 300, "lambda_implicit": 0.5,
            "implicit_batch_size": 7, "learning_rate": 0.001, "max_epochs": 2,
            "select_by": "ndcg@10", "history_dropout": 0.3,
        }
    )  # fmt: skip
    valid = data.validation
    modalities = {
        name: Decodable(source, valid.tries[name], valid.level_offsets[name])
        for name, source in valid.source.items()
    }
    return shared_work.Work(
        data, gr, make_t5(data.vocabulary_size), modalities, valid.target_items.numpy(),
        committed_params.eval.model_copy(update={"num_beams": 5, "batch_size": 8}),
        items(), quant_of(committed_params), catalogue(tmp_path_factory.mktemp("catalogue")),
        committed_params.embed.text,
    )  # fmt: skip


def catalogue(folder):
    """The texts of nine items: five shards, of which the first process has three."""
    titles = ["red guitar", "drum", "a stand of maple", "", "cable", "neck", "bow", "keys", "reed"]
    texts = dict.fromkeys(("description", "brand", "categories"), [""] * len(titles))
    columns = {"item_id": range(len(titles)), "item_key": [f"B{t}" for t in titles]}
    write_artifact(folder / "items.parquet", pa.table({**columns, "title": titles, **texts}), ITEMS)
    return folder


def items():
    """73 items in seven groups."""
    draws = torch.Generator().manual_seed(1)
    labels = {name: torch.randint(7, (73,), generator=draws) for name in ("text", "image")}
    embeddings = {
        name: torch.randn(7, width, generator=draws)[labels[name]]
        + 0.3 * torch.randn(73, width, generator=draws)
        for name, width in (("text", 12), ("image", 8))
    }
    return QuantizerData(embeddings, labels, torch.randn(73, 4, generator=draws))


def quant_of(params):
    """Both contrastive terms and LETTER's weigh in; the last batch of an epoch is a single item."""
    return params.quant.model_copy(
        update={
            "codebook_size": 6, "num_levels": 3, "latent_dim": 4, "common_width": 12,
            "hidden_sizes": [16], "lambda_con": [0.0, 0.3, 0.3], "lambda_align": 0.3,
            "batch_size": 24, "max_epochs": 3, "learning_rate": 0.001, "kmeans_iterations": 5,
            "evaluate_every": 2, "lambda_collab": 0.3, "lambda_diversity": 0.3,
            "diversity_clusters": 2,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(work, tmp_path_factory):
    """What one process finds."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    runtime = Runtime(torch.device("cpu"), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ITEMS", shards.SHARD_ITEMS)  # set back afterwards
        return shared_work.results(work, runtime, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def together(work, tmp_path_factory):
    """What each of two processes finds."""
    return shared_work.run(tmp_path_factory.mktemp("together"), work)


# ---------------------------------------------------------------------------------- one process


def test_one_process_is_the_identity():
    rows = torch.randn(5, 2, requires_grad=True)
    assert torch.equal(ALONE.share(rows), rows)
    assert ALONE.gathered(rows, 5) is rows
    ones = torch.ones(3)
    ALONE.sum_([ones])
    assert torch.equal(ones, torch.ones(3))
    ALONE.check_same("whatever", 1)
    ALONE.wait()
    assert ALONE.first


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_without_others_nothing_is_joined(monkeypatch, environment):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "accelerate", None)  # importing it would fail
    assert joined(torch.device("cpu")) is ALONE


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 2, 41])
def test_shares_lose_and_double_no_row(total, count):
    rows = torch.arange(total)
    shares = [Processes(rank, count).share(rows) for rank in range(count)]
    assert sorted(torch.cat(shares).tolist()) == rows.tolist()
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_processes_without_gpus_of_their_own_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MacrecError, match=r"runtime\.num_processes: 4 processes here, but 2 GPU"):
        joined(torch.device("cuda"))


@pytest.fixture
def fake_accelerate(monkeypatch):
    """Accelerate with a state that records how it was asked for, or fails."""
    asked = []

    def state(**options):
        asked.append(options)
        if len(asked) > 1:
            raise RuntimeError("[/a/b.cc:3] no one came. And more.\nAnd more.")
        return SimpleNamespace(process_index=1, num_processes=4, destroy_process_group=id)

    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setitem(sys.modules, "accelerate", SimpleNamespace(PartialState=state))
    monkeypatch.setattr(processes_module.atexit, "register", lambda _: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    return asked


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_accelerate_joins_processes_on_the_chosen_device(fake_accelerate, device):
    assert joined(torch.device(device)) == Processes(1, 4)
    assert fake_accelerate[0]["cpu"] == (device == "cpu")
    with pytest.raises(MacrecError, match=r"cannot be joined \(no one came\); run the same again$"):
        joined(torch.device(device))


def test_the_launchers_number_counts_and_a_device_is_taken_by_its_number(
    fake_accelerate, monkeypatch, caplog
):
    params = RuntimeParams(
        device="auto", precision="float32", num_threads=1, num_processes=3,
        checkpoint_every_s=60.0,
    )  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    started = start(params, shared=True)
    assert started.processes == Processes(1, 4)
    assert started.device == torch.device("cuda", 2)
    assert "runtime.num_processes=3, but a launcher has started 4: these share" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"
    # The number of the device is no property of the work: all processes find one checkpoint.
    other = replace(started, device=torch.device("cuda", 0), processes=Processes(0, 4))
    assert fingerprint([], [], [], started) == fingerprint([], [], [], other)


def test_a_launcher_overrules_the_default_number_without_a_warning(fake_accelerate, caplog):
    params = RuntimeParams(
        device="cpu", precision="float32", num_threads=1, num_processes=1,
        checkpoint_every_s=60.0,
    )  # fmt: skip
    with caplog.at_level("INFO"):
        assert start(params, shared=True).processes == Processes(1, 4)
    (record,) = [each for each in caplog.records if "a launcher has started 4" in each.message]
    assert record.levelname == "INFO"


# -------------------------------------------------------------------------------- two processes


def test_each_process_knows_its_place(together):
    assert [found["processes"] for found in together] == [(0, 2), (1, 2)]


def test_sums_are_those_of_all_processes_everywhere(together):
    for found in together:
        first, second = found["sums"]
        assert torch.equal(first, torch.full((2, 2), 3.0))
        assert torch.equal(second, torch.tensor([30.0]))
        assert torch.equal(found["whole_sum"], torch.tensor([7, -(2**40)]))


@pytest.mark.parametrize("total", [5, 4, 1])
def test_gathered_rows_and_their_gradient_are_those_of_one_process(together, total):
    weights, inputs = shared_work.gathering(total)
    expected = inputs @ weights
    shared_work.loss_of(expected).backward()
    for found in together:
        rows, gradient = found[f"gathered_{total}"]
        torch.testing.assert_close(rows, expected.detach())
        torch.testing.assert_close(gradient, weights.grad)


def test_a_difference_that_must_not_be_is_told_everywhere(together):
    for found in together:
        assert found["different"].startswith(
            "a number that is not: differs between the processes ([0, 1]); "
        )


def test_a_process_that_goes_is_noticed_at_once(together):
    message, seconds = together[0]["lost"]
    assert message.startswith("process 1 of 2 lost contact with another (")
    assert "\n" not in message
    assert seconds < 60


# ------------------------------------------------------------------------------- the recommender


@pytest.mark.parametrize(("batch", "told"), [(1, True), (2, False)])
def test_an_implicit_batch_of_fewer_items_than_processes_is_refused(work, batch, told):
    params = work.gr.model_copy(update={"implicit_batch_size": batch})
    runtime = Runtime(torch.device("cpu"), None, Processes(0, 2))
    with pytest.raises(MacrecError, match="than the 2 processes") if told else nullcontext():
        _check_catalogue(work.data.examples, params, runtime)


def test_training_makes_the_updates_of_one_process(alone, together):
    for found in together:
        assert found["gr_updates"] == alone["gr_updates"]


def test_training_losses_and_validation_are_those_of_one_process(alone, together):
    assert [row["update"] for row in alone["gr_history"]][-1] == alone["gr_updates"][0]
    for found in together:
        for row, expected in zip(found["gr_history"], alone["gr_history"], strict=True):
            assert row == pytest.approx(expected, rel=1e-4)
    assert {"implicit", "rec", "validation_ndcg@10"} <= set(alone["gr_history"][0])


def test_trained_weights_are_those_of_one_process(alone, together):
    for name, expected in alone["gr_weights"].items():
        found = [each["gr_weights"][name] for each in together]
        assert torch.equal(*found), name
        torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("users", [USERS, 1])
def test_evaluation_ranks_every_user_once_as_one_process_does(alone, together, users):
    expected = alone[f"ranks_{users}"]
    assert len(expected[ENSEMBLE]) == users
    for found in together:
        for name, ranks in expected.items():
            np.testing.assert_array_equal(found[f"ranks_{users}"][name], ranks)
            unseen = alone[f"unseen_ranks_{users}"][name]
            np.testing.assert_array_equal(found[f"unseen_ranks_{users}"][name], unseen)
        for name, ranking in alone[f"lists_{users}"].items():
            same = found[f"lists_{users}"][name]
            np.testing.assert_array_equal(same.offsets, ranking.offsets)
            np.testing.assert_array_equal(same.items, ranking.items)
            np.testing.assert_allclose(same.scores, ranking.scores, rtol=1e-5)
    decoded = [found[f"decoded_{users}"] for found in together]
    assert all(done == total for done, total in decoded)
    assert sum(done for done, _ in decoded) == 2 * users == alone[f"decoded_{users}"][0]


# --------------------------------------------------------------------------------- the quantizer


def test_quantizer_losses_and_measures_are_those_of_one_process(alone, together):
    assert {"contrastive", "alignment", "positives"} <= set(alone["rqvae_history"][0])
    for found in together:
        for row, expected in zip(found["rqvae_history"], alone["rqvae_history"], strict=True):
            assert row == pytest.approx(expected, rel=1e-4)


def test_quantizer_weights_are_those_of_one_process(alone, together):
    for name, expected in alone["rqvae_weights"].items():
        found = [each["rqvae_weights"][name] for each in together]
        assert torch.equal(*found), name
        torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-5, msg=name)


# ------------------------------------------------------------------------------------ embeddings


def test_embeddings_are_those_of_one_process(alone, together):
    found, _ = together
    np.testing.assert_allclose(found["vectors"], alone["vectors"], rtol=1e-5, atol=1e-6)
    assert found["counts"] == alone["counts"]
    assert alone["texts"] == (9, 9)
    assert [each["texts"] for each in together] == [(5, 5), (4, 4)]
