"""Visual tokens: computed by hand, trained, saved, and a task that only images solve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from macrec_core.checkpoints import Checkpoints
from macrec_core.errors import MacrecError
from macrec_core.progress import Silent
from macrec_core.recommender.decoding import beam_search, prepare
from macrec_core.recommender.frozen import freeze
from macrec_core.recommender.hugging_face import load_t5, save_t5
from macrec_core.recommender.losses import next_token_loss
from macrec_core.recommender.packing import Packed
from macrec_core.recommender.t5 import END_ID
from macrec_core.recommender.training import new_t5, train_recommender
from macrec_core.recommender.trie import build_trie
from macrec_core.recommender.visual import ItemImages, VisualTokens
from macrec_core.runtime import generator
from macrec_core.semantic_ids import Vocabulary
from macrec_core.sequence_tensors import training_data
from macrec_core.sequences import evaluation_examples, training_examples

WORDS, ITEMS, TOKENS = 12, 5, 2


@pytest.fixture
def images():
    vectors = torch.randn(ITEMS, 4, generator=torch.Generator().manual_seed(1))
    return ItemImages(vectors, TOKENS, 6)


@pytest.fixture
def make_visual(tiny_gr, images):
    """An untrained T5 with visual tokens of `images`."""

    def make(seed=0, which=images):
        torch.set_num_threads(1)
        return new_t5(WORDS, tiny_gr, torch.Generator().manual_seed(seed), which)

    return make


@pytest.fixture
def source(pack):
    """Two histories; visual tokens of items 0, 3 and 4 among codes."""
    tokens = torch.tensor(
        [[4, 7, 12, 13, 5, 8, 18, 19, END_ID], [5, 9, 20, 21, END_ID, 0, 0, 0, 0]]
    )
    return pack(tokens, tokens > 0)


TARGET = torch.tensor([[4, 7, END_ID], [6, 9, END_ID]])


@torch.no_grad()
def logits(model, source):
    return model.decode(model.encode(source), TARGET)


# --------------------------------------------------------------------------------- the tokens


def test_rows_by_hand():
    images = ItemImages(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), 2, 1)
    made = VisualTokens(images, 2)
    with torch.no_grad():
        made.inner.copy_(torch.tensor([[3.0, -1.0]]))
        made.inner_bias.fill_(0.5)
        made.outer.copy_(torch.tensor([[1.0], [2.0], [-1.0], [0.0]]))
        made.outer_bias.copy_(torch.tensor([0.0, 0.0, 0.0, 7.0]))

    def gelu(x):
        return x * 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))

    # Hidden: 3 - 2 + 0.5 and 0 + 1 + 0.5, both 1.5: then two tokens of two features an item.
    hidden = gelu(1.5)
    item = [[hidden, 2 * hidden], [-hidden, 7.0]]
    torch.testing.assert_close(made(), torch.tensor([*item, *item]))


def test_a_source_reads_the_rows_of_its_items_and_the_output_knows_none(make_visual, source):
    model = make_visual()
    rows = model.input_rows()
    assert rows.shape == (WORDS + ITEMS * TOKENS, model.shape.d_model)
    assert torch.equal(rows[:WORDS], model.embedding)
    # Tokens 18 and 19 are those of item 3.
    assert torch.equal(rows[18:20], model.visual()[6:8])
    expected = logits(model, source)
    assert expected.shape == (2 * 3, WORDS)

    def changed(item):
        vectors = model.visual.vectors.clone()
        vectors[item] += 1.0
        other = make_visual(which=ItemImages(vectors, TOKENS, 6))
        moved = (logits(other, source) - expected).abs().view(2, -1).amax(dim=1)
        return [bool(part) for part in moved > 1e-6]

    # Items 0 and 3 stand in the first history, 4 in the second, 1 in none.
    assert [changed(item) for item in (0, 3, 4, 1)] == [
        [True, False], [True, False], [False, True], [False, False],
    ]  # fmt: skip


def test_gradients_reach_the_adapter(make_visual, source):
    model = make_visual()
    next_token_loss(model, source, TARGET, 0.0).backward()
    for weight in model.visual.parameters():
        assert weight.grad.abs().sum() > 0
    assert model.visual.vectors.grad is None


def test_the_other_weights_are_those_of_a_model_without_images(make_visual):
    plain, visual = make_visual(which=None), make_visual()
    assert plain.visual is None
    assert plain.input_rows() is plain.embedding
    for name, weight in plain.state_dict().items():
        assert torch.equal(visual.state_dict()[name], weight)
    assert "visual.vectors" not in visual.state_dict()


# ------------------------------------------------------------------------ frozen, saved, loaded


def test_a_frozen_model_computes_the_same(make_visual, source):
    model = make_visual()
    expected = logits(model, source)
    frozen = freeze(model)
    torch.testing.assert_close(logits(frozen, source), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    torch.testing.assert_close(logits(frozen, source), expected, rtol=1e-5, atol=1e-5)


def test_a_saved_model_comes_back_with_its_images(make_visual, images, source, tmp_path):
    model = make_visual()
    save_t5(model, tmp_path, 2)
    again = load_t5(tmp_path, images)
    assert torch.equal(logits(again, source), logits(model, source))


def test_hugging_faces_t5_computes_the_same_of_the_same_rows(make_visual, hugging_face):
    model = make_visual()
    tokens, inputs = torch.tensor([[4, 7, 12, 13, 5, 8, 18, 19, END_ID]]), torch.tensor([[0, 4, 7]])
    with torch.no_grad():
        rows = model.input_rows()[tokens]
        found = hugging_face(model)(inputs_embeds=rows, decoder_input_ids=inputs).logits
        expected = model.decode(model.encode(Packed.dense(tokens)), inputs)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_images_and_model_must_belong_together(make_visual, images, tmp_path):
    with_images, without = tmp_path / "with", tmp_path / "without"
    for folder, model in ((with_images, make_visual()), (without, make_visual(which=None))):
        folder.mkdir()
        save_t5(model, folder, 2)
    assert not (without / "visual.safetensors").exists()
    with pytest.raises(MacrecError, match="it reads visual tokens, and the semantic IDs have no"):
        load_t5(with_images)
    with pytest.raises(MacrecError, match=r"visual\.safetensors"):
        load_t5(without, images)
    wider = ItemImages(torch.zeros(ITEMS, 9), TOKENS, 6)
    with pytest.raises(MacrecError, match=r"inner is \(6, 4\), expected \(6, 9\)"):
        load_t5(with_images, wider)


# ------------------------------------------------------------------- what only images can tell

# Items of four kinds, and of each kind two successors in turn: what follows an item is a function
# of its kind, and IDs are drawn by lot. In training something follows only the known ones.
KINDS, KNOWN, NEW = 4, 40, 8
FIRST_SUCCESSOR = KINDS * (KNOWN + NEW)
CATALOGUE = FIRST_SUCCESSOR + 2 * KINDS


def shop(make_interactions):
    """Interactions, and the users whose validation item follows a new one."""
    histories = []
    for item in range(FIRST_SUCCESSOR):
        first = FIRST_SUCCESSOR + item % KINDS
        pair = [first, first + KINDS]
        histories.append([item, *pair, *pair, first] if item < KINDS * KNOWN else [item, *pair])
    return make_interactions(histories), np.arange(KINDS * KNOWN, FIRST_SUCCESSOR)


def trained_on_the_shop(make_interactions, codes, seq2seq, gr, cpu, folder, with_images):
    """Share of new items whose successor comes first, after training with or without images."""
    interactions, new = shop(make_interactions)
    draws = np.random.default_rng(3)
    kinds = np.arange(CATALOGUE) % KINDS
    vectors = 2.0 * np.eye(KINDS)[kinds] + 0.3 * draws.normal(size=(CATALOGUE, KINDS))
    images = ItemImages(torch.from_numpy(vectors).float(), 1, 16) if with_images else None
    visual = (1, CATALOGUE) if with_images else (0, 0)
    vocabulary = Vocabulary(("collab",), 4, 4, (), *visual)
    data = training_data(
        training_examples(interactions, codes, vocabulary, seq2seq),
        evaluation_examples(interactions, codes, vocabulary, seq2seq.max_history),
        codes, vocabulary, None, images,
    )  # fmt: skip
    trained = train_recommender(data, gr, 0, cpu, Checkpoints(folder, 1e9), Silent())
    model, valid = freeze(trained.model), data.validation
    trie = build_trie(codes["collab"])
    histories = prepare(model, valid.source["collab"].packed(torch.from_numpy(new)))
    best = beam_search(model, histories, trie, valid.level_offsets["collab"], 1).ids[:, 0]
    found = trie.members[trie.member_offsets[best.numpy()]]
    return float(np.mean(found == valid.target_items.numpy()[new]))


def test_what_follows_a_new_item_is_known_from_its_image_alone(
    make_interactions, make_codes, committed_params, tiny_gr, cpu, tmp_path
):
    codes = {"collab": make_codes(CATALOGUE, 4, 4, 5)}
    seq2seq = committed_params.seq2seq.model_copy(update={"tasks": ["recommend"], "max_history": 1})
    gr = tiny_gr.model_copy(
        update={"d_model": 32, "d_ff": 64, "batch_size": 32, "learning_rate": 0.01,
                "max_epochs": 18, "patience": 18}
    )  # fmt: skip
    shares = [
        trained_on_the_shop(
            make_interactions, codes, seq2seq, gr, cpu, tmp_path / str(with_images), with_images
        )
        for with_images in (True, False)
    ]
    assert shares[0] >= 0.95
    # A guess among four kinds; half of 32 would be a chance of 1 in 1,000.
    assert shares[1] < 0.5


def test_a_training_with_images_gives_the_same_bytes_again(
    make_interactions, make_codes, committed_params, tiny_gr, cpu, tmp_path
):
    codes = {"collab": make_codes(CATALOGUE, 4, 4, 5)}
    vocabulary = Vocabulary(("collab",), 4, 4, (), 2, CATALOGUE)
    seq2seq = committed_params.seq2seq.model_copy(update={"tasks": ["recommend"], "max_history": 2})
    interactions, _ = shop(make_interactions)
    vectors = torch.randn(CATALOGUE, 3, generator=generator(0, "images"))
    data = training_data(
        training_examples(interactions, codes, vocabulary, seq2seq),
        evaluation_examples(interactions, codes, vocabulary, 2),
        codes, vocabulary, None, ItemImages(vectors, 2, 8),
    )  # fmt: skip
    weights = []
    for name in ("first", "second"):
        checkpoints = Checkpoints(tmp_path / name, 1e9)
        trained = train_recommender(data, tiny_gr, 0, cpu, checkpoints, Silent())
        weights.append(trained.model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    start = new_t5(vocabulary.size, tiny_gr, generator(0, "gr-weights"), data.images)
    assert not torch.equal(weights[0]["visual.outer"], start.visual.outer)
