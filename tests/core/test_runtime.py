from __future__ import annotations

from pathlib import Path

import pytest
import torch

from macrec_core import runtime as runtime_module
from macrec_core.errors import MacrecError
from macrec_core.params.whole import RuntimeParams
from macrec_core.runtime import (
    Runtime,
    code_files,
    file_sha256,
    fingerprint,
    generator,
    scratch_root,
    start,
)

CPU = Runtime(torch.device("cpu"), None)


def runtime(**changes):
    whole = {
        "device": "cpu", "precision": "float32", "num_threads": 1, "num_processes": 1,
        "checkpoint_every_s": 60.0,
    }  # fmt: skip
    return RuntimeParams.model_validate(whole | changes)


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_start_fixes_threads_device_precision_and_determinism():
    torch.use_deterministic_algorithms(False)
    made = start(runtime())
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert (made.device.type, made.autocast) == ("cpu", None)


def test_precision_is_followed_where_asked_for(caplog):
    half = runtime(precision="bfloat16")
    with caplog.at_level("INFO"):
        assert start(half).autocast is None
        assert "device cpu, float32, 1 threads" in caplog.text
        assert start(half, use_precision=True).autocast is torch.bfloat16
        assert "device cpu, bfloat16, 1 threads" in caplog.text
    assert start(runtime(), use_precision=True).autocast is None


def test_zero_threads_leaves_the_number_alone():
    torch.set_num_threads(2)
    start(runtime(num_threads=0))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, available, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert start(runtime(device="auto")).device.type == kind
    assert start(runtime(device="cpu")).device.type == "cpu"


def test_asking_for_a_missing_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MacrecError, match="'cuda': no usable GPU here"):
        start(runtime(device="cuda"))


def test_a_generator_is_a_function_of_its_parts_alone():
    def draw(*parts):
        return torch.rand(4, generator=generator(*parts)).tolist()

    torch.manual_seed(1)
    first = draw(0, "order", 3)
    torch.manual_seed(2)
    assert draw(0, "order", 3) == first
    others = [(1, "order", 3), (0, "orders", 3), (0, "order", 4), (0, "order"), ("order", 0, 3)]
    assert len({tuple(draw(*parts)) for parts in others} | {tuple(first)}) == 6


@pytest.fixture
def files(tmp_path):
    for name in ("a", "b", "code.py"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_fingerprint_depends_on_texts_contents_and_code(files):
    def key(texts=("x", "y"), inputs=("a", "b"), code=("code.py",)):
        return fingerprint(texts, [files / f for f in inputs], [files / c for c in code], CPU)

    first = key()
    assert key() == first
    assert len(first) == 32
    changed = [
        key(texts=("x", "z")),
        key(texts=("xy",)),
        key(texts=("y", "x")),
        key(inputs=("b", "a")),
        key(inputs=("a",)),
        key(code=()),
    ]
    (files / "code.py").write_text("changed")
    changed.append(key())
    assert len({first, *changed}) == 8


def test_fingerprint_ignores_the_names_of_inputs(files):
    (files / "renamed").write_text("a")
    first = fingerprint([], [files / "a"], [], CPU)
    assert fingerprint([], [files / "renamed"], [], CPU) == first


def test_fingerprint_depends_on_device_precision_threads_and_libraries(monkeypatch):
    def key(device="cpu", autocast=None):
        return fingerprint(["x"], [], [], Runtime(torch.device(device), autocast))

    torch.set_num_threads(1)
    found = [key(), key("cuda"), key(autocast=torch.bfloat16)]
    torch.set_num_threads(2)
    found.append(key())
    torch.set_num_threads(1)
    assert key() == found[0]
    for library in ("torch", "transformers", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(runtime_module, "version", lambda n, x=library: "9" if n == x else "1")
            found.append(key())
    assert len(set(found)) == 7


def test_code_files_finds_modules_and_packages_in_order():
    found = code_files("runtime", "quantization", "contrastive")
    names = [path.name for path in found]
    assert found == sorted(found)
    assert {"runtime.py", "contrastive.py", "residual.py", "training.py"} <= set(names)
    assert "params.py" not in names
    assert all(path.is_file() for path in found)


def test_scratch_is_the_environments_or_the_main_checkouts(tmp_path, monkeypatch):
    monkeypatch.setenv("MACREC_SCRATCH", str(tmp_path / "mine"))
    assert scratch_root(tmp_path) == tmp_path / "mine"
    monkeypatch.delenv("MACREC_SCRATCH")
    assert scratch_root(tmp_path) == tmp_path.resolve() / "scratch"
    queued = tmp_path / ".dvc" / "tmp" / "exps" / "abc"
    queued.mkdir(parents=True)
    assert scratch_root(queued) == tmp_path.resolve() / "scratch"


def test_file_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(Path(tmp_path / "f")) == expected
