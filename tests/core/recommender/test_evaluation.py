from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from macrec_core.metrics import ranking_metrics
from macrec_core.progress import Silent
from macrec_core.ranking import Cases
from macrec_core.recommender import packing
from macrec_core.recommender.evaluation import Decodable, evaluate_recommender
from macrec_core.recommender.packing import Sequences
from macrec_core.recommender.trie import build_trie

USERS, ITEMS, LEVELS, SIZE = 13, 14, 2, 4


class Counted(Silent):
    def __init__(self):
        self.total, self.done = 0, 0

    def start(self, description, total):
        self.total += total

    def advance(self, units=1, status=""):
        self.done += units


@pytest.fixture(scope="module")
def catalogue(make_codes):
    """Text IDs of which two stand for two items each; image IDs all distinct."""
    text = make_codes(ITEMS, LEVELS, SIZE, 1)
    text[5], text[9] = text[2], text[3]
    return {"text": text, "image": make_codes(ITEMS, LEVELS, SIZE, 2)}


@pytest.fixture(scope="module")
def offsets(catalogue):
    return {
        name: 2 + (place * LEVELS + torch.arange(LEVELS)) * SIZE
        for place, name in enumerate(catalogue)
    }


@pytest.fixture(scope="module")
def histories():
    rng = np.random.default_rng(9)
    top = 2 + 2 * LEVELS * SIZE
    return {
        name: [rng.integers(2, top, rng.integers(2, 12)).tolist() for _ in range(USERS)]
        for name in ("text", "image")
    }


@pytest.fixture(scope="module")
def targets():
    return np.random.default_rng(11).integers(0, ITEMS, USERS)


@pytest.fixture(scope="module")
def modalities(catalogue, offsets, histories):
    return {
        name: Decodable(
            Sequences(
                torch.tensor([t for row in histories[name] for t in row], dtype=torch.int32),
                torch.tensor([0, *map(len, histories[name])]).cumsum(0),
            ),
            build_trie(catalogue[name]),
            offsets[name],
        )
        for name in catalogue
    }


@pytest.fixture(scope="module")
def cases(targets):
    """Who has bought what; user 0 all items of one ambiguous ID, user 1 one of its two."""
    rng = np.random.default_rng(12)
    bought = [rng.integers(0, ITEMS, rng.integers(1, 7)).tolist() for _ in range(USERS)]
    bought[0], bought[1] = [2, 5], [2, 0]
    return Cases(
        np.arange(USERS), targets, np.array([item for row in bought for item in row]),
        np.cumsum([0, *map(len, bought)]),
    )  # fmt: skip


@pytest.fixture
def model(make_t5):
    return make_t5(2 + 2 * LEVELS * SIZE, seed=2)


@torch.no_grad()
def scores_of(reference, history, codes, offsets):
    """Score of every item by the teacher-forced model, one user alone."""
    labels = torch.cat([torch.from_numpy(codes).long() + offsets, torch.ones(ITEMS, 1).long()], 1)
    source = torch.tensor(history).expand(ITEMS, -1)
    log_probs = reference(input_ids=source, labels=labels).logits.log_softmax(dim=-1)
    total = log_probs.gather(2, labels[:, :, None]).sum(dim=(1, 2)) / (LEVELS + 1)
    # Items of one ID have one score; the batched product may differ in the last bit.
    first = [int(np.flatnonzero((codes == row).all(axis=1))[0]) for row in codes]
    return total[first].tolist()


def places(scores, target, ambiguity):
    """Rank of the target among a dict of item to score; 0 where it is not in it."""
    if target not in scores:
        return 0
    better = sum(s > scores[target] for s in scores.values())
    equal = sum(s == scores[target] for s in scores.values())
    return better + (equal if ambiguity == "pessimistic" else 1)


@pytest.mark.parametrize("ambiguity", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("num_beams", [20, 4])
def test_every_user_is_ranked_as_in_plain_python(
    model, modalities, catalogue, offsets, histories, targets, committed_params, ambiguity,
    num_beams, cpu, hugging_face,
):  # fmt: skip
    reference = hugging_face(model)
    # 4 does not divide 13 users: the last batch is of one user.
    params = committed_params.eval.model_copy(
        update={"num_beams": num_beams, "batch_size": 4, "ambiguous_ids": ambiguity}
    )
    progress = Counted()
    found = evaluate_recommender(model, modalities, targets, params, cpu, progress)
    assert progress.done == progress.total == 2 * USERS
    for user in range(USERS):
        lists = {}
        for name in catalogue:
            every = scores_of(reference, histories[name][user], catalogue[name], offsets[name])
            ranking = found.rankings[name]
            part = slice(ranking.offsets[user], ranking.offsets[user + 1])
            kept = ranking.items[part].tolist()
            # With a beam for every ID the list is the whole catalogue.
            assert num_beams < 16 or sorted(kept) == list(range(ITEMS))
            lists[name] = {item: every[item] for item in kept}
            assert ranking.scores[part] == pytest.approx([every[i] for i in kept], rel=1e-4)
        fused = {}
        for item in lists["text"].keys() | lists["image"].keys():
            own = [scores[item] for scores in lists.values() if item in scores]
            fused[item] = sum(own) / len(own) + len(own) - 1
        for name, scores in {**lists, "ensemble": fused}.items():
            assert found.ranks[name][user] == places(scores, targets[user], ambiguity), name
    assert set(found.ranks) == {"text", "image", "ensemble"}
    assert all(len(ranks) == USERS for ranks in found.ranks.values())


@pytest.mark.parametrize("ambiguity", ["pessimistic", "optimistic"])
def test_lists_of_unseen_items_are_those_of_a_catalogue_without_them(
    model, modalities, targets, cases, committed_params, ambiguity, cpu
):
    # With a beam for every ID a list is the whole catalogue.
    params = committed_params.eval.model_copy(
        update={"num_beams": 20, "batch_size": 4, "ambiguous_ids": ambiguity, "fusion": "mean"}
    )
    found = evaluate_recommender(model, modalities, targets, params, cpu, Silent(), cases)
    assert set(found.unseen.ranks) == set(found.ranks)
    for name in modalities:
        whole, unseen = found.rankings[name], found.unseen.rankings[name]
        for user, history in enumerate(cases.histories):
            part = slice(whole.offsets[user], whole.offsets[user + 1])
            scores = dict(zip(whole.items[part].tolist(), whole.scores[part], strict=True))
            assert len(scores) == ITEMS
            left = {item: s for item, s in scores.items() if item not in history}
            part = slice(unseen.offsets[user], unseen.offsets[user + 1])
            listed = dict(zip(unseen.items[part].tolist(), unseen.scores[part], strict=True))
            assert listed == pytest.approx(left, rel=1e-5)
            expected = places(listed, targets[user], ambiguity)
            assert found.unseen.ranks[name][user] == expected


def test_lists_of_all_items_do_not_depend_on_those_of_unseen_ones(
    model, modalities, targets, cases, committed_params, cpu
):
    params = committed_params.eval.model_copy(update={"num_beams": 5})
    plain = evaluate_recommender(model, modalities, targets, params, cpu, Silent())
    both = evaluate_recommender(model, modalities, targets, params, cpu, Silent(), cases)
    assert plain.unseen is None
    for name, ranking in plain.rankings.items():
        assert both.rankings[name].items.tolist() == ranking.items.tolist()
        assert both.ranks[name].tolist() == plain.ranks[name].tolist()


@pytest.mark.parametrize("batch_size", [1, 5, 13, 100])
def test_the_batch_size_changes_nothing(
    model, modalities, targets, cases, committed_params, batch_size, cpu
):
    def run(size):
        params = committed_params.eval.model_copy(update={"batch_size": size})
        result = evaluate_recommender(model, modalities, targets, params, cpu, Silent(), cases)
        return result, result.unseen

    for expected, found in zip(run(4), run(batch_size), strict=True):
        for name, ranks in expected.ranks.items():
            assert found.ranks[name].tolist() == ranks.tolist()
            assert found.rankings[name].items.tolist() == expected.rankings[name].items.tolist()


def test_one_modality_is_its_own_ensemble(model, modalities, targets, committed_params, cpu):
    found = evaluate_recommender(
        model, {"image": modalities["image"]}, targets, committed_params.eval,
        cpu, Silent(),
    )  # fmt: skip
    assert found.ranks["ensemble"].tolist() == found.ranks["image"].tolist()


def test_metrics_of_ranks_by_hand():
    # Six users: first, third, sixth, eleventh, a miss, first. Misses count as users.
    found = ranking_metrics(np.array([1, 3, 6, 11, 0, 1]))
    assert found == pytest.approx(
        {
            "hr@1": 2 / 6,
            "hr@5": 3 / 6,
            "hr@10": 4 / 6,
            "ndcg@5": (1 + 1 / math.log2(4) + 1) / 6,
            "ndcg@10": (1 + 1 / math.log2(4) + 1 / math.log2(7) + 1) / 6,
        }
    )


def test_histories_come_longest_first(
    model, modalities, targets, committed_params, cpu, monkeypatch
):
    plain, seen = packing.lay_out, []

    def recorded(lengths, device):
        seen.append(lengths)
        return plain(lengths, device)

    monkeypatch.setattr(packing, "lay_out", recorded)
    params = committed_params.eval.model_copy(update={"num_beams": 2, "batch_size": 5})
    evaluate_recommender(model, modalities, targets, params, cpu, Silent())
    for parts in (seen[:3], seen[3:]):
        lengths = torch.cat(parts)
        assert len(lengths) == USERS
        assert (lengths.diff() <= 0).all()
        assert lengths[0] > lengths[-1]
