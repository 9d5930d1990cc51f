"""Engines and number types of one model side by side on one image."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch

from everymask.benchmarking.ceiling import measure_ceiling, yardstick
from everymask.benchmarking.flops import count_gflop
from everymask.benchmarking.machine import this_machine
from everymask.benchmarking.report import Report, report
from everymask.benchmarking.timing import Subject, measure
from everymask.checkpoints import Checkpoint, load_checkpoint
from everymask.decoding import decoding_options, relevant_queries
from everymask.devices import choose_device, computes_bfloat16, dtype_name
from everymask.engines.choice import available_engines
from everymask.engines.engine import Inputs
from everymask.errors import OptionError
from everymask.formats.overlay import encode
from everymask.images import read_image
from everymask.loading import load
from everymask.preprocessing import prepare
from everymask.segmentation import Task
from everymask.segmenter import Segmenter


def bench(
    model: str | Path,
    image: Path,
    *,
    engines: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    device: str = "auto",
    task: str | None = None,
    repeats: int = 7,
) -> Report:
    """Measures a model on the file ``image`` with every engine and number type, and torch's matrix products first.

    ``engines`` and ``dtypes`` are what ``load`` takes; no engines mean all that are installed, can run the model and
    need no minutes to start, no number types mean float32 and, where the device computes it natively, bfloat16
    (emulated, it takes twenty times as long). The subjects are called "eager float32" and the like; the first is what
    the others are compared with. Raises what ``load`` and calling the model raise.
    """
    torch_device = choose_device(device)
    checkpoint = load_checkpoint(model)
    chosen = _task(checkpoint, task)
    if not engines:
        engines = available_engines(checkpoint.network, torch_device)
    if not dtypes:
        dtypes = ("float32", "bfloat16") if computes_bfloat16(torch_device) else ("float32",)
    gflop, input_size = _gflop(checkpoint, image, chosen)
    subjects: dict[str, Subject] = {}
    for engine, dtype in itertools.product(engines, dtypes):
        segmenter = load(model, device=device, dtype=dtype, engine=engine)
        subject = segmenter_subject(segmenter, image, gflop, task=chosen)
        subjects.setdefault(subject.name, subject)  # "auto" is one of the others
    ceiling = measure_ceiling(torch_device, dict.fromkeys(getattr(torch, each.dtype) for each in subjects.values()))
    times = measure(subjects.values(), yardstick(torch_device), repeats=repeats)
    return report(
        str(model),
        f"{chosen} segmentation of {image.name}, network input {input_size}",
        list(subjects.values()),
        times,
        ceiling,
        this_machine(torch_device),
    )


def segmenter_subject(
    segmenter: Segmenter, image: Path, gflop: float, *, task: Task, threshold: float | None = None
) -> Subject:
    """A model that segments a file; drawn is the overlay with its legend, as it is saved."""
    return Subject(
        name=f"{segmenter.engine.name} {dtype_name(segmenter.engine.dtype)}",
        run=lambda stopwatch: segmenter(image, task=task, threshold=threshold, stopwatch=stopwatch),
        dtype=dtype_name(segmenter.engine.dtype),
        gflop=gflop,
        draw=lambda result: encode(result, image.stem),
    )


def _task(checkpoint: Checkpoint, task: str | None) -> Task:
    chosen = next((each for each in checkpoint.tasks if task in (None, each)), None)
    if chosen is None:
        raise OptionError(f"{checkpoint.name} cannot do the task {task!r}: choose {' or '.join(checkpoint.tasks)}")
    return chosen


def _gflop(checkpoint: Checkpoint, image: Path, task: Task) -> tuple[float, str]:
    """Of all passes of the network that an image takes; and the size of its input, in words."""
    prepared = prepare(read_image(image), checkpoint.preprocessing)
    tokens = None if checkpoint.task_tokens is None else checkpoint.task_tokens[task][None]  # (1, length)
    keep = relevant_queries(decoding_options(task), checkpoint.labels)
    pixel_values = next(iter(prepared.windows()))  # (1, 3, h, w)
    windows = len(prepared.geometry.windows)
    size = f"{pixel_values.shape[2]} x {pixel_values.shape[3]}" + (f", {windows} windows" if windows > 1 else "")
    return windows * count_gflop(checkpoint.network, Inputs(pixel_values, tokens, keep)), size
