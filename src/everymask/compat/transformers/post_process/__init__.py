"""transformers' post-processing as functions: what a network returned, read as its image processor reads it.

    from everymask.compat.transformers import post_process_panoptic_segmentation

    outputs = network(pixel_values)
    [result] = post_process_panoptic_segmentation(outputs, target_sizes=[(height, width)])
    result["segmentation"], result["segments_info"]

The functions have the names, arguments, defaults and results of the methods of transformers' image processors (as of
5.23, with torchvision). ``outputs`` are transformers' own, a mapping or an object with the same names, or everymask's
``MaskQueries`` and ``PixelLogits``, on any device; the results are on the same. The families' processors differ:
the type of transformers' outputs tells which ``family`` it is, and everything else with queries has to say it, "detr",
"eomt", "eomt_dinov3", "mask2former", "maskformer" or "oneformer". Outputs that score pixels are all read alike.

What is kept although ``everymask.load`` decodes otherwise, as the networks' authors published it:

- Mask2Former's masks go through 384 x 384, whatever the image's shape, and OneFormer's instances compete for pixels
  with their logits. Padding is cut off by EoMT's processor alone.
- A panoptic segment has all pixels where its query wins, also those outside of the query's own mask, and whether a
  pixel is in that mask is asked of its probability times the query's score. (EoMT's processor does neither.)
- A query whose class is fused has an entry in ``segments_info`` of its own, with the id of the first. The segment after
  it has the id that follows, even where that is taken. (EoMT's processor gives one entry, and ids of their own.)
- Ids count from 1 and 0 is "no segment", except that without any query the map is -1. In EoMT's maps, and in those of
  Mask2Former's and MaskFormer's instances, they count from 0, and -1 is "no segment".

What is not as in transformers:

- ``mask_threshold`` does what it says for instances of Mask2Former, MaskFormer and EoMT, where transformers cuts at 0.5
  (https://github.com/huggingface/transformers/issues/44900). At 0.5, the default, both are the same.
- ``return_coco_annotation`` gives runs also where no query takes part, instead of a map.
- As many ``target_sizes`` as images are asked for everywhere, and a wrong argument is an OptionError, a ValueError.
- Arguments other than ``outputs`` go by name, since their order differs from processor to processor. OneFormer's
  ``task_type`` and ``is_demo``, which read files of its processor, are not there.
"""

from everymask.compat.transformers.post_process.functions import (
    SemanticScores,
    post_process_instance_segmentation,
    post_process_panoptic_segmentation,
    post_process_semantic_segmentation,
)

__all__ = [
    "SemanticScores",
    "post_process_instance_segmentation",
    "post_process_panoptic_segmentation",
    "post_process_semantic_segmentation",
]
