"""Segments of one training image laid over another, so that things are seen in more surroundings than images have.

Copy-paste (Ghiasi et al. 2021) takes things. Here stuff is taken as well, as in ClassMix (Olsson et al. 2021, section
3.1), so that the shares of the classes stay much as they are.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.training.segments import Segments


@dataclass(frozen=True, slots=True)
class Scene:
    """What a sample is made of: ``pixels`` (h, w, 3) float32 in 0..255, and what is known of them.

    The id map of ``segments`` and ``depth`` (float32) are (h, w) as well; None where the network does not learn them.
    """

    pixels: NDArray[np.float32]
    segments: Segments | None
    depth: NDArray[np.float32] | None = None


def pasted(below: Scene, above: Scene, merged: Collection[int], rng: np.random.Generator) -> Scene:
    """``below`` with every second segment of ``above``, drawn at random, laid over it at the same place.

    Both scenes must have segments and no depth. ``merged``: the classes of which an image has one segment at most; a
    pasted segment of such a class becomes a part of the one that is there.
    """
    assert below.segments is not None
    assert above.segments is not None
    classes = [*below.segments.classes]
    places = {index: place for place, index in enumerate(classes) if index in merged}
    table = np.full(len(above.segments.classes) + 1, -1, np.int32)  # the id -1 reads the last entry
    for number, index in enumerate(above.segments.classes):
        if rng.random() < 0.5:
            continue
        if index in places:
            table[number] = places[index]
            continue
        table[number] = len(classes)
        if index in merged:
            places[index] = len(classes)
        classes.append(index)
    height, width = np.minimum(below.segments.id_map.shape, above.segments.id_map.shape)
    ids = table[above.segments.id_map[:height, :width]]
    id_map, pixels = below.segments.id_map.copy(), below.pixels.copy()
    covered = ids >= 0
    id_map[:height, :width][covered] = ids[covered]
    pixels[:height, :width][covered] = above.pixels[:height, :width][covered]
    return Scene(pixels, Segments(id_map, tuple(classes)))
