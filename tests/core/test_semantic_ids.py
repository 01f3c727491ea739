from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macrec_core.errors import MacrecError
from macrec_core.semantic_ids import ALIGNMENT_TASKS, Vocabulary, code_token, format_id

BOTH = Vocabulary(("text", "image"), 3, 4, ALIGNMENT_TASKS)

vocabularies = st.builds(
    Vocabulary,
    modalities=st.sampled_from([("text",), ("text", "image"), ("image", "text", "audio")]),
    num_levels=st.integers(1, 6),
    codebook_size=st.integers(2, 9),
    alignment_tasks=st.sampled_from([(), ("align_items",), ALIGNMENT_TASKS]),
)
visual = st.builds(lambda v, k, n: replace(v, visual_tokens=k, visual_items=n),
                   vocabularies, st.integers(1, 3), st.integers(1, 9))  # fmt: skip


def test_text_is_lower_case_image_upper_case_and_the_letter_counts_levels():
    assert format_id("text", [1, 2, 3, 4]) == "<a_1><b_2><c_3><d_4>"
    assert format_id("image", [1, 2, 3, 4]) == "<A_1><B_2><C_3><D_4>"
    assert code_token("audio", 1, 7) == "<audio:b_7>"


def test_the_order_of_tokens_is_specials_prompts_codes():
    assert BOTH.tokens()[:8] == [
        "<pad>",
        "</s>",
        "<align_items:text>image>",
        "<align_items:image>text>",
        "<align_sequences:text>image>",
        "<align_sequences:image>text>",
        "<a_0>",
        "<a_1>",
    ]
    assert BOTH.tokens()[-1] == "<C_3>"
    assert BOTH.size == 2 + 4 + 2 * 3 * 4


@given(vocabularies)
def test_tokens_are_distinct_and_as_many_as_the_size(vocabulary):
    tokens = vocabulary.tokens()
    assert len(tokens) == len(set(tokens)) == vocabulary.size
    assert tokens[vocabulary.pad_id] == "<pad>"
    assert tokens[vocabulary.end_id] == "</s>"


@given(vocabularies, st.data())
def test_encoded_codes_are_the_published_tokens(vocabulary, data):
    code = st.integers(0, vocabulary.codebook_size - 1)
    levels = st.lists(code, min_size=vocabulary.num_levels, max_size=vocabulary.num_levels)
    codes = np.array(data.draw(st.lists(levels, min_size=1, max_size=5)), np.int32)
    tokens = vocabulary.tokens()
    for modality in vocabulary.modalities:
        for row, ids in zip(codes, vocabulary.encode(modality, codes), strict=True):
            assert "".join(tokens[i] for i in ids) == format_id(modality, row.tolist())


@given(vocabularies)
def test_prompt_ids_point_at_their_prompts(vocabulary):
    tokens = vocabulary.tokens()
    for task in vocabulary.alignment_tasks:
        for source in vocabulary.modalities:
            for target in vocabulary.modalities:
                if source != target:
                    prompt = vocabulary.prompt_id(task, source, target)
                    assert tokens[prompt] == f"<{task}:{source}>{target}>"


@given(vocabularies | visual)
def test_a_vocabulary_survives_json(vocabulary):
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@pytest.mark.parametrize(
    "change",
    [{"codebook_size": 5}, {"modalities": ["image", "text"]}, {"alignment_tasks": []}],
)
def test_a_vocabulary_that_contradicts_its_tokens_is_refused(change):
    value = json.loads(json.dumps(BOTH.to_json())) | change
    with pytest.raises(MacrecError, match="run build_seq2seq again"):
        Vocabulary.from_json(value)


def test_a_vocabulary_without_its_tokens_is_refused():
    value = json.loads(json.dumps(BOTH.to_json()))
    del value["tokens"]
    with pytest.raises(MacrecError, match=r"vocabulary\.json"):
        Vocabulary.from_json(value)


@pytest.mark.parametrize("code", [-1, 4])
def test_a_code_outside_the_codebook_is_refused(code):
    with pytest.raises(MacrecError, match=f"text code {code}: outside the codebook of 4"):
        BOTH.encode("text", np.array([[0, code, 1]], np.int32))


def test_ids_of_visual_tokens_follow_the_vocabularys_and_are_only_read():
    plain = Vocabulary(("collab",), 2, 3, ())
    made = Vocabulary(("collab",), 2, 3, (), visual_tokens=2, visual_items=3)
    codes = np.array([[0, 1], [2, 2], [1, 0]], np.int32)
    assert (made.size, made.input_size) == (8, 14)
    assert made.tokens() == plain.tokens()
    assert made.encode("collab", codes).tolist() == [[2, 6], [4, 7], [3, 5]]
    assert made.encode_inputs("collab", codes).tolist() == [
        [2, 6, 8, 9], [4, 7, 10, 11], [3, 5, 12, 13],
    ]  # fmt: skip
    assert plain.encode_inputs("collab", codes).tolist() == plain.encode("collab", codes).tolist()
    assert (plain.size, plain.input_size) == (8, 8)
    assert not [name for name in plain.to_json() if name.startswith("visual")]
