"""The loss of many segments takes no memory for their dense masks."""

import subprocess
import sys

import pytest

# Prints the MB that a loss and its gradients need beyond a prediction of 200 queries.
MEASURE = """
import resource, sys
import torch
from everymask.networks.detr import BoxedQueries
from everymask.training.criterion import set_prediction_loss
from everymask.training.losses import PUBLISHED
from everymask.training.targets import Targets

family, segments, side, queries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 200
torch.manual_seed(0)
torch.set_num_threads(1)
mask_logits = torch.randn(1, queries, side // 4, side // 4, requires_grad=True)
class_logits = torch.randn(1, queries, 6, requires_grad=True)
boxes = (torch.rand(1, queries, 4) * 0.5 + 0.1).requires_grad_()
id_map = torch.arange(segments).repeat_interleave(side * side // segments + 1)[: side * side].view(side, side)
targets = Targets(torch.randint(0, 5, (segments,)), id_map)
config = PUBLISHED[family].masks
mask_logits.grad = torch.zeros_like(mask_logits)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prediction = BoxedQueries(class_logits, mask_logits, boxes=boxes)
losses = set_prediction_loss(prediction, [targets], config.weights, config.sampling)
losses.total(config.weights).backward()
assert mask_logits.grad.any()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def peak(family: str, segments: int, side: int) -> float:
    """MB that a step takes beyond its prediction."""
    command = [sys.executable, "-c", MEASURE, family, str(segments), str(side)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the resident memory in kB")
@pytest.mark.parametrize("family", ["mask2former", "maskformer"])
def test_ten_times_the_segments_take_no_dense_masks(family: str) -> None:
    side = 640
    dense = 180 * side**2 * 4 / 2**20  # MB of 180 masks more, if there were any; computing with them takes a multiple
    assert peak(family, 200, side) - peak(family, 20, side) < dense * 2 / 3
