"""The figures of a checkpoint on annotated images, and the image that went worst beside its truth.

    python examples/evaluation.py                                     # offline: a toy MaskFormer on drawn streets
    python examples/evaluation.py facebook/mask2former-swin-tiny-coco-panoptic coco/ --split val2017   # PQ 53.2

COCO, ADE20K, Cityscapes, Mapillary Vistas, Pascal VOC, CamVid and plain folders are read as they are published. The
same from the command line: everymask evaluate MODEL FOLDER --split SPLIT --save-worst 1
"""

import argparse
from pathlib import Path

from toy.street import write_folder

import everymask
from everymask.evaluation.figures import figure_text

TOY = Path(__file__).parent / "toy" / "maskformer"

parser = argparse.ArgumentParser(description="Evaluate a checkpoint.")
parser.add_argument("model", nargs="?", default=TOY)
parser.add_argument("data", nargs="?", help="a folder; drawn streets if left out")
parser.add_argument("--split", default="val")
parser.add_argument("--limit", type=int, help="only the first images")
wishes = parser.parse_args()
out = Path("out")
folder = wishes.data or write_folder(out / "toy-street", train=1, val=8)

model = everymask.load(wishes.model)
data = everymask.open_dataset(folder, split=wishes.split)
report = everymask.evaluate(model, data, limit=wishes.limit, worst=1)

print(f"{report.model} on {report.data}, {report.task}, {report.images} images")
print("  ".join(figure_text(name, value) for name, value in report.figures.headline.items()))
for label, values in zip(report.labels.names, report.figures.classes, strict=True):
    print(f"{label:12} {figure_text(report.figures.columns[0], values[0])}")
out.mkdir(exist_ok=True)
(out / "worst.png").write_bytes(report.worst[0].picture)
print(out / "worst.png")
