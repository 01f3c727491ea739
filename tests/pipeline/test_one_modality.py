"""A pipeline of texts alone: nothing asks for an image."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from macrec_core.params.loading import load_params

STAGES = {
    "download@sample", "filter@sample", "yardsticks@sample", "embed@sample-text",
    "pseudo_labels@sample", "train_rqvae@sample-tiger-0", "assign_sids@sample-tiger-0",
    "build_seq2seq@sample-tiger-0", "train_gr@sample-tiger-0", "evaluate@sample-tiger-0",
    "train_baseline@sample-sasrec-0", "evaluate_baseline@sample-sasrec-0", "report",
    "ensembles@sample", "significance@sample", "plot_embeddings@sample",
}  # fmt: skip


@pytest.fixture(scope="module")
def texts(clone):
    """The clone with `modalities: [text]` and the one variant that needs no other."""
    yaml, path = YAML(), clone.path / "params.yaml"
    before = path.read_bytes()
    params = yaml.load(path)
    params["modalities"], params["ensembles"] = ["text"], []
    for axis in ("variants", "quantized_variants"):
        params[axis] = ["tiger"]
    yaml.dump(params, path)
    yield clone
    path.write_bytes(before)


def test_the_params_are_valid(texts):
    params = load_params(texts.path / "params.yaml")
    assert params.modalities_of("tiger") == params.modalities == ["text"]


def test_stages_are_those_of_texts(texts):
    assert set(texts.dvc("stage", "list", "--all", "--name-only").split()) == STAGES


def test_every_input_is_there_or_made_by_one_of_them(texts):
    from dvc.repo import Repo

    with Repo(str(texts.path)) as repo:
        stages = list(repo.index.stages)
        made = {out.fspath for stage in stages for out in stage.outs}
        needed = {dep.fspath for stage in stages for dep in stage.deps}
        commands = [stage.cmd for stage in stages]
    missing = {
        path
        for path in needed
        if not Path(path).exists()
        and path not in made
        and not any(out.startswith(f"{path}/") for out in made)
    }
    assert missing == set()
    assert not any("embed_image" in command for command in commands)
