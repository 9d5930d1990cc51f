"""DPT: classes in the colours of ADE20K, depth, and both of one photograph.

    python examples/dpt.py                                                      # offline: a toy DPT, a drawn street
    python examples/dpt.py Intel/dpt-large-ade room.jpg --depth Intel/dpt-large # 150 classes; relative depth

The toy has two heads over one network; the public checkpoints have one each, so that two are loaded. Metric depth is in
metres; relative depth has no unit, and larger is nearer.
"""

import argparse
from pathlib import Path

from toy.street import draw_street

import everymask

TOY = Path(__file__).parent / "toy" / "dpt"

parser = argparse.ArgumentParser(description="Classes and depth of one photograph.")
parser.add_argument("model", nargs="?", default=TOY)
parser.add_argument("image", nargs="?", help="a photograph; a drawn street if left out")
parser.add_argument("--depth", help="a second network, for depth, if the first has none")
wishes = parser.parse_args()
image = wishes.image or draw_street(seed=0).picture

model = everymask.load(wishes.model, depth=wishes.depth)
result = model(image, task="semantic")
unit = "m" if result.depth_kind == "metric" else "(relative)"
for segment in result.segments:
    depth = segment.depth
    print(f"{segment.label:12} {segment.area:7} pixels, {depth.minimum:.1f} to {depth.maximum:.1f} {unit}")

out = Path("out")
out.mkdir(exist_ok=True)
result.draw(legend=True).save(out / "dpt-classes.png")
result.draw(legend=True, depth="map").save(out / "dpt-depth.png")
result.draw(legend=True, depth="shade").save(out / "dpt-both.png")  # lighter where nearer
result.save(out, formats=["depth-png"], stem="dpt")  # 16 bits, with its scale
print(out)
