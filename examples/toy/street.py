"""Toy streets: drawn pictures of cars that stand bumper to bumper, with the truth of every pixel.

    python examples/toy/street.py FOLDER [--train 32] [--val 8] [--taxis]

The folder looks as one's own data may, for everymask to train and evaluate on:

    classes.json             the classes, which of them are things, their colours, and the scale of the depth
    images/train/NAME.jpg    the pictures
    labels/train/NAME.png    8 bits: the index of the class at every pixel
    instances/train/NAME.png 16 bits: class * 256 + the number of the thing, from 1; 0 where no thing is
    depth/train/NAME.png     16 bits: centimetres
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = WIDTH, HEIGHT = 256, 160
HORIZON = 60
SKY, BUILDING, PAVEMENT, ROAD, CAR, TAXI = range(6)
NAMES = ["sky", "building", "pavement", "road", "car", "taxi"]
PALETTE = [[6, 230, 230], [180, 120, 120], [235, 255, 7], [140, 140, 140], [0, 102, 200], [255, 163, 0]]  # ADE20K's
PAINTS = [[200, 40, 40], [40, 70, 180], [235, 235, 235], [40, 45, 50], [230, 190, 40]]
TAXI_PAINT = PAINTS[-1]
BODY = [(0, -1), (2, -1.3), (3.2, -3), (7, -3), (8.4, -1.3), (10, -0.8), (10, 1), (0, 1)]  # in tenths of its length
WINDOWS = [[(2.8, -1.3), (3.6, -2.6), (5, -2.6), (5, -1.3)], [(5.3, -1.3), (5.3, -2.6), (6.8, -2.6), (7.7, -1.3)]]
WHEELS = [[(1.2, 0.2), (3, 2)], [(7, 0.2), (8.8, 2)]]

Color = tuple[int, ...]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Street:
    """A picture (RGB) and what is true of its pixels: class, instance and depth in centimetres, as files hold them."""

    picture: Image.Image = field(default_factory=lambda: Image.new("RGB", SIZE))
    classes: Image.Image = field(default_factory=lambda: Image.new("L", SIZE))
    instances: Image.Image = field(default_factory=lambda: Image.new("I;16", SIZE))
    depth: Image.Image = field(default_factory=lambda: Image.new("I;16", SIZE))

    def paint(self, shape: str, points: Points, color: Color, label: int, metres: float, number: int = 0) -> None:
        """Fills a "rectangle", "ellipse" or "polygon" on all four."""
        instance = label * 256 + number if number else 0
        fills = (color, label, instance, round(100 * metres))
        for canvas, fill in zip((self.picture, self.classes, self.instances, self.depth), fills, strict=True):
            getattr(ImageDraw.Draw(canvas), shape)(points, fill)


def draw_street(seed: int, *, taxis: bool = False) -> Street:
    """A row of houses, a row of parked cars and sometimes one that drives by, all drawn from ``seed``.

    With ``taxis`` yellow cars are a class of their own.
    """
    random = np.random.default_rng(seed)
    curb, roofs = int(random.integers(84, 100)), 0
    street = Street()

    def box(left: int, top: int, right: int, bottom: int, label: int, metres: float, low: int, high: int) -> None:
        color = tuple((random.integers(low, high) + random.integers(-12, 13, 3)).tolist())
        street.paint("rectangle", [(left, top), (right, bottom)], color, label, metres)

    air = tuple(random.integers((150, 180, 205), (205, 225, 250)).tolist())
    street.paint("rectangle", [(0, 0), SIZE], air, SKY, 100)
    while roofs < WIDTH:
        width, top = int(random.integers(30, 70)), int(random.integers(10, 50))
        box(roofs, top, roofs + width, curb, BUILDING, metres_at(curb), 90, 190)
        for left in range(roofs + 6, roofs + width - 10, 15):
            for high in range(top + 8, curb - 14, 18):
                ImageDraw.Draw(street.picture).rectangle((left, high, left + 7, high + 10), (70, 80, 100))
        roofs += width
    box(0, curb, WIDTH, curb + 12, PAVEMENT, metres_at(curb), 150, 185)
    box(0, curb + 12, WIDTH, HEIGHT, ROAD, metres_at(curb), 70, 115)
    for y in range(curb, HEIGHT):
        ImageDraw.Draw(street.depth).line((0, y, WIDTH, y), round(100 * metres_at(y)))

    number, left = 0, int(random.integers(-30, 20))
    while left < WIDTH - 10:
        number, length = number + 1, int(random.integers(44, 66))
        paint_car(street, random, (left, curb + int(random.integers(14, 18))), length, number, taxis)
        left += length + int(random.choice([-9, -5, -1, 0, 6, 40]))  # most touch the next one, or hide a part of it
    if random.random() < 0.6:
        place = int(random.integers(-20, WIDTH - 60)), curb + int(random.integers(34, 48))
        paint_car(street, random, place, int(random.integers(70, 86)), number + 1, taxis)
    noisy = np.asarray(street.picture) + random.normal(0, 5, (HEIGHT, WIDTH, 3))
    street.picture.paste(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return street


def paint_car(
    street: Street, random: np.random.Generator, place: tuple[int, int], length: int, number: int, taxis: bool
) -> None:
    """A car from the side; ``place``: x of its left end, y of the middle of its doors."""

    def placed(points: Points) -> Points:
        return [(place[0] + length / 10 * x, place[1] + length / 10 * y) for x, y in points]

    metres = metres_at(place[1] + length / 5)
    paint = random.choice(PAINTS).tolist()
    label = TAXI if taxis and paint == TAXI_PAINT else CAR
    street.paint("polygon", placed(BODY), tuple(paint), label, metres, number)
    ImageDraw.Draw(street.picture).polygon(placed(BODY), outline=tuple(channel // 2 for channel in paint))
    for wheel in WHEELS:
        street.paint("ellipse", placed(wheel), (25, 25, 28), label, metres, number)
    for window in WINDOWS:
        street.paint("polygon", placed(window), (150, 175, 190), label, metres, number)


def metres_at(y: float) -> float:
    """How far away the ground is that shows in row ``y``."""
    return 1000 / (y - HORIZON)


def write_folder(folder: Path, *, train: int, val: int, taxis: bool = False) -> Path:
    """Draws a data set with two splits into ``folder``."""
    count = len(NAMES) if taxis else len(NAMES) - 1
    classes = {
        "names": NAMES[:count],
        "things": NAMES[CAR:count],
        "palette": PALETTE[:count],
        "depth": {"scale": 0.01},
    }
    for split, seeds in (("train", range(1000, 1000 + train)), ("val", range(val))):
        for kind in ("images", "labels", "instances", "depth"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            street = draw_street(seed, taxis=taxis)
            street.picture.save(folder / "images" / split / f"{seed:04d}.jpg", quality=92)
            street.classes.save(folder / "labels" / split / f"{seed:04d}.png")
            street.instances.save(folder / "instances" / split / f"{seed:04d}.png")
            street.depth.save(folder / "depth" / split / f"{seed:04d}.png")
    (folder / "classes.json").write_text(json.dumps(classes))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw toy streets with their truth.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=32, help="pictures to train on")
    parser.add_argument("--val", type=int, default=8, help="pictures to validate on")
    parser.add_argument("--taxis", action="store_true", help="make yellow cars a class of their own")
    wishes = parser.parse_args()
    print(write_folder(wishes.folder, train=wishes.train, val=wishes.val, taxis=wishes.taxis))
