"""Figure 1: each modality's embeddings in two dimensions, coloured by brand and by type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from macrec_core.embedding_agreement import Classes
from macrec_core.figures.canvas import default_style, panels, png

_GREY = "#c8c8c8"


def draw_embeddings(
    dataset: str,
    points: Mapping[str, NDArray[np.float32]],
    attributes: Mapping[str, Classes],
    found: Mapping[str, Mapping[str, Mapping[str, float]]],
    colours: int,
) -> bytes:
    """PNG of one panel a modality (row) and attribute (column).

    Args:
        dataset: named in the title.
        points: by modality [N, 2].
        attributes: classes by name.
        found: by modality and attribute, what `agreement` gives; stands in the panel's title.
        colours: most frequent classes with a colour of their own; all others are grey.
    """
    with default_style():
        palette = [_colour(place) for place in range(colours)]
        figure, axes = panels(len(points), len(attributes), 5.4, 4.1)
        for row, (modality, places) in zip(axes, points.items(), strict=True):
            for panel, (name, classes) in zip(row, attributes.items(), strict=True):
                _scatter(panel, places, classes, palette)
                title = f"{modality} by {name}\n{_title(found[modality].get(name))}"
                panel.set_title(title, loc="left")
        figure.suptitle(
            f"t-SNE of embeddings, {dataset}: the {colours} most frequent brands and types in "
            "colour, the rest grey"
        )
        return png(figure)


def _colour(place: int) -> Any:  # noqa: ANN401 - matplotlib takes a name, or four numbers
    """Of matplotlib's ten, black for the grey one, which stands for the rest here."""
    return "black" if place == 7 else matplotlib.colormaps["tab10"](place)


def _title(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "not known"
    return (
        f"purity {found['purity']:.2f} (chance {found['purity_chance']:.2f}), "
        f"neighbours alike {found['neighbours']:.2f} (chance {found['neighbours_chance']:.2f})"
    )


def _scatter(
    panel: Any,  # noqa: ANN401 - axes come out of an untyped array of matplotlib's
    places: NDArray[np.float32],
    classes: Classes,
    palette: list[Any],
) -> None:
    shown = classes.names[: len(palette)]
    rest = (classes.labels < 0) | (classes.labels >= len(shown))
    size = float(np.clip(6000 / len(places), 1.5, 14))
    if rest.any():
        label = (
            f"{len(classes.names) - len(shown)} others" if len(classes.names) > len(shown) else ""
        )
        without = int((~classes.known).sum())
        label += f"{', ' * bool(label)}{without} without" if without else ""
        panel.scatter(*places[rest].T, s=size, color=_GREY, linewidths=0, label=label)
    for number, name in enumerate(shown):
        mine = places[classes.labels == number]
        panel.scatter(*mine.T, s=size, color=palette[number], linewidths=0, label=_short(name))
    panel.set_xticks([])
    panel.set_yticks([])
    for side in panel.spines.values():
        side.set_visible(False)
    handles, _ = panel.get_legend_handles_labels()
    if rest.any():  # drawn first, below the others, and told last
        handles = [*handles[1:], handles[0]]
    panel.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2.0,
        handletextpad=0.1,
    )  # fmt: skip


def _short(name: str) -> str:
    # A leading underscore hides a legend's entry, and dollar signs start a formula.
    text = name if len(name) <= 24 else f"{name[:23]}…"
    return text.replace("$", r"\$").lstrip("_")
