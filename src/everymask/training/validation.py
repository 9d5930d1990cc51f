"""How good a network is between two steps: figures on held-out images, and pictures of the first of them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from everymask.checkpoints.load import Checkpoint
from everymask.datasets.dataset import DataSet, DepthDataSet
from everymask.engines.eager import EagerEngine
from everymask.evaluation import evaluate
from everymask.evaluation.figures import measure_for
from everymask.segmentation import Task
from everymask.segmenter import Segmenter

PICTURES = 4
DECIDING_OF_DEPTH = "delta1"


def validate(
    checkpoint: Checkpoint, network: nn.Module, data: DataSet, task: Task, device: torch.device
) -> dict[str, float]:
    """The figures of ``network`` on ``data`` as ``everymask evaluate`` has them, the most important first.

    Of the first one more is better: of depth it is delta1. A network with two heads has the figures of its classes and,
    where the data has depth in metres, of its depth. ``checkpoint`` says how images are prepared. The network is in
    eval mode afterwards. Figures that the data does not allow, such as PQ of stuff without stuff, are nan. Raises
    DataError where no image can be read.
    """
    segmenter = _segmenter(checkpoint, network, device)
    headline = evaluate(segmenter, data, task).figures.headline
    if task == "depth":
        headline = {DECIDING_OF_DEPTH: headline[DECIDING_OF_DEPTH], **headline}
    elif segmenter.depth_kind is not None and isinstance(data, DepthDataSet) and data.depth_kind == "metric":
        headline = {**headline, **evaluate(segmenter, data, "depth").figures.headline}
    return {name: torch.nan if value is None else value for name, value in headline.items()}


def pictures(
    checkpoint: Checkpoint, network: nn.Module, data: DataSet, task: Task, device: torch.device
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The first images of ``data`` by name, with prediction and truth beside each other, (H, W, 3) uint8."""
    segmenter = _segmenter(checkpoint, network, device)
    measure = measure_for(task, data.labels, segmenter.depth_kind)
    for index, name in enumerate(data.names[:PICTURES]):
        prediction = segmenter(data.read_image(index), task=task)
        yield name, np.asarray(measure.draw(prediction, measure.read(data, index), name))


def _segmenter(checkpoint: Checkpoint, network: nn.Module, device: torch.device) -> Segmenter:
    return Segmenter(replace(checkpoint, network=network), EagerEngine(network, device, torch.float32))
