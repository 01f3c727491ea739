from __future__ import annotations

import numpy as np
import pytest
import torch

from macrec_core.ranking import Cases
from macrec_core.recommender.decoding import beam_search, prepare
from macrec_core.recommender.trie import build_trie

SPECIALS = 6


class Case:
    """A catalogue, a model and histories of different lengths."""

    def __init__(self, make_t5, hugging_face, pack, codes, size, users=6, seed=0, scale=2.0):
        torch.set_num_threads(1)
        self.levels = codes.shape[1]
        vocabulary = SPECIALS + 2 * self.levels * size
        self.model = make_t5(vocabulary, seed, scale)
        self.reference = hugging_face(self.model)
        self.pack = pack
        # The second modality's tokens: the first one's are codes that are never allowed.
        self.offsets = SPECIALS + (self.levels + torch.arange(self.levels)) * size
        self.trie = build_trie(codes)
        self.ids = torch.from_numpy(np.unique(codes, axis=0)).long()  # [distinct, L]
        draws = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(3, 30, (users,), generator=draws)
        width = int(self.lengths.max())
        self.mask = torch.arange(width) < self.lengths[:, None]
        tokens = torch.randint(SPECIALS, vocabulary, (users, width), generator=draws)
        self.source = tokens * self.mask

    def search(self, num_beams, source=None, mask=None, cases=None):
        packed = self.pack(
            self.source if source is None else source, self.mask if mask is None else mask
        )
        exhausted = None if cases is None else self.trie.exhausted(cases)
        return beam_search(
            self.model, prepare(self.model, packed), self.trie, self.offsets, num_beams, exhausted
        )

    def allowed(self):
        """What `prefix_allowed_tokens_fn` answers: tokens that continue an existing ID."""
        allowed: dict[tuple[int, ...], set[int]] = {}
        for row in (self.ids + self.offsets).tolist():
            tokens = [*row, 1]
            for place, token in enumerate(tokens):
                allowed.setdefault(tuple(tokens[:place]), set()).add(token)
        return lambda _, ids: sorted(allowed.get(tuple(ids.tolist()[1:]), {0}))

    def generate(self, num_beams):
        """Sequences [U, b, L] of codes and their scores [U, b], by Hugging Face."""
        out = self.reference.generate(
            input_ids=self.source,
            attention_mask=self.mask.long(),
            num_beams=num_beams,
            num_return_sequences=num_beams,
            max_new_tokens=self.levels + 1,
            length_penalty=1.0,
            prefix_allowed_tokens_fn=self.allowed(),
            return_dict_in_generate=True,
            output_scores=True,
        )
        shape = (len(self.source), num_beams)
        sequences = out.sequences[:, 1 : self.levels + 1].view(*shape, self.levels)
        return sequences - self.offsets, out.sequences_scores.view(shape)

    @torch.no_grad()
    def every_log_prob(self):
        """Log-probability of every existing ID and the end token [U, distinct], by teacher."""
        targets = torch.cat([self.ids + self.offsets, torch.ones(len(self.ids), 1).long()], dim=1)
        rows = []
        for user in range(len(self.source)):
            source = self.source[user, : self.lengths[user]].expand(len(targets), -1)
            logits = self.reference(input_ids=source, labels=targets).logits
            chosen = logits.log_softmax(dim=-1).gather(2, targets[:, :, None])
            rows.append(chosen.sum(dim=(1, 2)))
        return torch.stack(rows)


@pytest.mark.parametrize(
    ("levels", "size", "count", "num_beams"),
    [
        pytest.param(4, 8, 80, 20, id="four-levels"),
        pytest.param(4, 8, 80, 5, id="five-beams"),
        pytest.param(3, 3, 26, 20, id="fewer-codes-than-beams"),
        pytest.param(1, 40, 30, 20, id="one-level"),
        pytest.param(6, 4, 70, 20, id="six-levels"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sequences_and_scores_are_those_of_generate(
    make_t5, hugging_face, pack, make_codes, levels, size, count, num_beams, seed
):
    case = Case(make_t5, hugging_face, pack, make_codes(count, levels, size, seed), size, seed=seed)
    beams = case.search(num_beams)
    sequences, scores = case.generate(num_beams)
    assert torch.equal(case.ids[beams.ids], sequences)
    torch.testing.assert_close(beams.log_probs / (levels + 1), scores, rtol=1e-5, atol=1e-6)
    # Far from flat: otherwise agreement would be cheap.
    assert (scores[:, 0] - scores[:, -1]).min() > 0.05


def test_one_beam_is_the_greedy_path_with_its_own_score(make_t5, hugging_face, pack, make_codes):
    # `generate` reports no score for one beam, so the score comes from the teacher-forced model.
    case = Case(make_t5, hugging_face, pack, make_codes(80, 4, 8), 8)
    beams = case.search(1)
    generated = case.reference.generate(
        input_ids=case.source, attention_mask=case.mask.long(), num_beams=1, do_sample=False,
        max_new_tokens=5, prefix_allowed_tokens_fn=case.allowed(),
    )  # fmt: skip
    assert torch.equal(case.ids[beams.ids[:, 0]] + case.offsets, generated[:, 1:5])
    expected = case.every_log_prob().gather(1, beams.ids)
    torch.testing.assert_close(beams.log_probs, expected, rtol=1e-5, atol=1e-5)


def test_with_enough_beams_it_is_the_exhaustive_ranking(make_t5, hugging_face, pack, make_codes):
    case = Case(make_t5, hugging_face, pack, make_codes(40, 3, 5), 5)
    beams = case.search(125)
    expected, order = case.every_log_prob().sort(dim=1, descending=True)
    assert torch.equal(beams.ids[:, :40], order)
    torch.testing.assert_close(beams.log_probs[:, :40], expected, rtol=1e-5, atol=1e-5)


def test_probabilities_are_normalised_over_the_whole_vocabulary(make_t5, hugging_face, pack):
    # One allowed ID: normalised over the allowed codes alone it would have probability one.
    case = Case(make_t5, hugging_face, pack, np.array([[2, 1, 3]], np.int32), 5)
    beams = case.search(1)
    torch.testing.assert_close(beams.log_probs, case.every_log_prob(), rtol=1e-5, atol=1e-5)
    assert (beams.log_probs < -1.0).all()


def test_normalising_over_allowed_codes_would_rank_otherwise(
    make_t5, hugging_face, pack, make_codes
):
    # First codes with one continuation each gain most by a narrow normalisation.
    codes = np.array([[0, i, j] for i in range(5) for j in range(5)] + [[1, 2, 3], [2, 1, 1]])
    case = Case(make_t5, hugging_face, pack, codes.astype(np.int32), 5, users=8)
    narrow = torch.zeros(len(case.source), len(case.ids))
    targets = case.ids + case.offsets
    with torch.no_grad():
        for user in range(len(case.source)):
            source = case.source[user, : case.lengths[user]].expand(len(targets), -1)
            logits = case.reference(input_ids=source, labels=targets).logits
            for row, ids in enumerate(case.ids.tolist()):
                for level, code in enumerate(ids):
                    same = (case.ids[:, :level] == case.ids[row, :level]).all(dim=1)
                    siblings = case.ids[same, level].unique() + case.offsets[level]
                    scores = logits[row, level]
                    token = code + case.offsets[level]
                    narrow[user, row] += scores[token] - scores[siblings].logsumexp(0)
    found = case.search(len(case.ids)).ids[:, : len(case.ids)]
    assert not torch.equal(found, narrow.argsort(dim=1, descending=True))


def test_fewer_ids_than_beams_leave_dead_beams_and_no_duplicates(
    make_t5, hugging_face, pack, make_codes
):
    case = Case(make_t5, hugging_face, pack, make_codes(7, 3, 4), 4)
    beams = case.search(20)
    assert beams.ids.shape == (6, 20)
    for row in beams.ids.tolist():
        assert sorted(row[:7]) == list(range(7))
        assert row[7:] == [-1] * 13
    assert torch.isfinite(beams.log_probs[:, :7]).all()
    assert (beams.log_probs[:, 7:] == -torch.inf).all()
    expected = case.every_log_prob().sort(dim=1, descending=True).values
    torch.testing.assert_close(beams.log_probs[:, :7], expected, rtol=1e-5, atol=1e-5)


def test_more_beams_than_codes_at_the_only_level(make_t5, hugging_face, pack):
    case = Case(make_t5, hugging_face, pack, np.array([[0], [3], [4]], np.int32), 5)
    beams = case.search(20)
    assert [sorted(row) for row in beams.ids[:, :3].tolist()] == [[0, 1, 2]] * 6
    assert (beams.ids[:, 3:] == -1).all()


def test_scores_descend(make_t5, hugging_face, pack, make_codes):
    scores = Case(make_t5, hugging_face, pack, make_codes(80, 4, 8), 8).search(20).log_probs
    assert (scores[:, :-1] >= scores[:, 1:]).all()


def test_the_batch_split_changes_nothing(make_t5, hugging_face, pack, make_codes):
    case = Case(make_t5, hugging_face, pack, make_codes(80, 4, 8), 8)
    together = case.search(20)
    alone = [
        case.search(20, case.source[u : u + 1, :n], case.mask[u : u + 1, :n])
        for u, n in enumerate(case.lengths.tolist())
    ]
    assert torch.equal(torch.cat([b.ids for b in alone]), together.ids)
    scores = torch.cat([b.log_probs for b in alone])
    torch.testing.assert_close(scores, together.log_probs, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------- without some items


def bought_by(case, rng, most):
    """Random items that each user has bought."""
    count = len(case.trie.members)
    rows = [rng.choice(count, rng.integers(1, most), False) for _ in case.source]
    return Cases(
        np.arange(len(rows)), np.zeros(len(rows), dtype=int), np.concatenate(rows),
        np.cumsum([0, *map(len, rows)]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("levels", "size", "count", "num_beams"),
    [(3, 5, 40, 4), (4, 3, 60, 10), (1, 40, 30, 5), (4, 8, 80, 20), (3, 4, 50, 60)],
)
def test_a_search_without_items_is_that_of_a_tree_without_them(
    make_t5, hugging_face, pack, make_codes, levels, size, count, num_beams
):
    codes = make_codes(count, levels, size)
    case = Case(make_t5, hugging_face, pack, codes, size)
    cases = bought_by(case, np.random.default_rng(3), count - 5)
    found = case.search(num_beams, cases=cases)
    for user, history in enumerate(cases.histories):
        left = np.setdiff1d(np.arange(count), history)
        # A tree of the other items alone: prefixes that lead to none are not in it.
        row = case.pack(case.source[user : user + 1], case.mask[user : user + 1])
        expected = beam_search(
            case.model, prepare(case.model, row), build_trie(codes[left]), case.offsets, num_beams
        )
        listed = found.ids[user][found.ids[user] >= 0]
        wanted = expected.ids[0][expected.ids[0] >= 0]
        assert len(wanted) > 1
        names = np.unique(codes, axis=0)[listed], np.unique(codes[left], axis=0)[wanted]
        assert np.array_equal(*names)
        torch.testing.assert_close(
            found.log_probs[user, : len(listed)], expected.log_probs[0, : len(wanted)],
            rtol=1e-5, atol=1e-5,
        )  # fmt: skip


def test_who_has_bought_nothing_that_is_listed_gets_the_same_list(
    make_t5, hugging_face, pack, make_codes
):
    case = Case(make_t5, hugging_face, pack, make_codes(80, 4, 8), 8)
    plain = case.search(10)
    worst = case.every_log_prob().argmin(dim=1).numpy()
    bought = case.trie.members[case.trie.member_offsets[worst]]
    users = np.arange(len(bought))
    cases = Cases(users, bought, bought, np.arange(len(bought) + 1))
    found = case.search(10, cases=cases)
    assert torch.equal(found.ids, plain.ids)
    torch.testing.assert_close(found.log_probs, plain.log_probs)


def test_prefixes_are_exhausted_when_all_items_below_them_are_bought():
    # IDs in order: items 1 and 3 share 0 0, item 0 has 0 1, item 2 has 1 0.
    trie = build_trie(np.array([[0, 1], [0, 0], [1, 0], [0, 0]], dtype=np.int32))
    cases = Cases(
        np.arange(4), np.zeros(4, dtype=int), np.array([1, 1, 3, 1, 2, 2, 0, 3, 1, 0]),
        np.array([0, 2, 5, 6, 10]),
    )  # fmt: skip
    # User 0 has bought item 1 twice and 3 never; user 1 both and item 2; 2 item 2; 3 all but 2.
    first, last = trie.exhausted(cases)
    assert last.tolist() == [[3, 3], [0, 2], [2, 3], [0, 1]]
    assert first.tolist() == [[2], [1], [1], [0]]
