"""One network, three tasks: OneFormer is told its task as a text, "the task is panoptic".

    python examples/oneformer.py                                              # offline: "street", a Mask2Former
    python examples/oneformer.py shi-labs/oneformer_ade20k_swin_tiny room.jpg

Where transformers has the caller give ``task_inputs=["panoptic"]`` to a processor, here ``task=`` says it all: the
tokens of the text come with the checkpoint. A Mask2Former reads the three tasks from the same queries, without a text.
"""

import argparse
from pathlib import Path

import everymask

PHOTO = Path(everymask.__file__).parent / "bundled" / "photos" / "high-street.jpg"

parser = argparse.ArgumentParser(description="Three tasks of one network.")
parser.add_argument("model", nargs="?", default="street")
parser.add_argument("image", nargs="?", default=PHOTO)
wishes = parser.parse_args()

model = everymask.load(wishes.model)
out = Path("out")
out.mkdir(exist_ok=True)
for task in model.tasks:
    told = "" if model.task_tokens is None else f' (told: "the task is {task}")'
    result = model(wishes.image, task=task)
    print(f"{task}{told}: {', '.join(result.names)}")
    result.draw(legend="segments").save(out / f"oneformer-{task}.png")
print(out)
