"""A network on a GPU, image in to segments out, against transformers; and the Triton kernel against the memory.

    python benchmarks/gpu.py [--batch N] [--seconds N]

Random weights in the public configurations; a photograph of 640 x 480 noise. "everymask" is bfloat16 with CUDA graphs,
preparing and decoding included, in batches; "transformers" is its eager float32 network alone on an input that lies on
the GPU already. The kernel's bytes are what it must read and write once: values, offsets, logits and result; its share
is of the rate at which this GPU copies.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from transformers import (
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SwinConfig,
)
from twins import same_network

from everymask.decoding import decode, decoding_options
from everymask.engines.engine import Engine, Inputs
from everymask.engines.graphs import GraphsEngine
from everymask.labels import LabelSet
from everymask.networks.layers.deformable_attention import Pyramid
from everymask.networks.outputs import MaskQueries
from everymask.preprocessing import Preprocessing, prepare

CUDA = torch.device("cuda")
CLASSES = 133
LABELS = LabelSet(tuple(map(str, range(CLASSES))), tuple(index < 80 for index in range(CLASSES)), (None,) * CLASSES)


def rate(work: Callable[[], object], seconds: float) -> float:
    """How often ``work`` runs in a second, after two runs that warm up."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        torch.cuda.synchronize()
        runs += 1
    return runs / (time.perf_counter() - start)


def repeat(times: int, work: Callable[[], object]) -> None:
    """So often that waiting for the GPU at the end does not count."""
    for _ in range(times):
        work()


def segment(engine: Engine, images: list[np.ndarray], preprocessing: Preprocessing) -> int:
    """Segments a batch from start to end; the number of segments found."""
    inputs = [prepare(image, preprocessing) for image in images]
    with torch.inference_mode():
        output = engine(Inputs(torch.cat([each.pixel_values for each in inputs])))
        assert isinstance(output, MaskQueries)
        options = decoding_options("panoptic", threshold=0.0)  # random weights are sure of nothing
        results = [decode(output, index, each.geometry, LABELS, options, None) for index, each in enumerate(inputs)]
    return sum(len(result.segments) for result in results)


def networks(batch: int, seconds: float) -> None:
    swin = SwinConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    rows = (
        (
            "EoMT-L 640",
            EomtForUniversalSegmentation(EomtConfig(num_labels=CLASSES)),
            "Eomt",
            {"shortest_edge": 640, "longest_edge": 640},
        ),
        (
            "Mask2Former Swin-T",
            Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin, num_labels=CLASSES)),
            "Mask2Former",
            {"shortest_edge": 800, "longest_edge": 1333},
        ),
    )
    images = [np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8) for seed in range(batch)]
    for name, theirs, processor, size in rows:
        ours = same_network(theirs.eval(), CLASSES).requires_grad_(False)
        config = {"image_processor_type": f"{processor}ImageProcessor", "size": size, "do_pad": processor == "Eomt"}
        preprocessing = Preprocessing.from_config(config)
        pixel_values = prepare(images[0], preprocessing).pixel_values.to(CUDA)
        theirs = theirs.to(CUDA)
        with torch.inference_mode():
            their_rate = rate(partial(theirs, pixel_values), seconds)
        theirs.to("cpu")
        engine = GraphsEngine(ours, CUDA, torch.bfloat16)
        our_rate = batch * rate(partial(segment, engine, images, preprocessing), seconds)
        print(f"{name:>20} | {our_rate:7.1f} images/s | {their_rate:7.1f} images/s | {our_rate / their_rate:.1f}x")


def kernel(seconds: float) -> None:
    from everymask.networks.layers.deformable_triton import read_pyramid_triton

    sizes, heads, points, dim = [(25, 34), (50, 68), (100, 136)], 8, 4, 256  # Mask2Former at 800 x 1088
    pyramid = Pyramid.of(sizes, CUDA)
    tokens = sum(height * width for height, width in sizes)
    block = torch.empty(2**28, device=CUDA, dtype=torch.uint8)
    target = torch.empty_like(block)
    copied = 2 * block.numel() * 20 * rate(partial(repeat, 20, partial(target.copy_, block)), seconds)
    for dtype in (torch.float32, torch.bfloat16):
        values = torch.randn(1, tokens, dim, device=CUDA, dtype=dtype)
        offsets = 2 * torch.randn(1, tokens, heads, len(sizes), points, 2, device=CUDA, dtype=dtype)
        logits = torch.randn(1, tokens, heads, len(sizes), points, device=CUDA, dtype=dtype)
        moved = (2 * values.numel() + offsets.numel() + logits.numel()) * dtype.itemsize
        calls = 100 * rate(
            partial(repeat, 100, partial(read_pyramid_triton, values, offsets, logits, pyramid)), seconds
        )
        share = 100 * moved * calls / copied
        print(f"{dtype!s:>20} | {1e6 / calls:6.1f} us | {moved * calls / 1e9:6.0f} GB/s | {share:.0f} % of a copy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "there is no CUDA GPU here\n")
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    networks(arguments.batch, arguments.seconds)
    kernel(arguments.seconds)


if __name__ == "__main__":
    main()
