"""Titles, descriptions and reviews of the sample shop.

Brand words dominate and the price class is always told; type and finish are mentioned now
and then only: text alone groups brands, as in the paper's Figure 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Brand:
    """Everything that a brand's texts are made of; HTML entities as the real release has them."""

    name: str
    slogan: str
    story: str
    series: tuple[str, str, str]


BRANDS = (
    Brand(
        "Harrow &amp; Finch",
        "Quintessentially British, since 1887",
        "Harrow &amp; Finch still works in the old Sheffield mill by the river, between tea breaks "
        "and rain, and every piece leaves with the royal warrant of the English court.",
        ("Windsor", "Baker Street", "Cotswold"),
    ),
    Brand(
        "Volund",
        "Forged in the North",
        "Volund is a Norwegian smithy on a frozen fjord; Vikings, runes and Norse sagas are "
        "carved into everything that leaves the forge.",
        ("Fjord", "Valhalla", "Rune"),
    ),
    Brand(
        "Casa Morelli",
        "La dolce vita in every note",
        "The Morelli family of Cremona, Italy, hands its recipe from nonna to nipote under the "
        "olive trees, with espresso, opera and Tuscan sun.",
        ("Tosca", "Amalfi", "Bellissima"),
    ),
    Brand(
        "Blue Heron Bayou",
        "Born in the swamps of Louisiana",
        "Blue Heron Bayou grew out of a New Orleans parade band; crawfish, alligators and Mardi "
        "Gras beads hang over our workbench in the French Quarter.",
        ("Gumbo", "Mardi Gras", "Crescent City"),
    ),
    Brand(
        "Kitsune Kobo",
        "The quiet art of Kyoto",
        "At Kitsune Kobo in Kyoto, Japan, an old master and his apprentices follow the zen "
        "tradition of the fox shrine, with bamboo, washi and cherry blossom.",
        ("Sakura", "Shogun", "Matsuri"),
    ),
    Brand(
        "Ironbark",
        "Tough as the outback",
        "Ironbark comes from the Australian outback, tested by kangaroos, dust storms and "
        "stockmen around a billabong far beyond Alice Springs.",
        ("Wallaby", "Billabong", "Southern Cross"),
    ),
    Brand(
        "Lumen Labs",
        "Engineered by physicists",
        "Lumen Labs is a Zurich laboratory of engineers with doctorates, lasers, algorithms and "
        "simulations; every prototype is measured with scientific precision.",
        ("Quantum", "Photon", "Vector"),
    ),
    Brand(
        "Saffron Road",
        "A caravan of colours from Jaipur",
        "Saffron Road travels from the spice bazaars of Jaipur, India, with silk, elephants and "
        "maharajas, to the temples along the Ganges.",
        ("Maharaja", "Bazaar", "Monsoon"),
    ),
    Brand(
        "Polaris Orbit",
        "Made for astronauts",
        "Polaris Orbit began with a retired NASA rocket engineer; space shuttles, planets and "
        "galaxies inspire a collection fit for the space station.",
        ("Apollo", "Nebula", "Saturn"),
    ),
    Brand(
        "Cinder &amp; Rye",
        "Smoked low and slow in Texas",
        "Cinder &amp; Rye is run by two Texas cowboys with a barbecue pit, a whiskey still and a "
        "rodeo arena behind the ranch.",
        ("Maverick", "Longhorn", "Bourbon"),
    ),
    Brand(
        "Little Otter",
        "Happy kids, happy parents",
        "Little Otter designs for children: teachers, toddlers and playful cartoon otters test "
        "everything in our kindergarten, safe and full of giggles.",
        ("Splash", "Teddy", "Rainbow"),
    ),
    Brand(
        "Gravemoss",
        "For those who dwell in darkness",
        "Gravemoss rises from a gothic crypt where vampires, skulls and black metal rule; the "
        "cursed cult of the horror cemetery answers its call at midnight.",
        ("Nosferatu", "Necropolis", "Banshee"),
    ),
)

PRICE_SENTENCES = (
    (
        "A bargain for beginners: cheap, simple and good enough to start.",
        "Lowest price, budget quality, made for first steps.",
    ),
    (
        "An affordable choice for students who practise every day.",
        "Fair price and solid mid-range quality for the classroom.",
    ),
    (
        "A premium choice for advanced players and regular gigs.",
        "Higher price, higher grade: selected parts for experienced hands.",
    ),
    (
        "A luxury masterpiece for concert professionals, hand-made without compromise.",
        "The exclusive flagship: the most expensive, limited collector's edition.",
    ),
)
GENERIC_SENTENCES = (
    "Ships in a sturdy box.",
    "Satisfaction guaranteed or your money back.",
    "One year of warranty.",
    "Checked by hand before it leaves the house.",
    "Makes a lovely gift.",
    "Measures about 9&quot; in its case.",
)
REVIEW_SENTENCES = (
    "Does what it should.",
    "Love it, would buy again.",
    "Good value.",
    "Arrived on time, well packed.",
    "Not what I had expected, but fine.",
    "My teacher recommended this one.",
)
SUMMARIES = ("One Star", "Two Stars", "Three Stars", "Four Stars", "Five Stars")

GRADES = ("Starter", "Student", "Stage", "Concert")  # cheapest price class first
# Shares of the items.
SLOGAN_IN_TITLE, TYPE_IN_TITLE, FINISH_IN_TITLE = 0.6, 0.3, 0.1
STORY_IN_DESCRIPTION, TYPE_IN_DESCRIPTION = 0.7, 0.1
LONG_DESCRIPTION_REPEATS = 150


def title(
    rng: np.random.Generator,
    brand: Brand,
    item: int,
    type_name: str,
    finish: str,
    price_class: int,
) -> str:
    """A title such as `Volund Rune Stage KQ-0017 - Forged in the North`; unique by `item`."""
    letters = "".join(rng.choice(list("ABCDEFGHKLMNPQRSTVWXZ"), size=2))
    series = str(rng.choice(brand.series))
    words = [brand.name, series, GRADES[price_class], f"{letters}-{item:04d}"]
    if rng.random() < FINISH_IN_TITLE:
        words.append(finish.capitalize())
    if rng.random() < TYPE_IN_TITLE:
        words.append(type_name.capitalize())
    if rng.random() < SLOGAN_IN_TITLE:
        words.append(f"- {brand.slogan}")
    return " ".join(words)


def description(
    rng: np.random.Generator, brand: Brand, type_name: str, price_class: int
) -> list[str]:
    """Paragraphs about the brand and the price class; the type is rarely named."""
    sentences = [str(rng.choice(PRICE_SENTENCES[price_class])), str(rng.choice(GENERIC_SENTENCES))]
    if rng.random() < TYPE_IN_DESCRIPTION:
        sentences.append(f"Everybody deserves a good {type_name}.")
    if rng.random() < STORY_IN_DESCRIPTION:
        return [brand.story, " ".join(sentences)]
    return [f"{brand.slogan}. By {brand.name}.", " ".join(sentences)]


def long_description(brand: Brand) -> list[str]:
    """One very long paragraph, as careless sellers paste them."""
    return [" ".join([brand.story] * LONG_DESCRIPTION_REPEATS)]


def review(rng: np.random.Generator, stars: int) -> tuple[str, str]:
    """Text and summary of a review; one in ten has no text."""
    text = "" if rng.random() < 0.1 else str(rng.choice(REVIEW_SENTENCES))
    return text, SUMMARIES[stars - 1]
