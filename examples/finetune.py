"""Fine-tuning a network on a folder of your own.

    python examples/finetune.py      # offline: a toy MaskFormer that knows cars learns to tell taxis apart, in a minute
    python examples/finetune.py mydata --model facebook/mask2former-swin-tiny-coco-panoptic --recipe mine.yaml

The folder holds images/train, labels/train, instances/train, the same for val, and classes.json; ``toy/street.py``
writes one. The same from the command line: everymask train --model MODEL --data FOLDER --output OUTPUT
"""

import argparse
from pathlib import Path

import torch
from toy.street import write_folder

import everymask
from everymask.checkpoints import load_checkpoint
from everymask.training.adaptation import adapt
from everymask.training.defaults import default_recipe
from everymask.training.job import TrainingJob
from everymask.training.loop import train
from everymask.training.recipe import read_recipe

TOYS = Path(__file__).parent / "toy"

parser = argparse.ArgumentParser(description="Fine-tune a network for panoptic segmentation.")
parser.add_argument("data", nargs="?", help="a folder; drawn streets if left out")
parser.add_argument("--model", default=TOYS / "maskformer")
parser.add_argument("--output", type=Path, default=Path("out") / "finetuned", help="a folder that holds no run yet")
parser.add_argument("--recipe", type=Path, default=TOYS / "taxis.yaml", help="settings that differ from published ones")
wishes = parser.parse_args()
folder = wishes.data or write_folder(Path("out") / "taxis", train=32, val=8, taxis=True)

start = load_checkpoint(wishes.model)
data = everymask.open_dataset(folder, split="train", task="panoptic")
held_out = everymask.open_dataset(folder, split="val", task="panoptic")
published = default_recipe(start.config, "panoptic", start.preprocessing, data.labels, torch.device("cpu"))
recipe = read_recipe(wishes.recipe, published)
checkpoint = adapt(start, data.labels, "panoptic", recipe.seed)  # a new head for new classes; all else is kept

result = train(
    TrainingJob(
        checkpoint=checkpoint,
        data=data,
        validation=held_out,
        task="panoptic",
        recipe=recipe,
        output=wishes.output,
        license=start.license,
        start=start.name,
    )
)
for name, value in result.figures.items():
    print(f"{name} {value:.1%}")

model = everymask.load(result.folder)
image = held_out.read_image(0)
model(image).draw(legend="segments").save(wishes.output / "first.png")
print(f"the network is in {result.folder}")
