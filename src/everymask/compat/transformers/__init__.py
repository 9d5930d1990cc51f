"""transformers' pipelines and post-processing: in an import, make ``transformers`` ``everymask.compat.transformers``.

    from everymask.compat.transformers import pipeline

    segmenter = pipeline("image-segmentation", model="facebook/mask2former-swin-tiny-coco-panoptic")
    for segment in segmenter("cats.jpg"):
        segment["label"], segment["score"], segment["mask"]  # a PIL image, 255 inside the segment

``pipeline("image-segmentation")`` and ``pipeline("depth-estimation")`` take what transformers 5.23 takes, from the same
folders and Hub ids, and return the same types, labels, order and errors, in float32 as there. Errors are everymask's
and of the type that transformers raises. ``post_process_panoptic_segmentation`` and its two siblings read the outputs
of a network, transformers' own included. Nothing of this imports transformers.

Where networks' outputs are read otherwise, ``pipeline(..., decoding="transformers")`` reads them as transformers does,
to the pixel; images then go through the network one by one. The default reads them as the networks' authors published:

- A panoptic segment has the pixels that its query wins inside of its own mask; transformers gives it all that the
  query wins. On 39 of CamVid's photographs (the first edition of "street", default thresholds) 6.8 % of all pixels
  are in a segment there and in none here; where both have a segment its label is the same on 99.95 %.
- Mask2Former's masks are resized once, not by way of 384 x 384, and all families' as logits, not as probabilities:
  semantic results of "street" agree on 99.85 % of the pixels. Padding is cut off, which EoMT's semantic reading of
  padded images omits in transformers: there an image that is not square is stretched over its padding.
- Stuff of one class is one segment, where a config or the data set of the classes says what is stuff.
- Instances are of things alone, and keep their masks where they overlap; in transformers the last one covers the
  others, and some are left without a pixel. A score is the class's probability times the mask's, also DETR's.
- A class that a numbering with gaps leaves out (DETR's "N/A") is never found.

Everywhere else, with either decoding:

- ``mask_threshold`` and ``overlap_mask_area_threshold`` do for instances what they say; most processors of transformers
  ignore them (https://github.com/huggingface/transformers/issues/44900). The latter only where it is given, and with
  the default decoding: an instance goes of whose mask better ones leave no more than that share.
- An image's answer does not depend on its batch (https://github.com/huggingface/transformers/issues/39382). Images of
  several sizes may be batched, which fails in transformers wherever their network inputs differ.
- The ``subtask`` of a network that sees images in windows (EoMT's semantic checkpoints) is "semantic" where none is
  given, and "instance" works for EoMT; transformers fails at both.
- Without a ``task`` the model decides, in a folder, too. ``images=`` does without ``inputs``. An empty list has an
  empty answer.
- An option that there is not is an error, as are ``framework="tf"`` and others that could not be kept (see
  ``pipelines.loading.pipeline``); transformers takes no notice of them. float16 is refused on a CPU.
- A URL has 30 seconds unless ``timeout`` says otherwise; transformers waits for ever. Formats of images and their sizes
  are limited to what ``everymask.images`` reads, and transparent pixels are white, not what colour lies under them.
- ``model`` is a name, a folder or a Segmenter, and ``image_processor`` a name or folder; objects of transformers can be
  saved to one. The pipeline's ``model`` is the Segmenter.
"""

from typing import TYPE_CHECKING

from everymask.lazy import imported_when_used

if TYPE_CHECKING:
    from everymask.compat.transformers.pipelines import DepthEstimationPipeline, ImageSegmentationPipeline, pipeline
    from everymask.compat.transformers.post_process import (
        post_process_instance_segmentation,
        post_process_panoptic_segmentation,
        post_process_semantic_segmentation,
    )

__all__ = [
    "DepthEstimationPipeline",
    "ImageSegmentationPipeline",
    "pipeline",
    "post_process_instance_segmentation",
    "post_process_panoptic_segmentation",
    "post_process_semantic_segmentation",
]

__getattr__ = imported_when_used(
    __name__,
    {
        "DepthEstimationPipeline": "pipelines",
        "ImageSegmentationPipeline": "pipelines",
        "pipeline": "pipelines",
        "post_process_instance_segmentation": "post_process",
        "post_process_panoptic_segmentation": "post_process",
        "post_process_semantic_segmentation": "post_process",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
