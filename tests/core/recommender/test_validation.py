from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from macrec_core.recommender import packing
from macrec_core.recommender import validation as module
from macrec_core.recommender.packing import Packed, Sequences
from macrec_core.recommender.trie import build_trie
from macrec_core.recommender.validation import Validation, validation_loss, validation_ndcg

USERS, LEVELS, SIZE = 11, 2, 4


@pytest.fixture(scope="module")
def data(make_codes):
    """Eleven users with histories of different lengths, two modalities of 12 items."""
    rng = np.random.default_rng(5)
    targets = rng.integers(0, 12, USERS)
    source, target, tries, offsets = {}, {}, {}, {}
    for place, modality in enumerate(("text", "image")):
        codes = make_codes(12, LEVELS, SIZE, place)
        lengths = torch.from_numpy(rng.integers(1, 9, USERS))
        flat = torch.from_numpy(rng.integers(2, 2 + 2 * LEVELS * SIZE, int(lengths.sum())))
        source[modality] = Sequences(
            flat.int(), torch.cat([torch.zeros(1).long(), lengths.cumsum(0)])
        )
        offsets[modality] = 2 + (place * LEVELS + torch.arange(LEVELS)) * SIZE
        tokens = torch.from_numpy(codes[targets]).long() + offsets[modality]
        target[modality] = torch.cat([tokens, torch.ones(USERS, 1).long()], dim=1)
        tries[modality] = build_trie(codes)
    return Validation(source, target, torch.from_numpy(targets), tries, offsets)


@pytest.fixture
def model(make_t5):
    return make_t5(2 + 2 * LEVELS * SIZE)


def row_of(sequences, user):
    return sequences.flat[sequences.offsets[user] : sequences.offsets[user + 1]][None].long()


@torch.no_grad()
def test_the_loss_is_the_mean_over_all_users_and_modalities(
    model, data, cpu, monkeypatch, hugging_face
):
    reference = hugging_face(model)
    losses = [
        float(reference(input_ids=row_of(data.source[m], u), labels=data.target[m][u][None]).loss)
        for m in data.source
        for u in range(USERS)
    ]
    for batch in (512, 4):  # 4 does not divide the users
        monkeypatch.setattr(module, "_BATCH", batch)
        assert validation_loss(model, data, cpu) == pytest.approx(np.mean(losses), rel=1e-5)


@torch.no_grad()
def test_ndcg_is_that_of_each_user_ranked_alone(model, data, cpu, monkeypatch):
    values = []
    for modality in data.source:
        trie, offsets = data.tries[modality], data.level_offsets[modality]
        for user in range(USERS):
            history = module.prepare(model, Packed.dense(row_of(data.source[modality], user)))
            beams = module.beam_search(model, history, trie, offsets, 10)
            items = trie.members[trie.member_offsets[beams.ids[0].numpy()]].tolist()
            target = int(data.target_items[user])
            place = items.index(target) + 1 if target in items else math.inf
            values.append(1 / math.log2(place + 1))
    assert 0 < np.mean(values) < 1
    for batch in (512, 4):
        monkeypatch.setattr(module, "_BATCH", batch)
        assert validation_ndcg(model, data, cpu) == pytest.approx(np.mean(values))


def test_the_model_is_measured_without_dropout(make_t5, data, cpu):
    noisy, plain = (make_t5(2 + 2 * LEVELS * SIZE, dropout=rate) for rate in (0.5, 0.0))
    assert validation_loss(noisy, data, cpu) == validation_loss(plain, data, cpu)


def test_histories_come_longest_first(model, data, cpu, monkeypatch):
    # In the other order the chunks of `packing` would be as many as fit of the shortest.
    plain, seen = packing.lay_out, []

    def recorded(lengths, device):
        seen.append(lengths)
        return plain(lengths, device)

    monkeypatch.setattr(packing, "lay_out", recorded)
    monkeypatch.setattr(module, "_BATCH", 4)
    validation_loss(model, data, cpu)
    validation_ndcg(model, data, cpu)
    assert sum(map(len, seen)) == 2 * 2 * USERS
    for modality in range(4):
        lengths = torch.cat(seen[3 * modality : 3 * modality + 3])
        assert (lengths.diff() <= 0).all()
        assert lengths[0] > lengths[-1]
