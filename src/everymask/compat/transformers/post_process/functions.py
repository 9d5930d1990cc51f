"""The three functions: what each takes, what it gives, and what it refuses."""

from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import Tensor

from everymask.compat.transformers.post_process.canvas import PatchOffsets, canvas_of, merge_patches, patches_of
from everymask.compat.transformers.post_process.inputs import Reading, TargetSizes, field, read_outputs, sizes_of
from everymask.compat.transformers.post_process.masks import best_classes, resize, run_lengths
from everymask.compat.transformers.post_process.queries import ImageQueries, Limits, Segments
from everymask.errors import OptionError
from everymask.networks.outputs import PixelLogits


@dataclass(frozen=True, slots=True, eq=False)
class SemanticScores:
    """A class map (H, W) int64, and the score of every class at every pixel, (C, H, W); also by name in brackets."""

    segmentation: Tensor
    segmentation_scores: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return {"segmentation": self.segmentation, "segmentation_scores": self.segmentation_scores}[name]


def post_process_panoptic_segmentation(
    outputs: object,
    *,
    threshold: float | None = None,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    label_ids_to_fuse: Container[int] | None = None,
    target_sizes: TargetSizes | None = None,
    stuff_classes: Container[int] | None = None,
    size: object = None,
    family: str | None = None,
) -> list[Segments]:
    """Gives every pixel to one query: a dictionary an image.

    "segmentation" (H, W) holds each pixel's segment id: int32 (EoMT int64), float32 where no query takes part.
    "segments_info" lists a dictionary a segment, in the order of the queries: "id", "label_id", "was_fused" (not EoMT)
    and "score", rounded to 6 digits.

    A query takes part whose best class is an object and has a probability above ``threshold`` (None: 0.5, EoMT 0.8). It
    is a segment if the pixels it wins are more than ``overlap_mask_area_threshold`` of those of its own mask, where
    its value is at least ``mask_threshold``. Segments of a class in ``label_ids_to_fuse`` (EoMT: ``stuff_classes``)
    share an id. ``target_sizes``: the (height, width) of each image; None leaves masks as they are, and EoMT needs it.
    ``size``: that of EoMT's processor, {"shortest_edge": 640, "longest_edge": 640} where it is not given.

    Raises OptionError for outputs without queries, an unknown family and an argument that the family does not have.
    """
    images, reading = _images(outputs, family, target_sizes, size)
    if label_ids_to_fuse is not None and reading.canvas:
        raise OptionError("EoMT's processor has no label_ids_to_fuse: give stuff_classes")
    if stuff_classes is not None and not reading.canvas:
        raise OptionError("only EoMT's processor has stuff_classes: give label_ids_to_fuse")
    limits = _limits(reading, threshold, mask_threshold, overlap_mask_area_threshold)
    return [image.panoptic(limits, label_ids_to_fuse or stuff_classes or ()) for image in images]


def post_process_instance_segmentation(
    outputs: object,
    *,
    threshold: float | None = None,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    target_sizes: TargetSizes | None = None,
    return_coco_annotation: bool = False,
    return_binary_maps: bool = False,
    size: object = None,
    family: str | None = None,
) -> list[Segments]:
    """Finds instances: a dictionary an image, as of ``post_process_panoptic_segmentation``.

    DETR: as its panoptic segments, none fused. OneFormer: the best pairs of a query and a class compete for the
    pixels. Mask2Former and MaskFormer: the best pairs, each with its own mask, whose score is the class's probability
    times the mean probability inside the mask; EoMT the same, every query with its best class. These have a float32
    map, in which the last of those that overlap has a pixel, and ``overlap_mask_area_threshold`` means nothing to them.

    ``return_binary_maps`` (Mask2Former, MaskFormer) puts the masks (N, H, W) float32, 0 or 1, in place of a map, if
    there are any. ``return_coco_annotation`` (not EoMT) puts the runs of every value of the map in its place, also of
    "no segment", the smallest value first: [start, length, start, ...], with pixels counted from 1, row by row.

    Raises OptionError as ``post_process_panoptic_segmentation`` does, and for both kinds of masks at once.
    """
    if return_coco_annotation and return_binary_maps:
        raise OptionError("return_coco_annotation and return_binary_maps exclude each other: choose one")
    images, reading = _images(outputs, family, target_sizes, size)
    if return_binary_maps and reading.instances != "pairs":
        raise OptionError("only Mask2Former's and MaskFormer's processors have return_binary_maps: leave it out")
    if return_coco_annotation and reading.canvas:
        raise OptionError("EoMT's processor has no return_coco_annotation: leave it out")
    limits = _limits(reading, threshold, mask_threshold, overlap_mask_area_threshold)
    results = [image.instances(limits, binary_maps=return_binary_maps) for image in images]
    if return_coco_annotation:
        return [{**result, "segmentation": run_lengths(result["segmentation"])} for result in results]
    return results


def post_process_semantic_segmentation(
    outputs: object,
    target_sizes: TargetSizes | None = None,
    return_segmentation_scores: bool = False,
    *,
    size: object = None,
    patch_offsets: PatchOffsets | None = None,
    family: str | None = None,
) -> list[Tensor] | list[SemanticScores]:
    """The class of every pixel: a map (H, W) int64 an image, or with ``return_segmentation_scores`` a SemanticScores.

    Queries are summed into class scores (class times mask probability) at the masks' own size (Mask2Former 384 x 384,
    EoMT ``size``), which are then resized to the ``target_sizes``; None leaves them as they are.

    EoMT reads images in patches: its processor's ``patch_offsets``, (image, start, end) of each patch along the
    image's longer side, are those of the outputs where they are not given; without any, every output is an image. It
    needs ``target_sizes``, and takes the ``size`` of its processor as ``post_process_panoptic_segmentation`` does.

    Raises OptionError as the other two do, but takes outputs that score pixels.
    """
    found, reading = read_outputs(outputs, family)
    canvas = canvas_of(reading, size, target_sizes)
    patches = patches_of(reading, field(outputs, "patch_offsets") if patch_offsets is None else patch_offsets)
    if isinstance(found, PixelLogits):
        scores = found.logits  # (B, C, h, w)
    else:
        masks = resize(found.mask_logits, canvas.size if canvas else reading.first_size)
        scores = torch.einsum("bqc,bqhw->bchw", found.class_logits.softmax(-1)[..., :-1], masks.sigmoid())
    if canvas is None or not patches:
        images, targets = list(scores), sizes_of(target_sizes, len(scores))
    else:
        targets = sizes_of(target_sizes, 1 + max(patch.image for patch in patches))
        images = merge_patches(scores, patches, [target for target in targets if target is not None], canvas)
    pairs = zip(images, targets, strict=True)
    if not return_segmentation_scores:
        return [best_classes(image, target, antialias=reading.antialias) for image, target in pairs]
    resized = [resize(image, target, antialias=reading.antialias) for image, target in pairs]
    return [SemanticScores(each.argmax(0), each) for each in resized]


def _images(
    outputs: object, family: str | None, target_sizes: TargetSizes | None, size: object
) -> tuple[list[ImageQueries], Reading]:
    found, reading = read_outputs(outputs, family)
    if isinstance(found, PixelLogits):
        raise OptionError("these outputs score pixels and have no queries: use post_process_semantic_segmentation")
    canvas = canvas_of(reading, size, target_sizes)
    targets = sizes_of(target_sizes, len(found.class_logits))
    each = zip(found.class_logits, found.mask_logits, targets, strict=True)
    return [ImageQueries(classes, masks, reading, target, canvas) for classes, masks, target in each], reading


def _limits(reading: Reading, threshold: float | None, mask_threshold: float, share: float) -> Limits:
    return Limits(reading.threshold if threshold is None else threshold, mask_threshold, share)
