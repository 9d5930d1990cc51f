"""How good a network is between two steps: figures on held-out images, and pictures of the first of them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from everymask.checkpoints.load import Checkpoint
from everymask.datasets.dataset import DataSet
from everymask.evaluation import evaluate
from everymask.evaluation.drawing import compare
from everymask.segmentation import Task
from everymask.segmenter import Segmenter

PICTURES = 4


def validate(
    checkpoint: Checkpoint, network: nn.Module, data: DataSet, task: Task, device: torch.device
) -> dict[str, float]:
    """The figures of ``network`` on ``data`` as ``everymask evaluate`` has them, the most important first.

    ``checkpoint`` says how images are prepared. The network is in eval mode afterwards. Figures that the data does not
    allow, such as PQ of stuff without stuff, are nan. Raises DataError where no image can be read.
    """
    report = evaluate(_segmenter(checkpoint, network, device), data, task)
    return {name: torch.nan if value is None else value for name, value in report.figures.headline.items()}


def pictures(
    checkpoint: Checkpoint, network: nn.Module, data: DataSet, task: Task, device: torch.device
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The first images of ``data`` by name, with prediction and truth beside each other, (H, W, 3) uint8."""
    segmenter = _segmenter(checkpoint, network, device)
    for index, name in enumerate(data.names[:PICTURES]):
        prediction = segmenter(data.read_image(index), task=task)
        yield name, np.asarray(compare(prediction, data.read_truth(index), name))


def _segmenter(checkpoint: Checkpoint, network: nn.Module, device: torch.device) -> Segmenter:
    return Segmenter(replace(checkpoint, network=network), device, torch.float32)
