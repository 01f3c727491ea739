"""The true next-purchase distribution of the sample shop, and the ranking that follows from it.

The generator draws every purchase from this model, so its ranking is the ceiling that no
recommender passes in expectation. The model is a softmax over the items not yet bought:

    u(i) = popularity_i + <latent_user, factor_brand(i) + factor_type(i) + ...>
           + habit[type(last), type(i)] + earlier * habit[type(one before), type(i)]
           + same_brand * [brand(i) = brand(last)] + same_finish * [finish(i) = finish(last)]
    p(i | user, history) = softmax(u / temperature)
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from macrec_core.errors import MacrecError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]

NO_ITEM = -1


@dataclass(frozen=True)
class Oracle:
    """Parameters of the generating process; arrays over N items, U users, D latent dimensions.

    Attributes:
        item_keys: (N,) ASIN-like keys.
        user_keys: (U,) reviewer-like keys.
        popularity: (N,) log-weight of each item.
        item_brand: (N,) index into `brand_factors`; likewise type, finish and price class.
        user_latents: (U, D) tastes.
        brand_factors: (brands, D) loadings; likewise type, finish and price class.
        habit: (types, types) utility that a purchase of the row's type lends to the column's.
        earlier_weight: share of `habit` exerted by the purchase before the last.
        same_brand: utility of sharing the last purchase's brand.
        same_finish: utility of sharing the last purchase's finish.
        temperature: divides utilities; higher is more random.
    """

    item_keys: Texts
    user_keys: Texts
    popularity: Floats
    item_brand: Ints
    item_type: Ints
    item_finish: Ints
    item_price: Ints
    user_latents: Floats
    brand_factors: Floats
    type_factors: Floats
    finish_factors: Floats
    price_factors: Floats
    habit: Floats
    earlier_weight: float
    same_brand: float
    same_finish: float
    temperature: float

    @cached_property
    def _item_rows(self) -> dict[str, int]:
        return {str(key): row for row, key in enumerate(self.item_keys)}

    @cached_property
    def _user_rows(self) -> dict[str, int]:
        return {str(key): row for row, key in enumerate(self.user_keys)}

    @cached_property
    def _item_factors(self) -> Floats:
        return (  # (N, D)
            self.brand_factors[self.item_brand]
            + self.type_factors[self.item_type]
            + self.finish_factors[self.item_finish]
            + self.price_factors[self.item_price]
        )

    def item_rows(self, keys: Sequence[str]) -> Ints:
        """Positions of item keys in `item_keys`.

        Raises:
            MacrecError: a key is not an item of the sample.
        """
        return _rows(keys, self._item_rows, "item")

    def user_rows(self, keys: Sequence[str]) -> Ints:
        """Positions of user keys in `user_keys`.

        Raises:
            MacrecError: a key is not a user of the sample.
        """
        return _rows(keys, self._user_rows, "user")

    def utilities(self, users: Ints, last: Ints, before: Ints) -> Floats:
        """Utility of every item as the next purchase, bought ones included.

        Args:
            users: (B,) user rows.
            last: (B,) item row of the last purchase, `NO_ITEM` before the first one.
            before: (B,) item row of the purchase before the last, or `NO_ITEM`.

        Returns:
            (B, N) utilities divided by the temperature.
        """
        total = self.popularity + self.user_latents[users] @ self._item_factors.T
        for items, weight in ((last, 1.0), (before, self.earlier_weight)):
            known = (items != NO_ITEM).astype(np.float64)[:, None]
            # NO_ITEM picks some row; `known` takes its effect away.
            total += known * weight * self.habit[self.item_type[items]][:, self.item_type]
            if items is last:
                brand = self.item_brand[items][:, None] == self.item_brand
                finish = self.item_finish[items][:, None] == self.item_finish
                total += known * (self.same_brand * brand + self.same_finish * finish)
        utilities: Floats = total / self.temperature
        return utilities

    def scores(self, user_key: str, history_keys: Sequence[str]) -> Floats:
        """Log-probability of each item as the user's next purchase.

        Args:
            user_key: key of the user.
            history_keys: keys of all purchases so far, oldest first.

        Returns:
            (N,) natural logarithms, aligned to `item_keys`; minus infinity for bought items.

        Raises:
            MacrecError: a key is not one of the sample's.
        """
        history = self.item_rows(history_keys)
        utilities = self.utilities(self.user_rows([user_key]), *_last_two([history]))[0]
        utilities[history] = -np.inf
        top = utilities.max()
        log_probabilities: Floats = utilities - top - np.log(np.exp(utilities - top).sum())
        return log_probabilities


def oracle_scores(
    oracle: Oracle,
    item_keys: Sequence[str],
    user_keys: Sequence[str],
    histories: Sequence[npt.NDArray[np.integer]],
) -> Floats:
    """What orders the whole catalogue by the true probability of being bought next.

    Args:
        oracle: the generating process.
        item_keys: the catalogue; item id i is `item_keys[i]`.
        user_keys: one per case.
        histories: item ids of each case's earlier purchases, oldest first.

    Returns:
        (cases, N) scores; minus infinity for bought items, since nobody buys twice.

    Raises:
        MacrecError: a key is not one of the sample's, or the lengths disagree.
    """
    if len(user_keys) != len(histories):
        raise MacrecError(
            f"oracle: {len(user_keys)} users, {len(histories)} histories: must be as many of "
            "each; pass one history per user"
        )
    rows = oracle.item_rows(item_keys)
    of_oracle = [rows[history] for history in histories]
    last, before = _last_two(of_oracle)
    # Dropping the normalisation keeps the order, so the catalogue's columns suffice.
    scores = oracle.utilities(oracle.user_rows(user_keys), last, before)[:, rows]
    for case, history in enumerate(histories):
        scores[case, history] = -np.inf
    return scores


def save_oracle(oracle: Oracle, path: Path) -> None:
    """Write `oracle` as a NumPy archive; equal oracles give equal bytes."""
    arrays = {field.name: np.asarray(getattr(oracle, field.name)) for field in fields(oracle)}
    # Not by np.savez: how it marks its entries for large files differs between Python's releases.
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays.items():
            entry = io.BytesIO()
            np.save(entry, value, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())


def load_oracle(path: Path) -> Oracle:
    """Read what `save_oracle` wrote (`truth.npz` of the sample's raw folder).

    Raises:
        MacrecError: the file is missing, damaged or not such an archive.
    """
    remedy = "run the download stage of a sample dataset again"
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise MacrecError(f"{path}: not a readable NumPy archive ({error}); {remedy}") from error
    expected = {field.name for field in fields(Oracle)}
    if set(stored) != expected:
        differing = ", ".join(sorted(set(stored) ^ expected))
        raise MacrecError(f"{path}: not the sample's truth (differs in {differing}); {remedy}")
    return Oracle(
        **{name: value.item() if value.ndim == 0 else value for name, value in stored.items()}
    )


def _last_two(histories: Sequence[Ints]) -> tuple[Ints, Ints]:
    last = [history[-1] if len(history) > 0 else NO_ITEM for history in histories]
    before = [history[-2] if len(history) > 1 else NO_ITEM for history in histories]
    return np.array(last, dtype=np.int64), np.array(before, dtype=np.int64)


def _rows(keys: Sequence[str], rows: Mapping[str, int], kind: str) -> Ints:
    try:
        return np.array([rows[str(key)] for key in keys], dtype=np.int64)
    except KeyError as error:
        raise MacrecError(
            f"{kind} {error.args[0]!r}: not in the sample's truth; "
            "use the truth.npz of the folder that the data came from"
        ) from error
