"""The synthetic shop behind the sample: items, users and their purchases, drawn from an `Oracle`.

Brand and price class are told by an item's text, type and finish by its image; purchases
depend on all four and on a habit (accessories follow instruments), so a recommender needs
both modalities and the order of purchases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from macrec_core.catalog.oracle import NO_ITEM, Floats, Ints, Oracle, Texts
from macrec_core.errors import MacrecError
from macrec_core.params.data import SampleSource

INSTRUMENTS = ("guitar", "drum", "keyboard", "violin", "saxophone", "trumpet", "microphone")
ACCESSORIES = ("strings", "pedal", "drumsticks", "stand", "bow", "reed", "mouthpiece", "cable")
TYPES = INSTRUMENTS + ACCESSORIES
FINISHES = ("ebony", "cherry", "ocean", "honey", "mint", "ivory")
PRICE_BOUNDS = ((5, 20), (20, 60), (60, 200), (200, 900))  # US dollars, cheapest class first
NUM_BRANDS = 12

ACCESSORIES_OF = {
    "guitar": ("strings", "pedal", "cable"),
    "drum": ("drumsticks", "stand"),
    "keyboard": ("stand", "pedal", "cable"),
    "violin": ("bow", "strings"),
    "saxophone": ("reed", "mouthpiece"),
    "trumpet": ("mouthpiece", "stand"),
    "microphone": ("cable", "stand"),
}

LATENT_DIM = 8
# Spread of the tastes over each attribute (standard deviation of a utility over users).
TASTE = {"brand": 0.7, "type": 0.5, "finish": 0.6, "price": 0.5}
HABIT_ACCESSORY = 3.5  # from an instrument to its accessories
HABIT_SIBLING = 2.0  # between accessories of one instrument
HABIT_BACK = 1.0  # from an accessory to an instrument it belongs to
HABIT_REPEAT = -2.0  # the same type once more
EARLIER_WEIGHT = 0.4
SAME_BRAND, SAME_FINISH = 2.4, 2.2
TEMPERATURE = 1.0
ZIPF_EXPONENT, ZIPF_SHIFT = 0.6, 8.0
TAIL_OFFSET = -4.0  # log-popularity that a tail item lacks

TAIL_ITEMS, LIGHT_USERS = 0.08, 0.12  # added on top, as shares of num_items and num_users
MIN_LENGTH, MEAN_LENGTH, MAX_LENGTH = 5, 8, 40
MIN_ITEMS = 30

_FIRST_DAY, _LAST_DAY = 14_610, 17_300  # days since 1970: 2010-01-01 to 2017-05-14
_DAY = 86_400  # seconds; the real release also gives whole days
_SAME_DAY = 0.15
_MEAN_GAP = 25.0  # days
_KEY_CHARACTERS = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


@dataclass(frozen=True)
class Purchases:
    """All purchases, ordered by time; equal times keep each user's order.

    Attributes:
        user: (P,) user rows.
        item: (P,) item rows.
        rating: (P,) stars, 1 to 5.
        time: (P,) Unix seconds, whole days.
    """

    user: Ints
    item: Ints
    rating: Ints
    time: Ints


def build_oracle(spec: SampleSource) -> Oracle:
    """Draw items, users and their tastes: `num_items` and `num_users`, plus tail and light ones.

    Raises:
        MacrecError: fewer items than a shop with all types needs.
    """
    if spec.num_items < MIN_ITEMS:
        raise MacrecError(
            f"num_items={spec.num_items}: a sample needs at least {MIN_ITEMS} items; raise it"
        )
    items, users = np.random.default_rng([spec.seed, 0]), np.random.default_rng([spec.seed, 1])
    num_items = spec.num_items + round(TAIL_ITEMS * spec.num_items)
    num_users = spec.num_users + round(LIGHT_USERS * spec.num_users)
    return Oracle(
        item_keys=_distinct_keys(items, "B00", 10, num_items),
        user_keys=_distinct_keys(users, "A", 14, num_users),
        popularity=_popularity(items, spec.num_items, num_items),
        item_brand=_balanced(items, NUM_BRANDS, num_items),
        item_type=_balanced(items, len(TYPES), num_items),
        item_finish=_balanced(items, len(FINISHES), num_items),
        item_price=_balanced(items, len(PRICE_BOUNDS), num_items),
        user_latents=users.normal(size=(num_users, LATENT_DIM)),
        brand_factors=_factors(items, NUM_BRANDS, TASTE["brand"]),
        type_factors=_factors(items, len(TYPES), TASTE["type"]),
        finish_factors=_factors(items, len(FINISHES), TASTE["finish"]),
        price_factors=_factors(items, len(PRICE_BOUNDS), TASTE["price"]),
        habit=habit_matrix(),
        earlier_weight=EARLIER_WEIGHT,
        same_brand=SAME_BRAND,
        same_finish=SAME_FINISH,
        temperature=TEMPERATURE,
    )


def habit_matrix() -> Floats:
    """(types, types) utility that having just bought the row's type lends to the column's."""
    place = {name: row for row, name in enumerate(TYPES)}
    habit = np.zeros((len(TYPES), len(TYPES)))
    for instrument, accessories in ACCESSORIES_OF.items():
        for accessory in accessories:
            habit[place[instrument], place[accessory]] = HABIT_ACCESSORY
            habit[place[accessory], place[instrument]] = HABIT_BACK
            for sibling in accessories:
                habit[place[accessory], place[sibling]] = HABIT_SIBLING
    np.fill_diagonal(habit, HABIT_REPEAT)
    return habit


def draw_purchases(oracle: Oracle, spec: SampleSource) -> Purchases:
    """Let every user buy, one item after another, from the oracle's distribution.

    The first `num_users` users buy at least `MIN_LENGTH` items, the light ones fewer.
    Nobody buys an item twice.
    """
    rng = np.random.default_rng([spec.seed, 2])
    lengths = _lengths(rng, spec.num_users, len(oracle.user_keys), len(oracle.item_keys))
    sequences = _sequences(rng, oracle, lengths)
    user = np.repeat(np.arange(len(lengths)), lengths)
    item = sequences[sequences != NO_ITEM]  # row by row: the order of `user`
    time = np.concatenate([_days(rng, length) for length in lengths]) * _DAY
    rating = rng.choice(np.arange(1, 6), p=(0.03, 0.04, 0.08, 0.2, 0.65), size=len(item))
    order = np.argsort(time, kind="stable")
    return Purchases(user[order], item[order], rating[order], time[order])


def _sequences(rng: np.random.Generator, oracle: Oracle, lengths: Ints) -> Ints:
    """(users, longest) item rows, padded at the end with `NO_ITEM`."""
    bought = np.zeros((len(lengths), len(oracle.item_keys)), dtype=bool)
    # Two columns in front stand for "nothing bought yet".
    sequences = np.full((len(lengths), 2 + lengths.max()), NO_ITEM, dtype=np.int64)
    for step in range(lengths.max()):
        users = np.flatnonzero(lengths > step)
        utilities = oracle.utilities(users, sequences[users, step + 1], sequences[users, step])
        utilities[bought[users]] = -np.inf
        # The maximum after adding Gumbel noise is a draw from the softmax.
        chosen = (utilities + rng.gumbel(size=utilities.shape)).argmax(axis=1)
        sequences[users, step + 2] = chosen
        bought[users, chosen] = True
    return sequences[:, 2:]


def _lengths(rng: np.random.Generator, num_core: int, num_users: int, num_items: int) -> Ints:
    lengths = MIN_LENGTH - 1 + rng.geometric(1 / (MEAN_LENGTH - MIN_LENGTH + 1), size=num_users)
    lengths[num_core:] = rng.integers(1, MIN_LENGTH, size=num_users - num_core)
    # Half of a small shop at most, so that there is always a choice.
    return np.minimum(lengths, min(MAX_LENGTH, num_items // 2)).astype(np.int64)


def _days(rng: np.random.Generator, length: int) -> Ints:
    gaps = np.ceil(rng.exponential(_MEAN_GAP, size=length)).astype(np.int64)
    gaps[rng.random(length) < _SAME_DAY] = 0
    days: Ints = rng.integers(_FIRST_DAY, _LAST_DAY) + np.cumsum(gaps)
    return days


def _popularity(rng: np.random.Generator, num_core: int, num_items: int) -> Floats:
    popularity: Floats = -ZIPF_EXPONENT * np.log(rng.permutation(num_items) + 1 + ZIPF_SHIFT)
    popularity[num_core:] += TAIL_OFFSET
    return popularity


def _balanced(rng: np.random.Generator, num_values: int, count: int) -> Ints:
    return rng.permutation(np.arange(count) % num_values)


def _factors(rng: np.random.Generator, count: int, spread: float) -> Floats:
    directions = rng.normal(size=(count, LATENT_DIM))
    # Users' latents are standard normal, so a row's norm is its taste's standard deviation.
    factors: Floats = spread * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return factors


def _distinct_keys(rng: np.random.Generator, prefix: str, length: int, count: int) -> Texts:
    keys: dict[str, None] = {}
    while len(keys) < count:
        drawn = rng.choice(_KEY_CHARACTERS, size=length - len(prefix))
        keys[prefix + "".join(drawn)] = None
    return np.array(list(keys))
