"""The program for a GPU at toy size on the CPU, with a toy catalogue's data."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bare_environment import others_than, run_without
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, gpu_data, gpu_encoders, gpu_quality, gpu_rqvae, gpu_t5
from benchmarks.gpu_input import Inputs
from benchmarks.gpu_measure import Budget, GpuRow, Machine, keep, table
from benchmarks.gpu_settings import (
    SMALL_EVAL,
    SMALL_GR,
    SMALL_QUANT,
    Eval,
    Gr,
    Quant,
    changed,
)
from benchmarks.gpu_settings import Runtime as RuntimeSettings
from benchmarks.measure import Row
from benchmarks.operations import flops_of_example
from macrec_core.errors import MacrecError
from macrec_core.params.evaluation import EvalParams
from macrec_core.params.loading import load_params
from macrec_core.params.quantizer import QuantParams
from macrec_core.params.recommender import GrParams
from macrec_core.recommender import t5
from macrec_core.recommender.losses import next_token_loss
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.training import new_t5
from macrec_core.recommender.updates import Examples
from macrec_core.runtime import Runtime, generator

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import logging
logging.basicConfig(level=logging.INFO)
from benchmarks.gpu import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def toy(successors, committed_params, make_training_data, tmp_path_factory):
    """Path of a data file, and the training data that it should hold."""
    interactions, codes = successors
    ids = {"ours": codes, "theirs": {name: np.flip(each, 0) for name, each in codes.items()}}
    lengths = np.array([5, 90, 17, 17, 3])
    seq2seq = committed_params.seq2seq.model_copy(update={"max_history": 20})
    path = tmp_path_factory.mktemp("gpu") / "data.npz"
    gpu_data.write(path, gpu_data.arrays(interactions, ids, 8, seq2seq, lengths, "random"))
    return Namespace(
        path=path, ids=ids, lengths=lengths,
        data={name: make_training_data(interactions, each, seq2seq, 8)
              for name, each in ids.items()},
    )  # fmt: skip


@pytest.fixture
def machine():
    return Machine(Runtime(torch.device("cpu"), None), 1e11, small=True)


class Countdown(Budget):
    """A budget that is spent once it has been asked so often."""

    def __init__(self, times):
        self.times = times

    @property
    def left(self):
        self.times -= 1
        return max(0.0, float(self.times))


# ---------------------------------------------------------------------------------- settings


def plain(value):
    return json.loads(json.dumps(value))


# What only other stages than `evaluate`'s search ask for.
OF_OTHERS = {"exclude_seen": False, "split": "test", "list_length": 20}


def test_settings_are_those_of_the_papers_preset():
    paper = load_params(ROOT / "presets/paper.yaml")
    assert plain(asdict(Gr())) == paper.gr_of("mql4grec").model_dump()
    assert plain(asdict(Eval())) == paper.eval.model_dump(exclude=set(OF_OTHERS))
    assert plain(asdict(Quant())) == paper.quant_of("macrec").model_dump()
    assert plain(asdict(RuntimeSettings())) == paper.runtime.model_dump()


def test_small_settings_are_valid():
    GrParams.model_validate(asdict(SMALL_GR))
    EvalParams.model_validate({**asdict(SMALL_EVAL), **OF_OTHERS})
    lists = {
        "hidden_sizes": list(SMALL_QUANT.hidden_sizes),
        "lambda_con": list(SMALL_QUANT.lambda_con),
    }
    QuantParams.model_validate(asdict(SMALL_QUANT) | lists)


def test_settings_can_be_changed():
    found = changed(Gr(), ["learning_rate=5e-4", "max_steps=7", "select_by=ndcg@10", "dropout=0"])
    wanted = {"learning_rate": 5e-4, "max_steps": 7, "select_by": "ndcg@10", "dropout": 0}
    assert asdict(found) == asdict(Gr()) | wanted


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lerning_rate=1", "no setting 'lerning_rate'"),
        ("batch_size=many", "'many' is no int"),
        ("batch_size=1.5", "'1.5' is no int"),
        ("select_by=luck", "'luck' is no "),
        ("dropout=true", "'true' is no float"),
    ],
)
def test_a_wrong_setting_is_named(assignment, message):
    with pytest.raises(MacrecError, match=message):
        changed(Gr(), [assignment])


# -------------------------------------------------------------------------------------- data


def same_sequences(found, expected):
    assert found.flat.dtype == expected.flat.dtype
    assert torch.equal(found.flat, expected.flat)
    assert torch.equal(found.offsets, expected.offsets)


@pytest.mark.parametrize("ids", ["ours", "theirs"])
def test_the_file_gives_back_what_the_pipeline_made(toy, ids):
    inputs, expected = Inputs(toy.path), toy.data[ids]
    found = inputs.training(ids)
    assert found.vocabulary_size == expected.vocabulary_size
    same_sequences(found.examples.source, expected.examples.source)
    assert torch.equal(found.examples.target, expected.examples.target)
    for name in ("text", "image"):
        assert torch.equal(found.examples.item_ids[name], expected.examples.item_ids[name])
        same_sequences(found.validation.source[name], expected.validation.source[name])
        assert torch.equal(found.validation.target[name], expected.validation.target[name])
        offsets = found.validation.level_offsets[name]
        assert torch.equal(offsets, expected.validation.level_offsets[name])
        assert found.validation.tries[name].num_ids == 30
        np.testing.assert_array_equal(inputs.codes(ids)[name], toy.ids[ids][name])
    assert torch.equal(found.validation.target_items, expected.validation.target_items)
    assert inputs.text_lengths == toy.lengths.tolist()
    # A test history is a validation history and its target.
    users = inputs.test_users(ids)
    longer = users.modalities["text"].source.lengths - found.validation.source["text"].lengths
    assert (longer == 2).all()
    assert len(users.targets) == 40


def test_what_is_no_data_file_is_told(tmp_path, toy):
    path = tmp_path / "no.npz"
    np.savez(path, x=np.ones(2))
    for each in (path, tmp_path / "none.npz"):
        with pytest.raises(MacrecError, match=r"is no data for benchmarks\.gpu"):
            Inputs(each)
    with pytest.raises(MacrecError, match="has none of that name"):
        Inputs(toy.path).codes("other")


def test_the_published_data_is_the_papers(shared):
    interactions, ids, size = gpu_data.published(shared / "instruments")
    assert interactions.num_rows == 136_226
    codes = {"mql4grec": ids["mql4grec"]}
    found = gpu_data.arrays(interactions, codes, size, gpu_data.SEQ2SEQ, np.array([1]), "published")
    assert found["mql4grec/examples/target"].shape == (352_060, 5)
    assert found["test/targets"].shape == (17_112,)
    distinct = {name: len(np.unique(found[f"{each}/codes/text"], axis=0))
                for name, each in (("mql4grec", "mql4grec"),)}  # fmt: skip
    assert distinct == {"mql4grec": 5_988}
    lengths = gpu_data.industrial_lengths(shared / "industrial")
    assert len(lengths) > 7_000
    assert 1 < lengths.min() <= lengths.max() == gpu_data.MAX_TOKENS


def test_lengths_of_another_tokenizer_are_longer_and_cut():
    np.testing.assert_array_equal(gpu_data.as_llama(np.array([1, 10, 5000])), [3, 13, 512])
    assert gpu_data.random_lengths().max() == 512


# -------------------------------------------------------------------------------- operations


def test_operations_of_an_example_are_those_that_torch_counts(monkeypatch):
    # Counted in the order in which T5 is written down, though the network may need fewer.
    monkeypatch.setattr(t5, "rows_are_cheaper", lambda *_: False)
    gr = replace(SMALL_GR, num_layers=2, dropout=0.0)
    count, length, target, words = 64, 8, 5, 40  # rows in whole steps: nothing is padded
    draws = generator(0)
    tokens = torch.randint(2, words, (count * length,), generator=draws, dtype=torch.int32)
    source = Sequences(tokens, torch.arange(count + 1) * length)
    labels = torch.randint(2, words, (count, target), generator=draws)
    model = new_t5(words, gr.core, draws)
    with FlopCounterMode(display=False) as counter:
        next_token_loss(model, source.packed(torch.arange(count)), labels, 0.0).backward()
    expected = count * flops_of_example(Examples(source, labels, {}, 4, 2), gr, words)
    assert counter.get_total_flops() == expected


def test_operations_of_the_encoders():
    # 6.74 G weights, of which 0.13 G are the embedding and 0.13 G the output; two a weight.
    text = gpu_encoders.flops_of_text(1, gpu_encoders._LLAMA)
    assert text == pytest.approx(2 * 6.476e9, rel=1e-3)
    # What Table 11 of CLIP's paper and many after it give as 80.7 G multiplications.
    assert gpu_encoders.flops_of_picture(gpu_encoders._VIT) == pytest.approx(2 * 80.7e9, rel=0.01)


# ------------------------------------------------------------------------------------- works


@pytest.fixture(scope="module")
def everything(toy, tmp_path_factory):
    """The whole program where only torch, transformers, safetensors and numpy are installed."""
    hidden = others_than("torch", "transformers", "safetensors", "numpy")
    hidden |= {"pydantic", "typer"}  # which transformers names, and which only its tools need
    assert {"pyarrow", "polars", "ruamel", "sklearn", "timm"} <= hidden
    folder = tmp_path_factory.mktemp("gpu_run")
    arguments = [
        str(toy.path), "--small", "--out", str(folder / "gpu.json"), "--scratch",
        str(folder / "scratch"), "--ids", "ours", "--minutes", "60",
        "--only", *gpu.WORKS, gpu.PROFILE,
    ]  # fmt: skip
    done = run_without(hidden, PROGRAM, *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    entries = json.loads((folder / "gpu.json").read_text())
    return Namespace(
        entries={(entry["work"], entry["unit"]): entry for entry in entries}, folder=folder,
        out=done.stdout, log=done.stderr,
    )  # fmt: skip


def test_every_work_leaves_its_rows(everything):
    assert [name for name, _ in everything.entries] == [
        "t5_training", "t5_training whole", "t5_training implicit", "evaluation", "rqvae", "llama",
        "vit", *["quality ours s0"] * 3, *["quality ours implicit s0"] * 3,
    ]  # fmt: skip
    keys = {field.name for field in fields(Row)} | {"seconds", "goal", "reached", "details"}
    for entry in everything.entries.values():
        assert set(entry) == keys
        assert entry["ours"] >= 0
        assert entry["peak_memory_mb"] > 50
        assert entry["reached"] is None  # at toy size nothing can be said
        assert entry["details"]["small"] is True
        if entry["ceiling"] is not None:
            assert entry["share_of_ceiling"] == pytest.approx(entry["ours"] / entry["ceiling"])


def test_the_table_is_printed_and_kept(everything):
    assert everything.out.startswith("| work ")
    assert (everything.folder / "gpu.md").read_text().endswith(everything.out)
    assert len(everything.out.splitlines()) == 2 + len(everything.entries)


def test_a_quality_row_keeps_the_history(everything):
    entry = everything.entries["quality ours s0", "HR@10"]
    details = entry["details"]
    assert entry["plain"] == 0.1291
    assert entry["goal"] == ">= 0.1291"
    assert entry["ours"] == details["lists"]["ensemble"]["hr@10"]
    assert set(details["lists"]) == {"text", "image", "ensemble"}
    assert len(details["history"]) == details["epochs"] == 2
    assert details["gr"]["lambda_implicit"] == 0.0
    assert "implicit" not in details["history"][0]
    other = everything.entries["quality ours implicit s0", "HR@10"]["details"]
    assert other["history"][0]["implicit"] > 0
    for number in (1, 5, 10):
        assert details["optimistic"][f"hr@{number}"] >= details["lists"]["ensemble"][f"hr@{number}"]


def test_a_profile_is_written(everything):
    text = (everything.folder / "gpu.profile.txt").read_text()
    assert "5 updates: " in text
    assert "one search of 8 histories: " in text
    assert "aten::mm" in text


def test_nothing_is_measured_without_time(toy, tmp_path, caplog):
    caplog.set_level("INFO")
    arguments = [str(toy.path), "--small", "--out", str(tmp_path / "gpu.json"), "--minutes", "0"]
    assert gpu.main(arguments) == 0
    for name in gpu.WORKS:
        assert f"{name}: no time left, not run" in caplog.text
    assert json.loads((tmp_path / "gpu.json").read_text()) == []


def test_a_failing_work_leaves_the_others_their_rows(toy, tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise ValueError("out of luck")
        yield

    monkeypatch.setattr(gpu, "rqvae", broken)
    out = tmp_path / "gpu.json"
    arguments = [str(toy.path), "--small", "--out", str(out), "--only", "rqvae", "vit"]
    assert gpu.main(arguments) == 1
    assert [entry["work"] for entry in json.loads(out.read_text())] == ["vit"]
    assert "out of luck" in caplog.text
    assert "failed: rqvae" in caplog.text


@pytest.mark.parametrize(
    "wrong", [["--ids", "other"], ["--set", "d_model=wide"], ["--set", "nothing=1"]]
)
def test_wrong_arguments_end_with_code_2(toy, tmp_path, wrong):
    assert gpu.main([str(toy.path), "--out", str(tmp_path / "gpu.json"), *wrong]) == 2


def test_an_epoch_cut_short_is_scaled_and_said(machine, toy):
    gr = replace(SMALL_GR, batch_size=4)
    budget = Countdown(3)  # asked before each case and after every ten updates, warm-up too
    (row, whole, *_) = gpu_t5.t5_training(machine, Inputs(toy.path), gr, budget)
    assert row.details["cut"] == "10 of 75 updates measured, scaled up"
    assert row.ours == pytest.approx(300 / row.seconds)
    assert whole.seconds == pytest.approx(
        200 * (row.seconds + row.details["validation_loss_seconds"])
    )


def test_a_quantizer_cut_short_is_scaled_and_said(machine):
    (row,) = gpu_rqvae.rqvae(machine, Countdown(4))  # two epochs to warm up, then two
    assert row.details["epochs"] == 2
    assert row.details["cut"] == "2 of 4 epochs, scaled up"
    assert row.seconds > 4 / row.ours


def test_a_training_cut_short_is_evaluated_and_goes_on(machine, toy, tmp_path, caplog):
    inputs = Inputs(toy.path)
    gr = replace(SMALL_GR, max_epochs=3)
    chosen = gpu_quality.cases(["ours"], [0.0], [0], gr, "")

    def run(times):
        # Asked before the case, and after each of the 5 updates an epoch.
        rows = gpu_quality.quality(machine, inputs, toy.path, chosen, tmp_path, Countdown(times))
        return list(rows)

    assert run(4) == []  # within the first epoch
    assert "no epoch ended in time" in caplog.text
    cut = run(6)
    assert [row.unit for row in cut] == ["HR@10", "NDCG@10"]  # no training's seconds
    assert cut[0].details["stopped_by"] == "time"
    assert cut[0].details["resumed"] is True
    whole = run(1000)
    assert [row.unit for row in whole] == ["HR@10", "NDCG@10"]
    assert whole[0].details["stopped_by"] == "max_epochs"
    # As if it had never been interrupted.
    fresh = list(
        gpu_quality.quality(machine, inputs, toy.path, chosen, tmp_path / "b", Countdown(1000))
    )
    assert fresh[0].details["history"] == whole[0].details["history"]
    assert fresh[0].details["resumed"] is False
    assert fresh[2].unit == "epochs/s"


def test_no_time_for_a_case_is_said(machine, toy, tmp_path, caplog):
    chosen = gpu_quality.cases(["ours", "theirs"], [0.0, 0.1], [0, 1], SMALL_GR, "x=1")
    assert [case.name for case in chosen][:4] == [
        "quality ours x=1 s0", "quality theirs x=1 s0", "quality ours implicit x=1 s0",
        "quality theirs implicit x=1 s0",
    ]  # fmt: skip
    rows = gpu_quality.quality(machine, Inputs(toy.path), toy.path, chosen, tmp_path, Countdown(0))
    assert list(rows) == []
    assert caplog.text.count("no time left, not run") == 8


# ------------------------------------------------------------------------------------ results


def row(work, ours, **more):
    return GpuRow(work, "items/s", ours, None, None, None, None, 1.0, **more)


def test_rows_of_other_works_and_of_other_processes_stay(tmp_path):
    path = tmp_path / "results/gpu.json"
    keep(path, [row("a", 1.0), row("b", 2.0)])
    entries = keep(path, [row("a", 3.0, seconds=9.0, goal="<= 8 s", reached=False)])
    assert [(entry["work"], entry["ours"]) for entry in entries] == [("a", 3.0), ("b", 2.0)]
    assert json.loads(path.read_text()) == entries
    text = table(entries)
    assert text in path.with_suffix(".md").read_text()
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[-4:-1]] == [
        "9", "<= 8 s", "no",
    ]  # fmt: skip


def test_a_goal_counts_only_at_full_size(machine):
    assert machine.verdict(True) is None
    assert replace(machine, small=False).verdict(False) is False
