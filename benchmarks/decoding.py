"""Decoding a 12-megapixel image against the post-processing of transformers.

    python benchmarks/decoding.py [--threads N] [--repeats N]

Both get the same queries: 100 of them, 133 classes, 30 confident objects with smooth masks; or ("pixels") the same
logits of 150 classes at every pixel, in which 30 smooth regions lie. Runs of the two alternate, and the median counts.
Memory is the peak resident set above the inputs, from a process of its own for each (Linux only). What the two compute
from queries differs: transformers resizes the masks to 384 x 384 first. From pixels they compute the same.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from everymask.decoding import decode, decoding_options
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries, PixelLogits

IMAGE = Size(3000, 4000)
MASKS = (Size(200, 272), Size(256, 336))  # inputs of 800 x 1088 and 1024 x 1344, at stride 4
LOGITS = (Size(128, 128), Size(480, 480))  # SegFormer and BEiT give stride 4; UPerNet and DPT the input's own size
TASKS = ("panoptic", "instance", "semantic")
QUERIES, OBJECTS, CLASSES, THINGS = 100, 30, 133, 80
PIXEL_CLASSES = 150


def make_objects(size: Size, generator: torch.Generator) -> Tensor:
    """The logits of objects that cover the image, (objects, h, w)."""
    waves = torch.randn(1, 2, 9, 12, generator=generator) * 0.08
    waves = torch.nn.functional.interpolate(waves, size=size, mode="bicubic", align_corners=False)[0]
    y, x = torch.meshgrid(torch.linspace(0, 1, size.height), torch.linspace(0, 1, size.width), indexing="ij")
    place = torch.stack((y, x)) + waves  # (2, h, w)
    centre = torch.rand(OBJECTS, 2, 1, 1, generator=generator)
    distance = (place - centre).norm(dim=1)  # (objects, h, w)
    nearest_two = distance.topk(2, dim=0, largest=False).values
    rival = torch.where(distance == nearest_two[0], nearest_two[1], nearest_two[0])
    return (rival - distance) * 120


def make_pixels(size: Size) -> PixelLogits:
    """Logits as a trained network gives them: one class leads in a region, two meet at its border, others are noise."""
    generator = torch.Generator().manual_seed(0)
    objects = make_objects(size, generator).clamp(-6, 6)
    coarse = torch.randn(1, PIXEL_CLASSES, size.height // 8, size.width // 8, generator=generator)
    logits = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)[0]
    classes = torch.randint(PIXEL_CLASSES, (OBJECTS,), generator=generator)
    for index, mask in zip(classes.tolist(), objects, strict=True):
        logits[index] += mask + 6
    return PixelLogits(logits[None])


def make_input(task: str, size: Size) -> MaskQueries | PixelLogits:
    return make_pixels(size) if task == "pixels" else make_queries(size)


def make_queries(size: Size) -> MaskQueries:
    """Queries as a trained network gives them: objects that cover the image, and rough copies with no object's class.

    A mask is the logit of being nearest to the query's own centre, in a wavy metric: steep at borders, flat inside.
    """
    generator = torch.Generator().manual_seed(0)
    objects = make_objects(size, generator)
    copies = objects[torch.randint(OBJECTS, (QUERIES - OBJECTS,), generator=generator)]
    roughness = torch.randn(QUERIES, 1, size.height // 8, size.width // 8, generator=generator)
    roughness = torch.nn.functional.interpolate(roughness, size=size, mode="bilinear", align_corners=False)[:, 0]
    masks = (torch.cat((objects, copies - 2)) + roughness).clamp(-15, 12)  # (Q, h, w)
    classes = torch.randn(QUERIES, CLASSES + 1, generator=generator)
    classes[torch.arange(OBJECTS), torch.randint(CLASSES, (OBJECTS,), generator=generator)] += 11
    classes[OBJECTS:, -1] += 9
    return MaskQueries(classes[None], masks[None])


def ours(output: MaskQueries | PixelLogits, task: str) -> None:
    if isinstance(output, PixelLogits):
        classes, network_input = PIXEL_CLASSES, Size(512, 512)
    else:
        height, width = output.mask_logits.shape[2:]
        classes, network_input = CLASSES, Size(4 * height, 4 * width)
    geometry = Geometry(original=IMAGE, resized=network_input, padded=network_input)
    names = tuple(f"class {index}" for index in range(classes))
    labels = LabelSet(names, tuple(index < THINGS for index in range(classes)), (None,) * classes)
    decode(output, 0, geometry, labels, decoding_options("semantic" if task == "pixels" else task), None)


def theirs(output: MaskQueries | PixelLogits, task: str) -> None:
    sizes = [tuple(IMAGE)]
    if isinstance(output, PixelLogits):
        SegformerImageProcessorPil().post_process_semantic_segmentation(SimpleNamespace(logits=output.logits), sizes)
        return
    outputs = SimpleNamespace(class_queries_logits=output.class_logits, masks_queries_logits=output.mask_logits)
    processor = Mask2FormerImageProcessorPil()
    if task == "panoptic":
        stuff = set(range(THINGS, CLASSES))
        processor.post_process_panoptic_segmentation(
            outputs, threshold=0.8, label_ids_to_fuse=stuff, target_sizes=sizes
        )
    elif task == "instance":
        processor.post_process_instance_segmentation(outputs, target_sizes=sizes, return_binary_maps=True)
    else:
        processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)


Decoder = Callable[[MaskQueries | PixelLogits, str], None]


def seconds(decoder: Decoder, output: MaskQueries | PixelLogits, task: str) -> float:
    start = time.perf_counter()
    decoder(output, task)
    return time.perf_counter() - start


def resident(field: str) -> int:
    """Bytes of a field of the kernel's report on this process: VmRSS now, VmHWM at the peak."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def extra_memory(decoder: Decoder, task: str, size: Size, threads: int) -> int:
    """Peak resident bytes above the inputs."""
    torch.set_num_threads(threads)
    output = make_input(task, size)
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # the peak counts from here
    before = resident("VmRSS")
    decoder(output, task)
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{IMAGE.height} x {IMAGE.width}, {arguments.threads} threads, float32; ", end="")
    print(f"{QUERIES} queries, {CLASSES} classes; pixels: {PIXEL_CLASSES} classes")
    print(f"{'masks':>9} {'task':>9} | {'everymask':>16} | {'transformers':>16} | ratio")
    rows = [(size, task) for size in MASKS for task in TASKS] + [(size, "pixels") for size in LOGITS]
    for size, task in rows:
        output = make_input(task, size)
        pairs = [(seconds(ours, output, task), seconds(theirs, output, task)) for _ in range(arguments.repeats + 1)]
        mine, other = (statistics.median(times) for times in zip(*pairs[1:], strict=True))  # the first warms up
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
            jobs = [(decoder, task, size, arguments.threads) for decoder in (ours, theirs)]
            extra, other_extra = fresh.starmap(extra_memory, jobs, chunksize=1)
        print(
            f"{size.height:>4} x {size.width} {task:>8} | {mine:6.2f} s {extra / 1e6:4.0f} MB | "
            f"{other:6.2f} s {other_extra / 1e6:4.0f} MB | {other / mine:.1f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
