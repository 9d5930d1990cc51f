"""DPT-Large on 480 x 480 pixels, as Intel/dpt-large-ade sees them, against transformers.

    python benchmarks/dpt.py

Both have the same random weights and see the same pixels; the logits must agree. Times are medians of runs that take
turns; the first of each is not counted.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import DPTConfig, DPTForSemanticSegmentation

from everymask.checkpoints.layouts import dpt
from everymask.checkpoints.strict import load_strictly, no_random_initialisation

NUM_LABELS = 150


def reference() -> nn.Module:
    """transformers' network at the sizes of Intel/dpt-large-ade."""
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
    return DPTForSemanticSegmentation(config).eval()


def same_network(theirs: nn.Module) -> nn.Module:
    """Ours with their weights, by way of the file they write."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        with no_random_initialisation():
            network, layout = dpt.build(config, NUM_LABELS)
        load_strictly(network, layout, load_file(Path(folder) / "model.safetensors"))
    return network.eval()


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=480, help="transformers takes squares only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    theirs = reference()
    ours = same_network(theirs)
    pixel_values = torch.randn(1, 3, arguments.side, arguments.side)
    with torch.inference_mode():
        expected = theirs(pixel_values).logits
        difference = (ours(pixel_values).logits - expected).abs().max() / expected.abs().max()
        mine, other = [], []
        for _ in range(arguments.repeats):
            mine.append(seconds(lambda: ours(pixel_values)))
            other.append(seconds(lambda: theirs(pixel_values)))
    time_here, time_there = statistics.median(mine), statistics.median(other)
    print(f"DPT-Large, {arguments.side} x {arguments.side}, float32, {arguments.threads} threads")
    print(f"everymask:    {time_here:7.3f} s   {time_there / time_here:5.1f}x")
    print(f"transformers: {time_there:7.3f} s")
    print(f"the logits differ by {difference:.1e} of the largest")


if __name__ == "__main__":
    main()
