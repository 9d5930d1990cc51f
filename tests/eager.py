"""A Segmenter in torch's eager mode, float32, on the CPU."""

import torch

from everymask.checkpoints.load import Checkpoint
from everymask.engines.eager import EagerEngine
from everymask.segmenter import Segmenter


def eager_segmenter(checkpoint: Checkpoint, kind: type[Segmenter] = Segmenter) -> Segmenter:
    return kind(checkpoint, EagerEngine(checkpoint.network, torch.device("cpu"), torch.float32))
