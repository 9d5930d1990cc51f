"""DETR panoptic (ResNet-50) with the masks of a few queries, against transformers, which makes all of them.

    python benchmarks/detr.py

Both have the same random weights and see the same pixels, 800 x 1066 as COCO photographs come in. The masks that are
kept must agree. Times are medians of runs that take turns; the first of each is not counted.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import DetrConfig, DetrForSegmentation, ResNetConfig
from twins import same_network, seconds

from everymask.geometry import Size

NUM_LABELS = 250


def reference() -> nn.Module:
    """transformers' network at the sizes of facebook/detr-resnet-50-panoptic, its backbone without timm."""
    backbone = ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    return DetrForSegmentation(DetrConfig(backbone_config=backbone, num_labels=NUM_LABELS)).eval()


def keeper(count: int) -> Callable[[Tensor], Tensor]:
    """Keeps the ``count`` queries of every image that are surest of an object."""

    def keep(class_logits: Tensor) -> Tensor:
        score = class_logits.softmax(-1)[..., :-1].amax(-1)  # (B, Q)
        return torch.zeros_like(score, dtype=torch.bool).scatter_(1, score.topk(count).indices, True)

    return keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--kept", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    size = Size(arguments.height, arguments.width)
    theirs = reference()
    ours = same_network(theirs, NUM_LABELS)
    pixel_values = torch.randn(1, 3, *size)
    keep = keeper(arguments.kept)
    with torch.inference_mode():
        expected = theirs(pixel_values)
        output = ours(pixel_values, keep)
        kept = keep(expected.logits)
        difference = (output.mask_logits[kept] - expected.pred_masks[kept]).abs().max()
        difference /= expected.pred_masks[kept].abs().max()
        sparing, complete, other = [], [], []
        for _ in range(arguments.repeats):
            sparing.append(seconds(lambda: ours(pixel_values, keep)))
            complete.append(seconds(lambda: ours(pixel_values)))
            other.append(seconds(lambda: theirs(pixel_values)))
    mine, all_masks, reference_time = (statistics.median(times) for times in (sparing, complete, other))
    queries = expected.logits.shape[1]
    print(f"DETR-R50 panoptic, {size.height} x {size.width}, float32, {arguments.threads} threads")
    print(f"everymask, {arguments.kept} of {queries} masks: {mine:7.3f} s   {reference_time / mine:5.1f}x")
    print(f"everymask, all masks:      {all_masks:7.3f} s   {reference_time / all_masks:5.1f}x")
    print(f"transformers, all masks:   {reference_time:7.3f} s")
    print(f"the kept masks differ by {difference:.1e} of the largest logit")


if __name__ == "__main__":
    main()
