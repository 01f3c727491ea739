"""How the two Amazon releases name their categories and files.

2018: Ni, Li and McAuley, "Justifying Recommendations using Distantly-Labeled Reviews and
Fine-Grained Aspects". 2023: Hou et al., "Bridging Language and Items for Retrieval and
Recommendation"; its ratings are published without repeated pairs of user and item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from macrec_core.errors import MacrecError

LayoutName = Literal["amazon2018", "amazon2023"]

# The paper's names of three categories, and the releases'.
SHORT_NAMES = {
    "Instruments": "Musical_Instruments",
    "Arts": "Arts_Crafts_and_Sewing",
    "Games": "Video_Games",
}

_COMMON = (
    "All_Beauty", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Books", "CDs_and_Vinyl",
    "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Digital_Music", "Electronics",
    "Gift_Cards", "Grocery_and_Gourmet_Food", "Home_and_Kitchen", "Industrial_and_Scientific",
    "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments",
    "Office_Products", "Patio_Lawn_and_Garden", "Pet_Supplies", "Software",
    "Sports_and_Outdoors", "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Names of a release; `{}` stands for the category.

    Attributes:
        name: as the params call it.
        categories: all that were released.
        ratings: file of item, user, rating and time.
        metadata: file of item records.
        reviews: file of the 5-core, read for the items that it names.
    """

    name: LayoutName
    categories: tuple[str, ...]
    ratings: str
    metadata: str
    reviews: str


_LAYOUTS: dict[LayoutName, Layout] = {
    "amazon2018": Layout(
        "amazon2018",
        (*_COMMON, "AMAZON_FASHION", "Luxury_Beauty", "Prime_Pantry"),
        ratings="categoryFilesSmall/{}.csv",
        metadata="metaFiles2/meta_{}.json.gz",
        reviews="categoryFilesSmall/{}_5.json.gz",
    ),
    "amazon2023": Layout(
        "amazon2023",
        (
            *_COMMON, "Amazon_Fashion", "Baby_Products", "Beauty_and_Personal_Care",
            "Handmade_Products", "Health_and_Household", "Health_and_Personal_Care",
            "Subscription_Boxes", "Unknown",
        ),
        ratings="benchmark/0core/rating_only/{}.csv.gz",
        metadata="raw/meta_categories/meta_{}.jsonl.gz",
        reviews="benchmark/5core/rating_only/{}.csv.gz",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Release:
    """One category's files, relative to a base.

    Attributes:
        layout: the release.
        category: the release's name of the category.
    """

    layout: LayoutName
    category: str

    @property
    def is_2018(self) -> bool:
        """Whether files are as `filter` reads them; others are rewritten."""
        return self.layout == "amazon2018"

    @property
    def ratings(self) -> str:
        """File of item, user, rating and time."""
        return _LAYOUTS[self.layout].ratings.format(self.category)

    @property
    def metadata(self) -> str:
        """File of item records."""
        return _LAYOUTS[self.layout].metadata.format(self.category)

    @property
    def reviews(self) -> str:
        """File that names the items of the 5-core."""
        return _LAYOUTS[self.layout].reviews.format(self.category)


def find_release(layout: LayoutName, category: str, *, own_allowed: bool) -> Release:
    """A category's files, by the release's name (in any case) or a short name of the paper.

    Args:
        layout: the release.
        category: the name.
        own_allowed: whether a category may be none of the release's, as in a folder of one's own.

    Raises:
        MacrecError: the name could leave the base's folder, or the release has none such.
    """
    if not category.replace("_", "").isascii() or not category.replace("_", "").isalnum():
        raise MacrecError(
            f"category={category!r}: only letters, digits and underscores; "
            "use the release's name, such as Musical_Instruments"
        )
    known = _LAYOUTS[layout].categories
    by_key = {name.casefold(): name for name in known}
    by_key |= {short.casefold(): name for short, name in SHORT_NAMES.items()}
    found = by_key.get(category.casefold())
    if found is None and not own_allowed:
        raise MacrecError(
            f"category={category!r}: layout {layout} has none of this name; it has "
            f"{', '.join(sorted(known))}; a category of your own needs folders as bases"
        )
    return Release(layout, found or category)
