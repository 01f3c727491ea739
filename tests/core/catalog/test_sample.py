"""The sample's raw files: layout, determinism, blemishes, and what can be learned from them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from macrec_core.catalog.oracle import load_oracle, oracle_scores
from macrec_core.catalog.sample import write_sample
from macrec_core.catalog.sample_images import DRAWINGS, FINISH_COLOURS, draw_item
from macrec_core.catalog.sample_words import BRANDS, GRADES, PRICE_SENTENCES
from macrec_core.catalog.sample_world import (
    FINISHES,
    NUM_BRANDS,
    PRICE_BOUNDS,
    TYPES,
    habit_matrix,
)
from macrec_core.errors import MacrecError
from macrec_core.params.data import SampleSource

TINY = SampleSource(source="sample", num_items=60, num_users=80, image_size=32, seed=7)
FULL = SampleSource(source="sample", num_items=520, num_users=1500, image_size=32, seed=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_sample(folder, TINY)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    write_sample(folder, FULL)
    return folder


def ratings(folder):
    with (folder / "categoryFilesSmall" / "Sample.csv").open(newline="") as file:
        return [(i, u, float(r), int(t)) for i, u, r, t in csv.reader(file)]


def json_lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def metadata(folder):
    return json_lines(folder / "metaFiles2" / "meta_Sample.json.gz")


def reviews(folder):
    return json_lines(folder / "categoryFilesSmall" / "Sample_5.json.gz")


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def core_sequences(folder, minimum=5):
    """Items per user in order of time, then of the file, after removing repetitions and k-core."""
    first = {}
    for item, user, _, time in sorted(ratings(folder), key=lambda row: row[3]):
        first.setdefault((user, item), time)
    pairs = list(first)
    while True:
        users, items = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        kept = [(u, i) for u, i in pairs if users[u] >= minimum and items[i] >= minimum]
        if len(kept) == len(pairs):
            break
        pairs = kept
    sequences: dict[str, list[str]] = {}
    for user, item in pairs:
        sequences.setdefault(user, []).append(item)
    return sequences


def test_folder_holds_the_files_of_the_release_and_the_truth(tiny):
    files = [name for name in digests(tiny) if not name.startswith("images/")]
    assert files == [
        "categoryFilesSmall/Sample.csv",
        "categoryFilesSmall/Sample_5.json.gz",
        "metaFiles2/meta_Sample.json.gz",
        "truth.npz",
    ]


def test_ratings_have_the_release_s_form(tiny):
    text = (tiny / "categoryFilesSmall" / "Sample.csv").read_text()
    pattern = re.compile(r"B00[0-9A-Z]{7},A[0-9A-Z]{13},[1-5]\.0,\d{10}")
    assert all(pattern.fullmatch(line) for line in text.splitlines())
    assert all(time % 86_400 == 0 for *_, time in ratings(tiny))


def test_metadata_has_the_release_s_fields(tiny):
    for record in metadata(tiny):
        assert isinstance(record["description"], list)
        assert isinstance(record["category"], list)
        assert re.fullmatch(r"(\$\d+\.99)?", record["price"])
        assert record["imageURL"] == record["imageURLHighRes"]
        for url in record["imageURLHighRes"]:
            assert re.fullmatch(r"https://images\.example\.com/images/I/51\w+\.jpg", url)


def test_reviews_are_the_five_core_of_the_ratings(tiny):
    rated = Counter(ratings(tiny))
    reviewed = Counter(
        (r["asin"], r["reviewerID"], r["overall"], r["unixReviewTime"]) for r in reviews(tiny)
    )
    assert reviewed and not reviewed - rated
    for key in ("asin", "reviewerID"):
        assert min(Counter(r[key] for r in reviews(tiny)).values()) >= 5


def test_images_are_decodable_and_of_the_asked_size(tiny):
    paths = sorted((tiny / "images").iterdir())
    assert len({path.read_bytes() for path in paths}) == len(paths) >= 60
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))


def test_two_runs_are_byte_identical(tiny, tmp_path):
    write_sample(tmp_path, TINY)
    assert digests(tmp_path) == digests(tiny)


def test_another_process_with_another_hash_seed_writes_the_same_bytes(tiny, tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from macrec_core.catalog.sample import write_sample;"
        "from macrec_core.params.data import SampleSource;"
        "write_sample(Path(sys.argv[1]), SampleSource.model_validate_json(sys.argv[2]));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), TINY.model_dump_json()],
        check=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "12345"},
    )
    assert digests(tmp_path) == digests(tiny)


def test_another_seed_gives_another_shop(tiny, tmp_path):
    write_sample(tmp_path, TINY.model_copy(update={"seed": 8}))
    ours, theirs = digests(tiny), digests(tmp_path)
    assert not set(ours.values()) & set(theirs.values())


def test_too_few_items_are_refused(tmp_path):
    with pytest.raises(MacrecError, match=r"num_items=5: .* at least 30"):
        write_sample(tmp_path, TINY.model_copy(update={"num_items": 5}))


def test_progress_counts_every_item(tmp_path):
    class Recorder:
        total, done = 0, 0

        def start(self, description, total):
            self.total = total

        def advance(self, units=1, status=""):
            self.done += units

    recorder = Recorder()
    write_sample(tmp_path, TINY, recorder)
    assert recorder.done == recorder.total == 65


@pytest.mark.parametrize("shop", ["tiny", "full"])
def test_blemishes_of_real_data_are_present(shop, request):
    folder = request.getfixturevalue(shop)
    oracle, rows, records = load_oracle(folder / "truth.npz"), ratings(folder), metadata(folder)
    sold = {item for item, *_ in rows}
    described = {record["asin"] for record in records}
    assert max(Counter((item, user) for item, user, *_ in rows).values()) > 1
    assert min(Counter(user for _, user, *_ in rows).values()) < 5
    assert min(Counter(item for item, *_ in rows).values()) < 5
    assert described < set(oracle.item_keys) and sold - described
    urls = [url for record in records for url in record["imageURLHighRes"]]
    assert len(urls) < len(records)
    assert any(not (folder / "images" / Path(url).name).exists() for url in urls)
    assert any(record["title"] == "" for record in records)
    assert any(len(" ".join(record["description"])) > 10_000 for record in records)
    assert any("&amp;" in record["title"] for record in records)
    assert any("&quot;" in " ".join(record["description"]) for record in records)


def test_some_users_buy_twice_on_one_day(full):
    days = Counter((user, time) for _, user, _, time in ratings(full))
    share = sum(count > 1 for count in days.values()) / len(days)
    assert 0.05 < share < 0.3


def test_titles_are_distinct_name_brand_and_grade_and_seldom_the_type(full):
    oracle = load_oracle(full / "truth.npz")
    records = [record for record in metadata(full) if record["title"]]
    assert len({record["title"] for record in records}) == len(records)
    typed = 0
    for record in records:
        item = oracle.item_rows([record["asin"]])[0]
        assert record["title"].startswith(BRANDS[oracle.item_brand[item]].name)
        assert GRADES[oracle.item_price[item]] in record["title"]
        typed += TYPES[oracle.item_type[item]].capitalize() in record["title"]
    assert 0.2 < typed / len(records) < 0.4


def test_prices_lie_in_their_class(full):
    oracle = load_oracle(full / "truth.npz")
    for record in metadata(full):
        if record["price"]:
            low, high = PRICE_BOUNDS[oracle.item_price[oracle.item_rows([record["asin"]])[0]]]
            assert low <= float(record["price"][1:]) < high


def test_the_filtered_sample_has_the_promised_size(full):
    sequences = core_sequences(full)
    lengths = [len(items) for items in sequences.values()]
    assert 1_000 <= len(sequences) <= 2_000
    assert 400 <= len({item for items in sequences.values() for item in items}) <= 600
    assert min(lengths) == 5 and 7 < np.mean(lengths) < 9


def test_the_tiny_sample_survives_its_five_core(tiny):
    sequences = core_sequences(tiny)
    assert len(sequences) >= 60
    assert len({item for items in sequences.values() for item in items}) >= 45


def test_the_oracle_beats_popularity_and_needs_both_modalities(full):
    oracle, sequences = load_oracle(full / "truth.npz"), core_sequences(full)
    catalogue = sorted({item for items in sequences.values() for item in items})
    place = {item: index for index, item in enumerate(catalogue)}
    cases = [np.array([place[item] for item in items]) for items in sequences.values()]
    histories, targets = [case[:-1] for case in cases], np.array([case[-1] for case in cases])
    sold = np.bincount(np.concatenate([case[:-2] for case in cases]), minlength=len(catalogue))
    popularity = np.array([(sold >= sold[target]).sum() for target in targets])

    def hit_rate(truth):
        scores = oracle_scores(truth, catalogue, list(sequences), histories)
        own = scores[np.arange(len(targets)), targets]
        return ((scores >= own[:, None]).sum(axis=1) <= 10).mean()

    assert 0.10 <= (popularity <= 10).mean() <= 0.16
    assert 0.55 <= hit_rate(oracle) <= 0.70
    assert hit_rate(_blind(oracle, ("type", "finish"))) < 0.6 * hit_rate(oracle)
    assert hit_rate(_blind(oracle, ("brand", "price"))) < 0.7 * hit_rate(oracle)


def test_purchases_follow_the_oracle_s_distribution(full):
    """Over the first four purchases of each user, the mean log-probability is as expected."""
    oracle = load_oracle(full / "truth.npz")
    observed, expected, variance = 0.0, 0.0, 0.0
    histories: dict[str, list[str]] = {}
    for item, user, _, _ in ratings(full):
        history = histories.setdefault(user, [])
        if item in history or len(history) == 4:
            continue
        scores = oracle.scores(user, history)
        open_scores = scores[np.isfinite(scores)]
        probabilities = np.exp(open_scores)
        mean = probabilities @ open_scores
        observed += scores[oracle.item_rows([item])[0]]
        expected += mean
        variance += probabilities @ (open_scores - mean) ** 2
        history.append(item)
    assert abs(observed - expected) < 4 * np.sqrt(variance)


def test_vocabularies_of_world_words_and_images_agree():
    assert len(BRANDS) == NUM_BRANDS
    assert set(DRAWINGS) == set(TYPES)
    assert set(FINISH_COLOURS) == set(FINISHES)
    assert len(GRADES) == len(PRICE_SENTENCES) == len(PRICE_BOUNDS)


def test_accessories_follow_their_instrument_and_not_others():
    habit, place = habit_matrix(), {name: row for row, name in enumerate(TYPES)}
    assert TYPES[habit[place["saxophone"]].argmax()] in ("reed", "mouthpiece")
    assert habit[place["guitar"], place["strings"]] > habit[place["guitar"], place["drumsticks"]]
    assert (np.diag(habit) < 0).all()


@pytest.mark.parametrize("type_name", TYPES)
def test_colour_follows_finish_and_shape_follows_type(type_name):
    def pixels(name, finish, seed=1):
        picture = draw_item(name, finish, 64, np.random.default_rng(seed))
        return np.asarray(picture, dtype=float)

    red, blue = pixels(type_name, "cherry"), pixels(type_name, "ocean")
    drawn = red.min(axis=2) < 200
    assert 0.02 < drawn.mean() < 0.7
    assert red[drawn].mean(axis=0)[0] > blue[drawn].mean(axis=0)[0] + 15
    assert blue[drawn].mean(axis=0)[2] > red[drawn].mean(axis=0)[2] + 15
    for other in set(TYPES) - {type_name}:
        assert np.abs(pixels(other, "cherry") - red).mean() > 2


def _blind(oracle, attributes):
    """The oracle without what the named attributes tell."""
    changes = {
        f"{name}_factors": np.zeros_like(getattr(oracle, f"{name}_factors")) for name in attributes
    }
    if "type" in attributes:
        changes |= {"habit": np.zeros_like(oracle.habit)}
    if "finish" in attributes:
        changes |= {"same_finish": 0.0}
    if "brand" in attributes:
        changes |= {"same_brand": 0.0}
    return replace(oracle, **changes)
