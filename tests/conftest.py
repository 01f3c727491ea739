"""A toy catalogue with known answers, and the committed params.yaml cut down to its size.

Heavy imports stand inside the fixtures that need them.
"""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from ruamel.yaml import YAML

from macrec_core.params.loading import load_params

# As the stages have it, and read when torch loads OpenMP: threads that spin for long make a busy
# machine crawl.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# No test is timed: a busy machine would fail it.
settings.register_profile("macrec", deadline=None)
settings.load_profile("macrec")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_log_of_an_earlier_test():
    """A stage logs to the stream that it finds, which pytest closes after the test."""
    yield
    root = logging.getLogger()
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def shared():
    """The folder of published data, which is no part of the project."""
    folder = Path(os.environ.get("MACREC_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no published data at {folder} (set MACREC_SHARED)")
    return folder / "data"


@pytest.fixture
def disk_of(tmp_path):
    """Makes a folder that holds no more than a size such as `64k`."""
    folder = tmp_path / "disk"

    def make(size):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("only root can mount a small disk")
        return folder

    yield make
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(disk_of):
    """A folder that holds 64 KiB."""
    return disk_of("64k")


@pytest.fixture(scope="session")
def committed_params():
    """The committed params.yaml."""
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def tiny_gr(committed_params):
    """`gr` for a T5 of one layer and width 16; without dropout or L_implicit."""
    return committed_params.gr.model_copy(
        update={
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 1,
            "num_heads": 2,
            "dropout": 0.0,
            "batch_size": 64,
            "micro_batch_tokens": 512,
            "max_epochs": 2,
            "lambda_implicit": 0.0,
            "implicit_batch_size": 16,
        }
    )


@pytest.fixture(scope="session")
def params_file(tmp_path_factory):
    """Writes params.yaml with the toy's model and the given changes: `params_file(gr={...})`."""

    def write(**changes):
        values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        values["ensembles"] = []  # whose members a change may remove
        values["gr"] |= {
            "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2,
            "batch_size": 64, "micro_batch_tokens": 512, "max_epochs": 2, "implicit_batch_size": 16,
        }  # fmt: skip
        values["sequential"] |= {"hidden_size": 16, "inner_size": 32, "max_epochs": 2}
        for spec in values["baseline_specs"].values():
            spec["sequential"].pop("max_epochs", None)
        values["seq2seq"] |= {"max_history": 20}  # no toy history is longer
        values["runtime"] |= {"device": "cpu", "precision": "float32", "num_threads": 1}
        for section, change in changes.items():
            if isinstance(change, dict):
                values[section] |= change
            else:
                values[section] = change
        if "quantized_variants" not in changes:  # what no test names otherwise
            others = values["clustered_variants"] + values["visual_variants"]
            quantized = [name for name in values["variants"] if name not in others]
            values["quantized_variants"] = quantized
        path = tmp_path_factory.mktemp("params") / "params.yaml"
        YAML(pure=True).dump(values, path)
        return path

    return write


@pytest.fixture(scope="session")
def make_interactions():
    """Artifact INTERACTIONS of one list of item ids a user, leave-one-out."""

    def make(histories):
        rows = [
            (user, position, item, _split(position, len(history)))
            for user, history in enumerate(histories)
            for position, item in enumerate(history)
        ]
        users, positions, items, splits = zip(*rows, strict=True)
        return pa.table(
            {
                "user_id": pa.array(users, pa.int32()),
                "position": pa.array(positions, pa.int32()),
                "item_id": pa.array(items, pa.int32()),
                "timestamp": pa.nulls(len(rows), pa.int64()),
                "split": pa.array(splits, pa.string()),
            }
        )

    return make


def _split(position, length):
    return {length - 1: "test", length - 2: "valid"}.get(position, "train")


@pytest.fixture(scope="session")
def make_codes():
    """Distinct random semantic IDs [count, levels] of `size` codes."""

    def make(count, levels, size, seed=0):
        numbers = np.random.default_rng(seed).permutation(size**levels)[:count]
        assert len(numbers) == count
        digits = [(numbers // size**level) % size for level in reversed(range(levels))]
        return np.stack(digits, axis=1).astype(np.int32)

    return make


@pytest.fixture(scope="session")
def successors(make_interactions, make_codes):
    """30 items, 40 users: item i is always followed by item i + 1 (modulo 30)."""
    rng = np.random.default_rng(7)
    histories = [
        [(start + step) % 30 for step in range(length)]
        for start, length in zip(rng.integers(0, 30, 40), rng.integers(5, 12, 40), strict=True)
    ]
    codes = {"text": make_codes(30, 2, 8, 1), "image": make_codes(30, 2, 8, 2)}
    return make_interactions(histories), codes


@pytest.fixture(scope="session")
def toy_stage_inputs(successors, tmp_path_factory):
    """The toy as the files that build_seq2seq reads: interactions and semantic IDs."""
    from macrec_core import schemas
    from macrec_core.artifacts import write_artifact
    from macrec_core.id_table import ids_table, published_ids, write_ids

    folder = tmp_path_factory.mktemp("toy")
    interactions, codes = successors
    write_artifact(folder / "interactions.parquet", interactions, schemas.INTERACTIONS)
    table = ids_table({name: published_ids(values) for name, values in codes.items()})
    write_ids(folder / "semantic_ids.parquet", table, list(codes), 8)
    return folder


@pytest.fixture(scope="session")
def make_training_data():
    """Everything that T5 training reads, from interactions and codes."""

    def make(interactions, codes, seq2seq, codebook_size):
        from macrec_core.semantic_ids import Vocabulary
        from macrec_core.sequence_tensors import training_data
        from macrec_core.sequences import evaluation_examples, training_examples

        levels = next(iter(codes.values())).shape[1]
        tasks = tuple(task for task in seq2seq.tasks if task != "recommend")
        vocabulary = Vocabulary(tuple(codes), levels, codebook_size, tasks)
        train = training_examples(interactions, codes, vocabulary, seq2seq)
        held_out = evaluation_examples(interactions, codes, vocabulary, seq2seq.max_history)
        return training_data(train, held_out, codes, vocabulary, None)

    return make


@pytest.fixture(scope="session")
def make_t5(tiny_gr):
    """A T5 whose weights are scaled up, so that its distributions are far from flat."""

    def make(vocabulary_size, seed=0, scale=3.0, **changes):
        import torch

        from macrec_core.recommender.training import new_t5

        gr = tiny_gr.model_copy(update={"num_layers": 2} | changes)
        model = new_t5(vocabulary_size, gr, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(scale)
        return model

    return make


@pytest.fixture(scope="session")
def hugging_face(tmp_path_factory):
    """Hugging Face's T5 of the same weights, by way of the exported folder: the reference."""

    def convert(model, num_levels=2):
        from transformers import T5ForConditionalGeneration

        from macrec_core.recommender.hugging_face import save_t5

        folder = tmp_path_factory.mktemp("t5")
        save_t5(model, folder, num_levels)
        return T5ForConditionalGeneration.from_pretrained(folder, local_files_only=True).eval()

    return convert


@pytest.fixture(scope="session")
def pack():
    """Packed sequences of padded token ids [B, S] and their mask [B, S]."""

    def make(source, mask):
        import torch

        from macrec_core.recommender.packing import Sequences

        lengths = mask.sum(dim=1)
        offsets = torch.cat([torch.zeros(1).long(), lengths.cumsum(0)])
        return Sequences(source[mask].int(), offsets).packed(torch.arange(len(source)))

    return make


@pytest.fixture
def cpu():
    """float32 on the CPU, deterministic, one thread."""
    import torch

    from macrec_core.runtime import Runtime

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return Runtime(torch.device("cpu"), None)
