"""Trains "street", the model that everymask bundles, from scratch on CamVid's 367 training photographs.

    python recipes/street.py DATA --output runs/street --minutes 90

DATA is laid out as CamVid: images/{train,val,test}/NAME.jpg, labels/{train,val,test}/NAME.png (class indices, 11 is
void). The run writes its state into OUTPUT every few minutes and goes on from there when it is started again. It
chooses on val and ends with OUTPUT/street, a folder in the transformers layout.

A per-pixel head on the mask features, thrown away in the end, helps the features to become separable: set prediction
alone learns slowly from so few photographs.
"""

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from everymask.checkpoints.layouts import mask2former
from everymask.checkpoints.save import save_checkpoint
from everymask.datasets.class_maps import ignored_values, list_class_maps, read_class_map
from everymask.decoding import decode, decoding_options
from everymask.geometry import Size
from everymask.images import read_image
from everymask.labels import label_set
from everymask.metrics.semantic import ConfusionMatrix
from everymask.networks.mask2former import Mask2Former
from everymask.networks.outputs import MaskQueries
from everymask.preprocessing import Preprocessing, prepare
from everymask.segmentation import TASKS
from everymask.training.averaging import AveragedNetwork
from everymask.training.criterion import PointSampling, set_prediction_loss
from everymask.training.instances import components, targets_of
from everymask.training.matcher import LossWeights
from everymask.training.targets import Targets

LABELS = label_set("camvid")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = Size(256, 352)
BATCH = 8
SAMPLING = PointSampling(num_points=1024)
WEIGHTS = LossWeights()
PIXEL_WEIGHT = 5.0

CONFIG = {
    "architectures": ["Mask2FormerForUniversalSegmentation"],
    "model_type": "mask2former",
    "backbone_config": {
        "model_type": "resnet",
        "embedding_size": 32,
        "hidden_sizes": [48, 96, 192, 320],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "num_queries": 60,
    "hidden_dim": 96,
    "feature_size": 96,
    "mask_feature_size": 96,
    "num_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 256,
    "decoder_layers": 4,
    "dim_feedforward": 384,
    "dropout": 0.0,
    "train_num_points": SAMPLING.num_points,
}

# 480 x 360 becomes 480 x 384: only in multiples of 32 do the maps of all strides cover the same part of the image.
# (On val that is worth 3 points of mIoU.)
PREPROCESSOR = {
    "image_processor_type": "Mask2FormerImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 360, "longest_edge": 960},
    "size_divisor": 32,
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
    "ignore_index": 255,
}


@dataclass(frozen=True)
class Example:
    """A photograph (H, W, 3) uint8 with its class map and its segments."""

    image: NDArray[np.uint8]
    classes: NDArray[np.int64]
    id_map: NDArray[np.int32]
    segment_classes: list[int]


def read_split(data: Path, split: str) -> list[Example]:
    """Every example of a split, in memory."""
    examples = []
    for pair in list_class_maps(data, split):
        image = read_image(pair.image)
        classes = read_class_map(pair.labels, Size(*image.shape[:2]), len(LABELS))
        examples.append(Example(image, classes, *components(classes, LABELS, min_area=24)))
    return examples


def augmented(example: Example, rng: random.Random) -> tuple[Tensor, Tensor, Targets]:
    """A random part of an example at a random scale: pixels (3, h, w), classes (h, w) and targets.

    Half of the parts hold a pixel of a segment drawn at random: small things would be rare otherwise.
    """
    height, width = example.classes.shape
    scale = rng.uniform(0.8, 1.5)
    aspect = rng.uniform(0.9, 1.1)
    box_height = min(CROP.height / scale * aspect, height)
    box_width = min(CROP.width / scale / aspect, width)
    top, left = rng.uniform(0, height - box_height), rng.uniform(0, width - box_width)
    if rng.random() < 0.5:
        wanted = rng.randrange(len(example.segment_classes))
        rows, columns = np.nonzero(example.id_map == wanted)
        pixel = rng.randrange(len(rows))
        top = min(max(rows[pixel] - rng.random() * box_height, 0), height - box_height)
        left = min(max(columns[pixel] - rng.random() * box_width, 0), width - box_width)
    box = (left, top, left + box_width, top + box_height)
    size = (CROP.width, CROP.height)

    pixels = np.asarray(Image.fromarray(example.image).resize(size, Image.Resampling.BILINEAR, box=box))
    id_map = np.asarray(Image.fromarray(example.id_map).resize(size, Image.Resampling.NEAREST, box=box))
    if rng.random() < 0.5:
        pixels, id_map = pixels[:, ::-1], id_map[:, ::-1]
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    classes = np.array([*example.segment_classes, len(LABELS)])[id_map]  # the id -1 reads the last entry: void
    return normalised(jittered(image, rng)), torch.from_numpy(classes), targets_of(id_map, example.segment_classes)


def jittered(image: Tensor, rng: random.Random) -> Tensor:
    """Random light, colour, sharpness and noise of (3, h, w) in 0..1.

    Strong, because most test photographs are of a recording, and of a weather, that training has not seen.
    """
    image = image.pow(math.exp(rng.uniform(-0.5, 0.5))) * rng.uniform(0.5, 1.6)
    image = (image - image.mean()) * rng.uniform(0.5, 1.5) + image.mean()
    grey = image.mean(0, keepdim=True)
    image = grey + (image - grey) * rng.uniform(0.0, 1.8)
    image = image * torch.tensor([rng.uniform(0.85, 1.15) for _ in range(3)])[:, None, None]
    if rng.random() < 0.2:
        blurred = F.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
        image = image.lerp(blurred, rng.random())
    if rng.random() < 0.3:
        image = image + torch.randn_like(image) * rng.uniform(0, 0.06)
    return image.clamp(0, 1)


def normalised(image: Tensor) -> Tensor:
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Trainee(nn.Module):
    """The network with the per-pixel head that is there for training only."""

    def __init__(self, network: Mask2Former) -> None:
        super().__init__()
        self.network = network
        self.pixel_head = nn.Conv2d(CONFIG["mask_feature_size"], len(LABELS), 1)

    def forward(self, pixel_values: Tensor) -> tuple[MaskQueries, Tensor]:
        levels, mask_features = self.network.pixel_decoder(self.network.backbone(pixel_values))
        return self.network.query_decoder(levels, mask_features), self.pixel_head(mask_features)


def class_weights(examples: list[Example]) -> Tensor:
    """Weights that lift rare classes: the inverse square root of their share, 1 on average."""
    counts = sum(np.bincount(e.classes.ravel(), minlength=len(LABELS) + 1)[: len(LABELS)] for e in examples)
    weights = torch.from_numpy(1 / np.sqrt(counts / counts.sum()))
    return (weights / weights.mean()).float()


@torch.inference_mode()
def mean_iou(network: nn.Module, examples: list[Example]) -> tuple[float, list[float]]:
    """mIoU and the IoU of each class, of the semantic reading."""
    matrix = ConfusionMatrix(len(LABELS))
    preprocessing, options = Preprocessing.from_config(PREPROCESSOR), decoding_options("semantic")
    for example in examples:
        prepared = prepare(example.image, preprocessing)
        result = decode(network(prepared.pixel_values), 0, prepared.geometry, LABELS, options, None)
        matrix.add(result.label_map, example.classes, ignored_values(len(LABELS)))
    scores = matrix.scores()
    return scores.mean_iou, [value or 0.0 for value in scores.iou]


def train(data: Path, output: Path, minutes: float, seed: int) -> None:
    """Trains for ``minutes`` of work, in one run or several."""
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    rng = random.Random(seed)
    examples, held_out = read_split(data, "train"), read_split(data, "val")
    print(f"{len(examples)} training and {len(held_out)} validation photographs", flush=True)
    network, _ = mask2former.build(CONFIG, len(LABELS))
    assert isinstance(network, Mask2Former)
    trainee = Trainee(network).to(memory_format=torch.channels_last)
    weights = class_weights(examples)
    decayed = [p for p in trainee.parameters() if p.dim() > 1]
    others = [p for p in trainee.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=1e-3
    )
    averaged = AveragedNetwork(trainee, decay=0.998)
    step, worked, best = 0, 0.0, 0.0
    state_file = output / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        trainee.load_state_dict(state["trainee"])
        averaged.network.load_state_dict(state["averaged"])
        averaged.steps = step = state["step"]
        optimizer.load_state_dict(state["optimizer"])
        worked, best = state["worked"], state["best"]
        torch.manual_seed(seed + step)
        rng.seed(seed + step)
        print(f"going on from step {step}, {worked / 60:.1f} minutes", flush=True)
    log = (output / "log.jsonl").open("a")
    order: list[Example] = []
    saved = worked
    trainee.train()
    while worked < minutes * 60:
        started = time.monotonic()
        batch = []
        while len(batch) < BATCH:
            if not order:
                order = rng.sample(examples, len(examples))
            batch.append(augmented(order.pop(), rng))
        pixel_values = torch.stack([image for image, _, _ in batch]).contiguous(memory_format=torch.channels_last)
        classes = torch.stack([each for _, each, _ in batch])
        # Linear warm-up, then a cosine from the peak to zero at the end of the time.
        progress = worked / (minutes * 60)
        rate = 1e-3 * min(1.0, (step + 1) / 300) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            prediction, pixel_logits = trainee(pixel_values)
        losses = set_prediction_loss(prediction, [each for _, _, each in batch], WEIGHTS, SAMPLING)
        upsampled = F.interpolate(pixel_logits.float(), size=CROP, mode="bilinear")
        pixel_loss = F.cross_entropy(upsampled, classes, weights, ignore_index=len(LABELS))
        loss = losses.total(WEIGHTS) + PIXEL_WEIGHT * pixel_loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 10.0)
        optimizer.step()
        averaged.update(trainee)
        step += 1
        worked += time.monotonic() - started
        if step % 20 == 0:
            parts = [losses.classification, losses.mask, losses.dice, pixel_loss]
            line = " ".join(f"{float(part.detach()):.3f}" for part in parts)
            print(f"step {step} {worked / 60:.1f} min lr {rate:.2e} class/mask/dice/pixel {line}", flush=True)
        if worked - saved > 300 or worked >= minutes * 60:
            saved = worked
            value, per_class = mean_iou(averaged.network.network, held_out)
            record = {"step": step, "minutes": worked / 60, "val_miou": value, "iou": per_class}
            log.write(json.dumps(record) + "\n")
            log.flush()
            print(f"val mIoU {100 * value:.2f} " + " ".join(f"{100 * each:.0f}" for each in per_class), flush=True)
            if value > best:
                best = value
                torch.save(averaged.network.network.state_dict(), output / "best.pt")
            aside = output / "state.pt.part"
            torch.save(
                {
                    "trainee": trainee.state_dict(),
                    "averaged": averaged.network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "worked": worked,
                    "best": best,
                },
                aside,
            )
            aside.replace(state_file)


def publish(output: Path) -> None:
    """Writes the best weights so far as OUTPUT/street, in the transformers layout, stored as float16."""
    network, layout = mask2former.build(CONFIG, len(LABELS))
    network.load_state_dict(torch.load(output / "best.pt", weights_only=True))
    save_checkpoint(
        output / "street",
        network,
        layout,
        CONFIG,
        PREPROCESSOR,
        labels=LABELS,
        tasks=TASKS,
        license="CC BY-NC 4.0",
        dtype=torch.float16,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/street"))
    parser.add_argument("--minutes", type=float, default=90.0, help="of training, validation not counted")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(arguments.data, arguments.output, arguments.minutes, arguments.seed)
    publish(arguments.output)


if __name__ == "__main__":
    main()
