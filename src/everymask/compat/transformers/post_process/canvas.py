"""EoMT's way between an image and its network: a padded canvas, or patches along the image's longer side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from everymask.compat.transformers.post_process.inputs import Reading, TargetSizes, field
from everymask.compat.transformers.post_process.masks import resize
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.preprocessing.resizing import ShortestEdge

PatchOffsets = Iterable[Iterable[int]] | Tensor
"""The (image, start, end) of each patch."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """The pixels that images are resized to fit into, and then padded to fill.

    An image's shorter side becomes ``shortest`` pixels, or fewer where the longer one would exceed ``longest``, if any.
    """

    shortest: int
    longest: int | None

    @property
    def size(self) -> Size:
        """All of the canvas."""
        return Size(self.shortest, self.longest or self.shortest)

    def image(self, original: Size) -> Size:
        """The part of the canvas from its top left corner that an image of a size takes."""
        return ShortestEdge(self.shortest, self.longest).target(original)

    def cut_out(self, mask: Tensor, original: Size) -> Tensor:
        """A mask (h, w) over the whole canvas as that of the image, of its ``original`` size."""
        height, width = self.image(original)
        return resize(resize(mask, self.size)[:height, :width], original)


def canvas_of(reading: Reading, size: object, target_sizes: TargetSizes | None) -> Canvas | None:
    """The canvas of a family that has one; None for the others.

    ``size``: that of the image processor, a mapping or an object; None means that of one without a configuration.

    Raises OptionError for a size without a shortest edge or of a family without a canvas, and where images on a canvas
    have no target sizes.
    """
    if not reading.canvas:
        if size is not None:
            raise OptionError("only EoMT's processor has a size to give: leave it out")
        return None
    if target_sizes is None:
        raise OptionError("EoMT's masks are cut out of a padded canvas: give the target_sizes of the images")
    if size is None:
        return Canvas(640, 640)
    shortest = field(size, "shortest_edge")
    if shortest is None:
        raise OptionError(f"size is {size!r}: give the shortest_edge and the longest_edge of the image processor")
    return Canvas(shortest, field(size, "longest_edge"))


class Patch(NamedTuple):
    """Where a patch lies: the index of its image, and from where to where it goes along the longer side."""

    image: int
    start: int
    end: int


def patches_of(reading: Reading, offsets: PatchOffsets | None) -> list[Patch]:
    """The patches that an image processor's ``patch_offsets`` stand for, none for None.

    Raises OptionError where a family without a canvas has any.
    """
    patches = [] if offsets is None else [Patch(*(int(each) for each in patch)) for patch in offsets]
    if patches and not reading.canvas:
        raise OptionError("only EoMT's processor has patch_offsets: leave them out")
    return patches


def merge_patches(scores: Tensor, patches: Sequence[Patch], targets: Sequence[Size], canvas: Canvas) -> list[Tensor]:
    """The class scores of images, (C, h, w) each, from those of their patches (N, C, side, side): where several
    overlap, their mean. ``targets`` are the images' own sizes.

    Raises OptionError for another number of patches than N.
    """
    if len(patches) != len(scores):
        raise OptionError(f"there are patch_offsets for {len(patches)} of {len(scores)} patches: give those of all")
    merged = []
    for index, target in enumerate(targets):
        height, width = canvas.image(target)
        downwards = target.height > target.width
        total = scores.new_zeros((scores.shape[1], height, width), dtype=torch.float32)
        count = scores.new_zeros((height, 1) if downwards else (1, width), dtype=torch.float32)
        for patch, values in zip(patches, scores, strict=True):
            if patch.image == index:
                across = slice(patch.start, patch.end)
                place = (across, slice(None)) if downwards else (slice(None), across)
                total[:, *place] += values
                count[place] += 1
        merged.append(total / count.clamp(min=1))
    return merged
