"""transformers' two-line pipeline with one import changed; every mask is saved under its label.

python examples/pipeline.py                                                         # offline
python examples/pipeline.py facebook/mask2former-swin-tiny-coco-panoptic cats.jpg   # COCO: cat-0.png, remote-1.png
python examples/pipeline.py facebook/detr-resnet-50-panoptic cats.jpg
"""

import argparse
from pathlib import Path

import everymask
from everymask.compat.transformers import pipeline  # was: from transformers import pipeline

PHOTO = Path(everymask.__file__).parent / "bundled" / "photos" / "crossing.jpg"

parser = argparse.ArgumentParser(description="The two-line pipeline.")
parser.add_argument("model", nargs="?", default="street")
parser.add_argument("image", nargs="?", default=str(PHOTO))
wishes = parser.parse_args()

segmenter = pipeline("image-segmentation", model=wishes.model)
segments = segmenter(wishes.image)

out = Path("out") / "pipeline"
out.mkdir(parents=True, exist_ok=True)
for number, segment in enumerate(segments):
    path = out / f"{segment['label'].replace('/', '-')}-{number}.png"
    segment["mask"].save(path)  # a PIL image of 0 and 255
    print(f"{segment['score']:.3f} {path}")
