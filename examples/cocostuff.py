"""ModelScope's ViT-Adapter with its imports changed: COCO-Stuff's classes in one image, and over a data set.

    python examples/cocostuff.py                                                # offline: "street", 11 classes
    python examples/cocostuff.py damo/cv_vitadapter_semantic-segmentation_cocostuff164k image.jpg   # 171 classes

The public checkpoint is downloaded by ModelScope's package (pip install 'everymask[modelscope]'); a folder with it will
do, too. An MsDataset can be given to the pipeline as it is: here, a list of rows stands for it.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import everymask
from everymask.compat.modelscope.outputs import OutputKeys  # was: from modelscope.outputs import OutputKeys
from everymask.compat.modelscope.pipelines import pipeline
from everymask.compat.modelscope.utils.constant import Tasks
from everymask.compat.modelscope.utils.cv.image_utils import semantic_seg_masks_to_image

PHOTOS = sorted((Path(everymask.__file__).parent / "bundled" / "photos").glob("*.jpg"))

parser = argparse.ArgumentParser(description="Classes of an image, and of a data set.")
parser.add_argument("model", nargs="?", default="street")
parser.add_argument("images", nargs="*", default=PHOTOS)
wishes = parser.parse_args()

segmenter = pipeline(Tasks.image_segmentation, wishes.model, pipeline_name="image-semantic-segmentation")
result = segmenter(str(wishes.images[0]))
out = Path("out")
out.mkdir(exist_ok=True)
drawn = semantic_seg_masks_to_image(result[OutputKeys.MASKS])  # (H, W, 3), a colour for every mask
Image.fromarray(drawn.astype(np.uint8)).save(out / "cocostuff.png")
print(", ".join(result[OutputKeys.LABELS]))

rows = [{"image": str(path)} for path in wishes.images]
pixels: Counter[str] = Counter()
for found in segmenter(rows):
    for label, mask in zip(found[OutputKeys.LABELS], found[OutputKeys.MASKS], strict=True):
        pixels[label] += int(mask.sum())
for label, count in pixels.most_common():
    print(f"{label:20} {count / pixels.total():.1%}")
