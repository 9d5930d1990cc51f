"""Networks that score pixels, at the sizes their public checkpoints see, against transformers.

    python benchmarks/pixels.py segformer     # nvidia/segformer-b0-finetuned-ade-512-512, 512 x 512
    python benchmarks/pixels.py dpt           # Intel/dpt-large-ade, 480 x 480

Both have the same random weights and see the same pixels; the logits must agree. Times are medians of runs that take
turns; the first of each is not counted.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DPTConfig, DPTForSemanticSegmentation, SegformerConfig, SegformerForSemanticSegmentation
from twins import same_network, seconds

NUM_LABELS = 150


@dataclass(frozen=True)
class Subject:
    """A network of transformers', the side of its square input in pixels, and how often it is timed."""

    name: str
    reference: Callable[[], nn.Module]
    side: int
    repeats: int


def segformer() -> nn.Module:
    """The configuration is that of B0 where nothing else is said."""
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=NUM_LABELS))


def dpt() -> nn.Module:
    """At the sizes of Intel/dpt-large-ade."""
    config = DPTConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        backbone_out_indices=[5, 11, 17, 23],
        neck_hidden_sizes=[256, 512, 1024, 1024],
        use_batch_norm_in_fusion_residual=True,
        num_labels=NUM_LABELS,
    )
    return DPTForSemanticSegmentation(config)


SUBJECTS = {
    "segformer": Subject("SegFormer-B0", segformer, side=512, repeats=15),
    "dpt": Subject("DPT-Large", dpt, side=480, repeats=5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=SUBJECTS)
    parser.add_argument("--side", type=int, help="in pixels; the checkpoint's own otherwise")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    subject = SUBJECTS[arguments.network]
    side = arguments.side or subject.side
    theirs = subject.reference().eval()
    ours = same_network(theirs, NUM_LABELS)
    pixel_values = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        expected = theirs(pixel_values).logits
        difference = (ours(pixel_values).logits - expected).abs().max() / expected.abs().max()
        mine, other = [], []
        for _ in range(subject.repeats):
            mine.append(seconds(lambda: ours(pixel_values)))
            other.append(seconds(lambda: theirs(pixel_values)))
    time_here, time_there = statistics.median(mine), statistics.median(other)
    print(f"{subject.name}, {side} x {side}, float32, {arguments.threads} threads")
    print(f"everymask:    {time_here:7.3f} s   {time_there / time_here:5.1f}x")
    print(f"transformers: {time_there:7.3f} s")
    print(f"the logits differ by {difference:.1e} of the largest")


if __name__ == "__main__":
    main()
