from __future__ import annotations

import pytest
import torch
from transformers import T5ForConditionalGeneration

from macrec_core.errors import MacrecError
from macrec_core.recommender.model import (
    encode,
    load_t5,
    mean_pool,
    new_t5,
    output_scale,
    parameter_count,
)
from macrec_core.semantic_ids import ALIGNMENT_TASKS, Vocabulary


def logits_of(model):
    source = torch.tensor([[3, 9, 1], [4, 1, 0]])
    with torch.no_grad():
        return model(
            input_ids=source, attention_mask=(source > 0).long(), labels=torch.tensor([[7, 1]] * 2)
        ).logits


def test_a_saved_model_loads_with_hugging_face_and_gives_the_same_logits(make_t5, tmp_path):
    model = make_t5(20, 2)
    model.save_pretrained(tmp_path)
    stock = T5ForConditionalGeneration.from_pretrained(tmp_path, local_files_only=True).eval()
    for other in (stock, load_t5(tmp_path)):
        # Close, not equal: the stock model may choose another attention kernel.
        torch.testing.assert_close(logits_of(other), logits_of(model), rtol=1e-4, atol=1e-4)
        for found, weights in zip(other.parameters(), model.parameters(), strict=True):
            assert torch.equal(found, weights)
        assert not other.training
    assert stock.generation_config.max_new_tokens == 3
    assert stock.config.decoder_start_token_id == 0
    assert (stock.config.pad_token_id, stock.config.eos_token_id) == (0, 1)


def test_new_and_loaded_models_attend_by_the_plain_kernel(make_t5, tmp_path):
    model = make_t5(20, 2)
    model.save_pretrained(tmp_path)
    for each in (model, load_t5(tmp_path)):
        assert each.config._attn_implementation == "eager"


def test_sizes_are_those_of_the_params(tiny_gr):
    vocabulary = Vocabulary(("text", "image"), 2, 8, ALIGNMENT_TASKS)
    gr = tiny_gr.model_copy(update={"num_layers": 3, "dropout": 0.25})
    model = new_t5(vocabulary.size, 2, gr)
    # Codes, four prompts, padding and end, nothing else.
    assert model.shared.weight.shape == (2 * 2 * 8 + 4 + 2, 16)
    assert len(model.encoder.block) == len(model.decoder.block) == 3
    assert model.config.dropout_rate == 0.25
    attention = model.encoder.block[0].layer[0].SelfAttention
    assert attention.q.weight.shape == (2 * 8, 16)
    assert model.encoder.block[0].layer[1].DenseReluDense.wi.weight.shape == (32, 16)


def test_shared_parameters_count_once(tiny_gr):
    model = new_t5(20, 2, tiny_gr)
    attention, norm, feed_forward = 4 * 16 * 16, 16, 2 * 16 * 32
    encoder = attention + feed_forward + 2 * norm
    decoder = 2 * attention + feed_forward + 3 * norm
    biases, final_norms = 2 * 32 * 2, 2 * norm
    assert parameter_count(model) == 20 * 16 + encoder + decoder + biases + final_norms


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(MacrecError, match=r"is no T5 in Hugging Face format.*run train_gr again"):
        load_t5(tmp_path)


def test_mean_pool_leaves_padding_out():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [99.0, 99.0]], [[4.0, 5.0], [0, 0], [0, 0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_pool(hidden, mask).tolist() == [[2.0, 4.0], [4.0, 5.0]]


def test_encoder_outputs_do_not_depend_on_padding(make_t5):
    model = make_t5(20, 2)
    source = torch.tensor([[5, 6, 1]])
    padded = torch.tensor([[5, 6, 1, 0, 0]])
    with torch.no_grad():
        short = encode(model, source, source > 0)
        long = encode(model, padded, padded > 0)
    torch.testing.assert_close(long[:, :3], short, rtol=1e-4, atol=1e-5)


def test_the_output_scale_is_the_one_that_the_model_applies(make_t5):
    model = make_t5(20, 2)
    seen = []
    model.decoder.register_forward_hook(lambda _, __, out: seen.append(out.last_hidden_state))
    logits = logits_of(model)
    expected = seen[0] * output_scale(model) @ model.lm_head.weight.T
    torch.testing.assert_close(expected, logits, rtol=1e-5, atol=1e-6)
