"""Product pictures of the sample shop: shape follows type, main colour follows finish.

Every drawing lives in the unit square (y points down) and is turned, scaled and shifted a
little by its item's random generator, so that no two pictures are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

FINISH_COLOURS: dict[str, Colour] = {
    "ebony": (38, 36, 40),
    "cherry": (186, 28, 40),
    "ocean": (28, 84, 190),
    "honey": (232, 160, 24),
    "mint": (60, 176, 122),
    "ivory": (226, 212, 178),
}
STEEL, INK, PAPER = (150, 154, 160), (24, 24, 28), (250, 250, 246)
SUPERSAMPLING = 3
MAX_TURN = 14.0  # degrees


class Sketch:
    """Draws polygons, lines and ellipses given in the unit square onto a turned canvas."""

    def __init__(self, size: int, finish: str, rng: np.random.Generator) -> None:
        """Open a canvas of `size` pixels square; `rng` chooses background, shade and pose."""
        self.size = size
        self._pixels = size * SUPERSAMPLING
        background = (int(rng.integers(232, 256)),) * 3
        self._image = Image.new("RGB", (self._pixels, self._pixels), background)
        self._draw = ImageDraw.Draw(self._image)
        turn = math.radians(rng.uniform(-MAX_TURN, MAX_TURN))
        self._scale = rng.uniform(0.84, 1.0)
        self._cos, self._sin = self._scale * math.cos(turn), self._scale * math.sin(turn)
        self._shift = rng.uniform(-0.03, 0.03, size=2)
        jitter = rng.integers(-10, 11, size=3)
        red, green, blue = (
            int(c) for c in np.clip(np.array(FINISH_COLOURS[finish]) + jitter, 0, 255)
        )
        self.main: Colour = (red, green, blue)
        self.dark = _blend(self.main, INK, 0.45)
        self.light = _blend(self.main, PAPER, 0.4)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._place(point) for point in points], fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """Draw a line of `width` (a share of the square) with round ends."""
        placed = [self._place(point) for point in points]
        pixels = max(1, round(width * self._scale * self._pixels))
        self._draw.line(placed, fill=fill, width=pixels, joint="curve")
        for x, y in (placed[0], placed[-1]):
            radius = pixels / 2
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def ellipse(self, x: float, y: float, across: float, down: float, fill: Colour) -> None:
        """Fill an ellipse with centre and half-axes."""
        self.polygon(_arc(x, y, across, down), fill)

    def ring(self, x: float, y: float, radius: float, width: float, fill: Colour) -> None:
        """Draw a circle's outline."""
        self.line(_arc(x, y, radius, radius), width, fill)

    def finished(self) -> Image.Image:
        """The picture, reduced to its final size."""
        return self._image.resize((self.size, self.size), Image.Resampling.LANCZOS)

    def _place(self, point: Point) -> Point:
        x, y = point[0] - 0.5, point[1] - 0.5
        turned_x = self._cos * x - self._sin * y + 0.5 + self._shift[0]
        turned_y = self._sin * x + self._cos * y + 0.5 + self._shift[1]
        return turned_x * self._pixels, turned_y * self._pixels


def draw_item(type_name: str, finish: str, size: int, rng: np.random.Generator) -> Image.Image:
    """The picture of one item.

    Args:
        type_name: one of `DRAWINGS`.
        finish: one of `FINISH_COLOURS`.
        size: side of the square picture in pixels.
        rng: chooses pose, shade and background.
    """
    sketch = Sketch(size, finish, rng)
    DRAWINGS[type_name](sketch)
    return sketch.finished()


def _guitar(s: Sketch) -> None:
    horns = [(0.33, 0.42), (0.42, 0.52), (0.58, 0.52), (0.68, 0.40), (0.66, 0.58), (0.72, 0.78)]
    s.polygon([*horns, (0.62, 0.92), (0.38, 0.92), (0.28, 0.78), (0.35, 0.6)], s.main)
    s.ellipse(0.5, 0.78, 0.22, 0.16, s.main)
    s.box(0.465, 0.1, 0.535, 0.62, _blend(INK, (120, 70, 30), 0.6))
    s.polygon([(0.45, 0.02), (0.56, 0.0), (0.54, 0.13), (0.46, 0.13)], s.dark)
    for y in (0.62, 0.72, 0.82):
        s.box(0.42, y, 0.58, y + 0.035, STEEL)
    for x in (0.485, 0.5, 0.515):
        s.line([(x, 0.08), (x, 0.84)], 0.006, PAPER)


def _drum(s: Sketch) -> None:
    s.ellipse(0.5, 0.7, 0.4, 0.14, s.dark)
    s.box(0.1, 0.34, 0.9, 0.7, s.main)
    s.ellipse(0.5, 0.7, 0.395, 0.13, s.main)
    for x, drop in ((0.16, 0.06), (0.38, 0.13), (0.62, 0.13), (0.84, 0.06)):
        s.line([(x, 0.36 + drop), (x, 0.66 + drop)], 0.025, STEEL)
    s.ellipse(0.5, 0.34, 0.42, 0.15, STEEL)
    s.ellipse(0.5, 0.335, 0.38, 0.125, PAPER)


def _keyboard(s: Sketch) -> None:
    s.box(0.02, 0.3, 0.98, 0.72, s.main)
    s.box(0.02, 0.68, 0.98, 0.72, s.dark)
    s.box(0.06, 0.46, 0.94, 0.67, PAPER)
    for key in range(1, 14):
        x = 0.06 + key * 0.88 / 14
        s.line([(x, 0.47), (x, 0.66)], 0.006, STEEL)
        if key % 7 not in (0, 3):
            s.box(x - 0.02, 0.46, x + 0.02, 0.58, INK)
    s.box(0.4, 0.34, 0.6, 0.42, INK)
    for x in (0.1, 0.17, 0.24, 0.76, 0.83, 0.9):
        s.ellipse(x, 0.38, 0.022, 0.022, s.light)


def _violin(s: Sketch) -> None:
    s.ellipse(0.5, 0.78, 0.19, 0.16, s.main)
    s.ellipse(0.5, 0.5, 0.15, 0.13, s.main)
    s.box(0.39, 0.5, 0.61, 0.78, s.main)
    for x in (0.36, 0.64):
        s.ellipse(x, 0.63, 0.04, 0.07, (244, 244, 244))
    for x in (0.41, 0.59):
        s.line([(x, 0.58), (x + 0.02, 0.64), (x - 0.02, 0.68), (x, 0.74)], 0.014, s.dark)
    s.polygon([(0.475, 0.12), (0.525, 0.12), (0.54, 0.6), (0.46, 0.6)], INK)
    s.ring(0.5, 0.07, 0.03, 0.025, s.dark)
    s.polygon([(0.46, 0.76), (0.54, 0.76), (0.52, 0.92), (0.48, 0.92)], INK)
    s.box(0.44, 0.68, 0.56, 0.695, PAPER)


def _saxophone(s: Sketch) -> None:
    tube = [(0.24, 0.2), (0.3, 0.13), (0.38, 0.12), (0.42, 0.2), (0.44, 0.5), (0.46, 0.78)]
    s.line([(0.13, 0.24), (0.24, 0.19)], 0.05, INK)
    s.line(tube, 0.055, s.main)
    bow = [(0.45, 0.6), (0.47, 0.8), (0.55, 0.88), (0.65, 0.82), (0.7, 0.68), (0.74, 0.5)]
    s.line(bow, 0.11, s.main)
    s.polygon([(0.66, 0.6), (0.78, 0.62), (0.93, 0.34), (0.67, 0.3)], s.main)
    s.polygon(_arc(0.8, 0.32, 0.135, 0.05), s.dark)
    for x, y in ((0.4, 0.3), (0.415, 0.4), (0.43, 0.5), (0.44, 0.6), (0.46, 0.7)):
        s.ellipse(x + 0.03, y, 0.03, 0.03, s.light)
    s.line([(0.37, 0.28), (0.41, 0.72)], 0.014, s.dark)


def _trumpet(s: Sketch) -> None:
    s.polygon(
        [(0.62, 0.4), (0.8, 0.34), (0.96, 0.2), (0.96, 0.64), (0.8, 0.5), (0.62, 0.45)], s.main
    )
    s.polygon(_arc(0.96, 0.42, 0.03, 0.22), s.dark)
    s.line([(0.1, 0.42), (0.7, 0.42)], 0.04, s.main)
    loop = [(0.7, 0.42), (0.76, 0.5), (0.7, 0.6), (0.3, 0.6), (0.24, 0.51), (0.3, 0.43)]
    s.line(loop, 0.035, s.dark)
    for x in (0.42, 0.5, 0.58):
        s.box(x - 0.028, 0.36, x + 0.028, 0.68, s.light)
        s.line([(x, 0.28), (x, 0.36)], 0.018, STEEL)
        s.ellipse(x, 0.28, 0.028, 0.014, STEEL)
    s.polygon([(0.03, 0.37), (0.1, 0.4), (0.1, 0.44), (0.03, 0.47)], STEEL)


def _microphone(s: Sketch) -> None:
    s.polygon([(0.39, 0.36), (0.61, 0.36), (0.56, 0.96), (0.44, 0.96)], s.main)
    s.polygon([(0.39, 0.36), (0.45, 0.36), (0.475, 0.96), (0.44, 0.96)], s.light)
    s.ellipse(0.5, 0.21, 0.18, 0.18, STEEL)
    for offset in (-0.12, -0.06, 0.0, 0.06, 0.12):
        reach = math.sqrt(0.17**2 - offset**2)
        s.line([(0.5 - reach, 0.21 + offset), (0.5 + reach, 0.21 + offset)], 0.009, INK)
        s.line([(0.5 + offset, 0.21 - reach), (0.5 + offset, 0.21 + reach)], 0.009, INK)
    s.box(0.36, 0.33, 0.64, 0.39, s.dark)
    s.box(0.475, 0.5, 0.525, 0.6, INK)


def _strings(s: Sketch) -> None:
    for radius in (0.42, 0.39, 0.36, 0.33, 0.3, 0.27):
        s.ring(0.5, 0.5, radius, 0.013, s.main if radius > 0.31 else s.dark)
    for x, y in ((0.5, 0.14), (0.16, 0.62), (0.84, 0.62)):
        s.ellipse(x, y, 0.05, 0.05, STEEL)
    s.line([(0.72, 0.78), (0.86, 0.86), (0.96, 0.82)], 0.012, s.main)


def _pedal(s: Sketch) -> None:
    s.box(0.2, 0.06, 0.8, 0.94, s.dark)
    s.box(0.22, 0.06, 0.78, 0.92, s.main)
    for x in (0.34, 0.5, 0.66):
        s.ellipse(x, 0.2, 0.065, 0.065, INK)
        s.line([(x, 0.2), (x + 0.03, 0.15)], 0.016, PAPER)
    s.box(0.3, 0.36, 0.7, 0.5, s.light)
    s.ellipse(0.5, 0.58, 0.025, 0.025, (240, 40, 40))
    s.ellipse(0.5, 0.76, 0.11, 0.11, STEEL)
    s.ellipse(0.5, 0.76, 0.07, 0.07, PAPER)
    for x in (0.16, 0.84):
        s.box(x - 0.05, 0.26, x + 0.05, 0.34, STEEL)


def _drumsticks(s: Sketch) -> None:
    for start, end in (((0.16, 0.92), (0.8, 0.14)), ((0.84, 0.92), (0.2, 0.14))):
        s.line([start, end], 0.05, s.main)
        s.ellipse(end[0], end[1], 0.045, 0.055, s.light)
        grip = (start[0] + (end[0] - start[0]) * 0.3, start[1] + (end[1] - start[1]) * 0.3)
        s.line([start, grip], 0.055, s.dark)


def _stand(s: Sketch) -> None:
    s.line([(0.5, 0.2), (0.5, 0.8)], 0.04, s.main)
    for foot in (0.16, 0.5, 0.84):
        s.line([(0.5, 0.72), (foot, 0.95)], 0.035, s.dark)
        s.ellipse(foot, 0.95, 0.035, 0.025, INK)
    s.polygon([(0.16, 0.34), (0.24, 0.06), (0.76, 0.06), (0.84, 0.34)], s.main)
    s.polygon([(0.22, 0.3), (0.28, 0.1), (0.72, 0.1), (0.78, 0.3)], s.light)
    s.line([(0.16, 0.35), (0.84, 0.35)], 0.035, s.dark)
    s.ellipse(0.5, 0.52, 0.04, 0.04, INK)


def _bow(s: Sketch) -> None:
    s.line([(0.12, 0.86), (0.45, 0.46), (0.88, 0.08)], 0.035, s.main)
    s.line([(0.17, 0.93), (0.93, 0.14)], 0.018, PAPER)
    s.line([(0.175, 0.935), (0.935, 0.145)], 0.006, STEEL)
    s.polygon([(0.86, 0.06), (0.92, 0.06), (0.96, 0.14), (0.91, 0.16)], s.dark)
    s.polygon([(0.14, 0.82), (0.24, 0.72), (0.3, 0.79), (0.19, 0.91)], INK)
    s.ellipse(0.11, 0.87, 0.03, 0.03, STEEL)


def _reed(s: Sketch) -> None:
    s.polygon([(0.36, 0.5), (0.34, 0.14), (0.66, 0.14), (0.64, 0.5)], s.light)
    s.polygon(_arc(0.5, 0.14, 0.16, 0.09), s.light)
    s.polygon([(0.36, 0.46), (0.64, 0.46), (0.62, 0.96), (0.38, 0.96)], s.main)
    s.ellipse(0.5, 0.47, 0.14, 0.09, s.light)
    for x in (0.43, 0.5, 0.57):
        s.line([(x, 0.62), (x, 0.94)], 0.008, s.dark)


def _mouthpiece(s: Sketch) -> None:
    s.polygon([(0.24, 0.16), (0.76, 0.16), (0.56, 0.48), (0.44, 0.48)], s.main)
    s.polygon([(0.45, 0.46), (0.55, 0.46), (0.6, 0.94), (0.4, 0.94)], s.main)
    s.polygon([(0.45, 0.46), (0.48, 0.46), (0.46, 0.94), (0.4, 0.94)], s.light)
    s.ellipse(0.5, 0.15, 0.29, 0.09, s.light)
    s.ellipse(0.5, 0.15, 0.22, 0.06, s.dark)
    s.box(0.42, 0.47, 0.58, 0.51, s.dark)


def _cable(s: Sketch) -> None:
    for x, y in ((0.44, 0.46), (0.5, 0.5), (0.56, 0.46)):
        s.ring(x, y, 0.28, 0.05, s.main)
        s.ring(x, y, 0.28, 0.012, s.dark)
    s.box(0.44, 0.66, 0.56, 0.82, INK)
    for side in (-1, 1):
        s.line([(0.5 + side * 0.26, 0.66), (0.5 + side * 0.36, 0.84)], 0.075, INK)
        s.line([(0.5 + side * 0.36, 0.84), (0.5 + side * 0.41, 0.94)], 0.035, STEEL)


DRAWINGS: dict[str, Callable[[Sketch], None]] = {
    "guitar": _guitar,
    "drum": _drum,
    "keyboard": _keyboard,
    "violin": _violin,
    "saxophone": _saxophone,
    "trumpet": _trumpet,
    "microphone": _microphone,
    "strings": _strings,
    "pedal": _pedal,
    "drumsticks": _drumsticks,
    "stand": _stand,
    "bow": _bow,
    "reed": _reed,
    "mouthpiece": _mouthpiece,
    "cable": _cable,
}


def _arc(x: float, y: float, across: float, down: float) -> list[Point]:
    """Points of a closed ellipse."""
    angles = [2 * math.pi * step / 40 for step in range(41)]
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


def _blend(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
