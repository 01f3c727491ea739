"""The network is Hugging Face's T5 of the same weights, forwards and backwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from macrec_core.recommender import packing
from macrec_core.recommender.hugging_face import config_of, to_names
from macrec_core.recommender.kernels import Dropout
from macrec_core.recommender.packing import Packed
from macrec_core.recommender.positions import position_buckets
from macrec_core.recommender.t5 import T5, Mode, T5Shape, parameter_count

WORDS, CPU = 50, torch.device("cpu")
MIXED = (140, 1, 131, 17, 70, 9, 33, 2)  # beyond MAX_DISTANCE and down to one token

SHAPES = [
    pytest.param({"num_layers": 1, "num_heads": 1}, MIXED, 1, id="one-head"),
    pytest.param({"num_layers": 2}, MIXED, 40, id="long"),
    pytest.param(
        {"num_layers": 3, "num_heads": 3, "d_kv": 4, "d_model": 20, "d_ff": 24},
        (5, 4, 4, 3, 2), 5, id="heads-narrower-than-the-model",
    ),
    # 64 times 4 tokens are whole steps of rows: no token moves.
    pytest.param({"num_heads": 4, "d_kv": 16}, (4,) * 64, 3, id="one-length"),
]  # fmt: skip


class Batch:
    """Random sequences, padded and packed, and decoder inputs with their targets."""

    def __init__(self, pack, lengths, places, seed=0):
        torch.set_num_threads(1)
        draws = torch.Generator().manual_seed(seed)
        self.mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        self.source = torch.randint(2, WORDS, self.mask.shape, generator=draws) * self.mask
        self.target = torch.randint(1, WORDS, (len(lengths), places), generator=draws)
        self.inputs = functional.pad(self.target[:, :-1], (1, 0))
        self.pack = pack

    def packed(self):
        return self.pack(self.source, self.mask)

    def logits(self, model, mode=None):
        """[B, T, vocabulary]; packed anew, since tests change how."""
        mode = mode or Mode()
        flat = model.decode(model.encode(self.packed(), mode), self.inputs, mode)
        return flat.view(*self.target.shape, WORDS)

    def loss(self, model, mode=None):
        return self.loss_of(self.logits(model, mode))

    def loss_of(self, logits):
        return functional.cross_entropy(logits.flatten(0, 1), self.target.flatten())

    def of(self, reference):
        """Logits of Hugging Face's T5."""
        return reference(
            input_ids=self.source, attention_mask=self.mask.long(), decoder_input_ids=self.inputs
        ).logits


def gradients(model):
    """Gradients by Hugging Face's names."""
    of = copy.deepcopy(model)
    with torch.no_grad():
        for target, weights in zip(of.parameters(), model.parameters(), strict=True):
            target.copy_(weights.grad)
    return {name: gradient.detach() for name, gradient in to_names(of).items()}


def close(found, expected, share=1e-5):
    """Equal up to a share of the largest value of each tensor."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        bound = share * float(values.abs().max())
        torch.testing.assert_close(
            found[name], values, rtol=0, atol=bound, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize(("changes", "lengths", "places"), SHAPES)
def test_logits_and_gradients_are_those_of_hugging_face(
    make_t5, hugging_face, pack, changes, lengths, places
):
    # Larger weights sharpen the attention until rounding alone, Hugging Face's too, is seen.
    model = make_t5(WORDS, scale=1.0, **changes)
    reference, batch = hugging_face(model), Batch(pack, lengths, places)
    expected, found = batch.of(reference), batch.logits(model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # Far from flat: otherwise agreement would be cheap.
    assert expected.std() > 0.5
    batch.loss_of(expected).backward()
    batch.loss_of(found).backward()
    named = {name: weights.grad for name, weights in reference.named_parameters()}
    close(gradients(model), named)
    if places > 1:  # a decoder of one place attends to that place alone
        assert all(gradient.abs().max() > 1e-6 for gradient in named.values())


def test_every_bucket_that_occurs_is_trained(make_t5, pack):
    model = make_t5(WORDS, scale=1.0)
    Batch(pack, MIXED, 40).loss(model).backward()
    encoder, decoder = (
        stack.position_bias.grad.abs().sum(dim=1) for stack in (model.encoder, model.decoder)
    )
    # No key ahead has distance 0; 39 places back is the decoder's bucket 16 + 6 at most.
    assert (encoder == 0).nonzero().flatten().tolist() == [16]
    assert (decoder == 0).nonzero().flatten().tolist() == list(range(23, 32))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_position_buckets_are_hugging_faces(bidirectional):
    from transformers.models.t5.modeling_t5 import T5Attention

    places = torch.arange(400)
    expected = T5Attention._relative_position_bucket(
        places[None, :] - places[:, None], bidirectional, 32, 128
    )
    assert torch.equal(position_buckets(400, bidirectional, torch.device("cpu")), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sequence_does_not_see_its_neighbours(make_t5, pack, dtype):
    model, batch = make_t5(WORDS, scale=1.0), Batch(pack, MIXED, 6)
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 0.1}
    with torch.no_grad():
        together = batch.logits(model, Mode(dtype))
        for row, length in enumerate(MIXED):
            alone = Packed.dense(batch.source[row : row + 1, :length])
            inputs = batch.inputs[row : row + 1]
            found = model.decode(model.encode(alone, Mode(dtype)), inputs, Mode(dtype))
            torch.testing.assert_close(found, together[row], **tolerance)
        backwards = Batch(pack, MIXED, 6)
        for name in ("source", "mask", "inputs"):
            setattr(backwards, name, getattr(backwards, name).flip(0))
        turned = backwards.logits(model, Mode(dtype)).flip(0)
    torch.testing.assert_close(turned, together, **tolerance)
    assert together.std() > 0.5


@pytest.mark.parametrize("slots", [1, 60, 300])
def test_the_split_into_chunks_changes_nothing(make_t5, pack, monkeypatch, slots):
    model, batch = make_t5(WORDS, scale=1.0), Batch(pack, MIXED, 6)
    expected = batch.logits(model)
    batch.loss_of(expected).backward()
    trained = gradients(model)
    assert len(batch.packed().layout.chunks) == 1
    model.zero_grad()
    monkeypatch.setattr(packing, "_CHUNK_SLOTS", slots)
    assert len(batch.packed().layout.chunks) > 2
    found = batch.logits(model)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    batch.loss_of(found).backward()
    close(gradients(model), trained)


def test_bfloat16_is_near_float32_and_no_worse_than_autocast(hugging_face, pack):
    shape = T5Shape(WORDS, 64, 32, 256, 2, 3, 0.0)
    model = T5(shape)
    model.initialise(torch.Generator().manual_seed(1))
    batch = Batch(pack, (60, 41, 33, 30, 22, 17, 9, 9, 5, 4, 3, 3), 5)
    exact = batch.logits(model)
    batch.loss_of(exact).backward()
    expected = gradients(model)
    model.zero_grad()
    rough = batch.logits(model, Mode(torch.bfloat16))
    assert rough.dtype == torch.float32
    batch.loss_of(rough).backward()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cast = batch.of(hugging_face(model)).float()
    ours, theirs = (float((found.detach() - exact.detach()).norm()) for found in (rough, cast))
    # Not zero either: the products are in bfloat16 indeed.
    assert 1e-4 * float(exact.detach().norm()) < ours < 1.3 * theirs
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32
        assert torch.isfinite(gradient).all(), name
        cosine = functional.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0)
        assert cosine > 0.99, name
        assert float(gradient.norm() / expected[name].norm()) == pytest.approx(1, abs=0.05), name


# ------------------------------------------------------------------------------ dropout


def test_dropout_stands_where_hugging_faces_stands(make_t5, hugging_face, pack, monkeypatch):
    model = make_t5(WORDS, num_layers=3, dropout=0.25)
    batch = Batch(pack, (8,) * 32, 5)  # one chunk, no padding: sizes are comparable
    reference = hugging_face(model).train()
    reference.set_attn_implementation("eager")
    plain, expected = functional.dropout, []

    def recorded(values, p=0.5, training=True, inplace=False):
        assert training
        expected.append((values.numel(), p))
        return plain(values, p, training, inplace)

    monkeypatch.setattr(functional, "dropout", recorded)
    batch.of(reference)
    assert len(expected) == 2 * 2 + 3 * 4 + 3 * 6

    class Counted(Dropout):
        def mask(self, shape, dtype):
            found.append((shape.numel(), 0.25))
            return super().mask(shape, dtype)

    found = []
    batch.logits(model, Mode(dropout=Counted(0.25, 0, CPU)))
    assert sorted(found) == sorted(expected)


def test_the_gradient_under_dropout_is_the_slope_of_the_loss_of_the_same_masks(make_t5, pack):
    model = make_t5(WORDS, scale=1.0)
    batch = Batch(pack, (12, 9, 9, 4, 1), 4)

    def loss():
        return batch.loss(model, Mode(dropout=Dropout(0.3, 5, CPU)))

    loss().backward()
    for name, weights in model.named_parameters():
        size = weights.grad.norm()
        assert size > 0, name
        step = weights.grad / size * 0.002  # uphill, where the slope is the gradient's length
        with torch.no_grad():
            higher, lower = (_moved(weights, way * step, loss) for way in (1, -1))
        assert (higher - lower) / 0.004 == pytest.approx(float(size), rel=0.05), name


def _moved(weights, step, loss):
    weights += step
    value = float(loss())
    weights -= step
    return value


def test_dropout_is_a_function_of_its_seed(make_t5, pack):
    model, batch = make_t5(WORDS), Batch(pack, (12, 9, 9, 4, 1), 4)
    with torch.no_grad():
        first, again, other = (
            batch.logits(model, Mode(dropout=Dropout(0.1, seed, CPU))) for seed in (3, 3, 4)
        )
        without, closed_never = (
            batch.logits(model, mode) for mode in (Mode(), Mode(dropout=Dropout(0.0, 3, CPU)))
        )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)
    assert not torch.allclose(first, without, atol=0.01)
    torch.testing.assert_close(closed_never, without, rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------ weights


def test_initial_weights_are_drawn_as_t5s_are():
    from transformers import T5Config, T5ForConditionalGeneration

    # No two widths alike, so that no deviation passes for another.
    shape = T5Shape(500, 128, 24, 320, 2, 6, 0.1)
    ours, theirs = {}, {}
    for seed in range(4):
        model = T5(shape)
        model.initialise(torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        fresh = T5ForConditionalGeneration(T5Config(**config_of(shape)))
        for into, weights in ((ours, to_names(model)), (theirs, dict(fresh.named_parameters()))):
            for name, values in weights.items():
                into.setdefault(name, []).append(values.detach().flatten())
    assert ours.keys() == theirs.keys()
    for name, parts in theirs.items():
        expected, found = torch.cat(parts), torch.cat(ours[name])
        if "layer_norm" in name:
            assert torch.equal(found, torch.ones_like(found)), name
            assert torch.equal(expected, found), name
            continue
        # Five standard errors of the quotient of two estimates, and of a mean.
        few = 5 * len(found) ** -0.5
        assert float(found.std() / expected.std()) == pytest.approx(1, abs=few), name
        assert abs(float(found.mean())) < few * float(found.std()), name
        # Normal: a uniform distribution of that deviation would have 0.87.
        deviations = found.abs().mean() / found.std()
        assert float(deviations) == pytest.approx((2 / torch.pi) ** 0.5, abs=few), name


def test_initial_weights_are_a_function_of_their_generator():
    def drawn(seed):
        model = T5(T5Shape(WORDS, 16, 8, 32, 2, 2, 0.0))
        model.initialise(torch.Generator().manual_seed(seed))
        return torch.cat([w.detach().flatten() for w in model.parameters()]), model

    (first, model), (again, _), (other, _) = drawn(1), drawn(1), drawn(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    one, two = model.encoder.layers
    assert not torch.equal(one.qkv, two.qkv)
    assert torch.isfinite(first).all()


def test_parameters_are_counted_once(make_t5, hugging_face):
    model = make_t5(WORDS)
    assert parameter_count(model) == parameter_count(hugging_face(model))
