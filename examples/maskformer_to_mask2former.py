"""From MaskFormer to Mask2Former: one line changes, the name of the checkpoint.

    python examples/maskformer_to_mask2former.py          # offline: two toy networks on a drawn street
    python examples/maskformer_to_mask2former.py facebook/maskformer-swin-tiny-coco \\
        facebook/mask2former-swin-tiny-coco-panoptic cats.jpg
"""

import argparse
from pathlib import Path

from toy.street import draw_street

import everymask

TOYS = Path(__file__).parent / "toy"

parser = argparse.ArgumentParser(description="The same picture, before and after changing the model.")
parser.add_argument("before", nargs="?", default=TOYS / "maskformer")
parser.add_argument("after", nargs="?", default=TOYS / "mask2former")
parser.add_argument("image", nargs="?", help="a photograph; a drawn street if left out")
wishes = parser.parse_args()
image = wishes.image or draw_street(seed=4).picture

before = everymask.load(wishes.before)
after = everymask.load(wishes.after)  # this line

out = Path("out")
out.mkdir(exist_ok=True)
for name, model in {"before": before, "after": after}.items():
    result = model(image, task="panoptic")
    print(f"{name}: {', '.join(result.names)}")
    result.draw(legend="segments").save(out / f"swap-{name}.png")
print(out)
