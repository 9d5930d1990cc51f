"""Cars that touch: a class for every pixel makes them one, a mask for every object keeps them apart.

    python examples/touching_cars.py                                         # offline: a toy MaskFormer, a drawn street
    python examples/touching_cars.py --masks facebook/maskformer-swin-tiny-coco \\
        --pixels nvidia/segformer-b0-finetuned-cityscapes-1024-1024 --image cars.jpg --label car

Per-pixel classification can only count the connected regions of a class. Mask classification (Cheng et al. 2021) gives
a set of masks, each with one class, so it counts masks; its semantic reading is what ``--pixels`` shows unless that
names a network of its own.
"""

import argparse
from pathlib import Path

from scipy import ndimage
from toy.street import draw_street

import everymask

TOY = Path(__file__).parent / "toy" / "maskformer"

parser = argparse.ArgumentParser(description="Count things that touch, from pixels and from masks.")
parser.add_argument("--masks", default=TOY, help="a network that tells instances apart")
parser.add_argument("--pixels", help="a network for the semantic task; the same one if left out")
parser.add_argument("--image", help="a photograph; a drawn street if left out")
parser.add_argument("--label", default="car", help="what to count")
wishes = parser.parse_args()
image = wishes.image or draw_street(seed=4).picture

masks = everymask.load(wishes.masks)
pixels = everymask.load(wishes.pixels) if wishes.pixels else masks
by_class = pixels(image, task="semantic")
by_mask = masks(image, task="panoptic")

regions = sum(ndimage.label(each.mask)[1] for each in by_class.segments if each.label == wishes.label)
things = [name for name, each in zip(by_mask.names, by_mask.segments, strict=True) if each.label == wishes.label]
print(f"a class for every pixel: {regions} connected region(s) of {wishes.label}")
print(f"a mask for every object: {len(things)}: {', '.join(things)}")

out = Path("out")
out.mkdir(exist_ok=True)
by_class.draw(legend="segments").save(out / "touching-cars-by-class.png")
by_mask.draw(legend="segments").save(out / "touching-cars-by-mask.png")
print(out)
