"""ModelScope's segmentation pipeline: change ``modelscope`` to ``everymask.compat.modelscope`` in the imports.

    from everymask.compat.modelscope.pipelines import pipeline
    from everymask.compat.modelscope.outputs import OutputKeys
    from everymask.compat.modelscope.utils.constant import Tasks
    from everymask.compat.modelscope.utils.cv.image_utils import semantic_seg_masks_to_image

The modules are called as ModelScope's are; the names are here, too. Its data sets (``MsDataset``) are no part of this:
import them from ModelScope, and pass a row, or a whole data set, to the pipeline.

Models are those of ``Tasks.image_segmentation`` that ModelScope reads semantically or panoptically, by the name they
have there or from a folder: "damo/cv_vitadapter_semantic-segmentation_cocostuff164k" (ViT-Adapter),
"damo/cv_swinL_semantic-segmentation_cocopanmerge" and "damo/cv_swinL_panoptic-segmentation_cocopan" (Mask2Former on
Swin-L), "damo/cv_r50_panoptic-segmentation_cocopan" (on ResNet-50). Besides, everything that ``everymask.load`` loads
and that can be read so.

Where results differ from ModelScope's:

- A PIL image gives what its file gives. ModelScope does not turn it upright by its EXIF orientation; its semantic
  pipeline wants it to be RGB, and its panoptic one takes its red for blue.
- Transparent pixels are white. ModelScope drops the transparency and shows what colour lies under it.
- Masks are resized once, from the network's output to the image. The code behind ModelScope's Mask2Former models
  resizes them to the network's input first, and then to the image: of the pixels of photographs that moved 0.03 %, and
  0.1 % where they were larger than the network's input.
- A row of a data set is an image, too; ModelScope wants the value of its column.
- Errors are everymask's own, and say what would cure them.
"""

from typing import TYPE_CHECKING

from everymask.lazy import imported_when_used

if TYPE_CHECKING:
    from everymask.compat.modelscope.outputs import OutputKeys
    from everymask.compat.modelscope.pipelines import pipeline
    from everymask.compat.modelscope.utils.constant import Tasks
    from everymask.compat.modelscope.utils.cv.image_utils import (
        panoptic_seg_masks_to_image,
        semantic_seg_masks_to_image,
    )

__all__ = ["OutputKeys", "Tasks", "panoptic_seg_masks_to_image", "pipeline", "semantic_seg_masks_to_image"]

__getattr__ = imported_when_used(
    __name__,
    {
        "OutputKeys": "outputs",
        "Tasks": "utils.constant",
        "panoptic_seg_masks_to_image": "utils.cv.image_utils",
        "pipeline": "pipelines",
        "semantic_seg_masks_to_image": "utils.cv.image_utils",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
