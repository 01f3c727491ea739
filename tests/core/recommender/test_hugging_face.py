from __future__ import annotations

import json

import pytest
import torch

from macrec_core.errors import MacrecError
from macrec_core.recommender.hugging_face import load_t5, save_t5
from macrec_core.recommender.packing import Packed


def logits_of(model):
    return model.decode(
        model.encode(Packed.dense(torch.tensor([[3, 9, 1], [4, 8, 1]]))),
        torch.tensor([[0, 7]] * 2),
    )  # fmt: skip


def test_a_saved_model_loads_again_as_it_was(make_t5, tmp_path):
    model = make_t5(20, dropout=0.25)
    save_t5(model, tmp_path, 2)
    again = load_t5(tmp_path)
    assert again.shape == model.shape
    for (name, found), weights in zip(again.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(found, weights), name
    assert torch.equal(logits_of(again), logits_of(model))
    assert not again.training


def test_hugging_face_reads_it_with_every_setting(make_t5, hugging_face):
    model = make_t5(20, dropout=0.25, num_layers=3)
    stock = hugging_face(model, num_levels=2)
    assert stock.generation_config.max_new_tokens == 3
    assert stock.config.decoder_start_token_id == 0
    assert (stock.config.pad_token_id, stock.config.eos_token_id) == (0, 1)
    assert stock.config.dropout_rate == 0.25
    assert len(stock.encoder.block) == len(stock.decoder.block) == 3
    count = sum(p.numel() for p in stock.parameters())
    assert count == sum(p.numel() for p in model.parameters())


def test_what_hugging_face_saves_can_be_read(make_t5, hugging_face, tmp_path):
    model = make_t5(20)
    hugging_face(model).save_pretrained(tmp_path)
    assert torch.equal(logits_of(load_t5(tmp_path)), logits_of(model))


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(MacrecError, match=r"is no T5 in Hugging Face format.*run train_gr again"):
        load_t5(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feed_forward_proj": "gated-gelu"}, "feed_forward_proj is 'gated-gelu', expected 'relu'"),
        ({"num_decoder_layers": 5}, "num_decoder_layers is 5, expected 2"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"scale_decoder_outputs": False}, "scale_decoder_outputs is False"),
        ({"num_layers": 1, "num_decoder_layers": 1}, r"weights missing or unknown"),
        ({"d_ff": 64}, r"wi.weight is \(32, 16\), expected \(64, 16\)"),
    ],
)
def test_a_t5_of_another_kind_is_an_error_that_says_what_differs(
    make_t5, tmp_path, change, message
):
    save_t5(make_t5(20), tmp_path, 2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(MacrecError, match=message):
        load_t5(tmp_path)


def test_damaged_weights_are_an_error(make_t5, tmp_path):
    save_t5(make_t5(20), tmp_path, 2)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MacrecError, match="is no T5 in Hugging Face format"):
        load_t5(tmp_path)
