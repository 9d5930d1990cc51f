"""Every pixel named, and things counted: a legend of car-0, car-1, ... beside the picture.

python examples/panoptic.py                                                         # offline
python examples/panoptic.py facebook/mask2former-swin-tiny-coco-panoptic cats.jpg   # COCO: cat-0, cat-1, couch-0
python examples/panoptic.py shi-labs/oneformer_ade20k_swin_tiny room.jpg            # ADE20K
"""

import argparse
from pathlib import Path

import everymask

PHOTO = Path(everymask.__file__).parent / "bundled" / "photos" / "crossing.jpg"

parser = argparse.ArgumentParser(description="Panoptic segmentation with a legend that counts instances.")
parser.add_argument("model", nargs="?", default="street")
parser.add_argument("image", nargs="?", default=PHOTO)
wishes = parser.parse_args()

model = everymask.load(wishes.model)
result = model(wishes.image, task="panoptic")
for name, segment in zip(result.names, result.segments, strict=True):
    print(f"{name:20} {segment.score:.2f} {segment.area:7} pixels")

out = Path("out")
out.mkdir(exist_ok=True)
result.draw(legend="segments").save(out / "panoptic.png")
print(out / "panoptic.png")
