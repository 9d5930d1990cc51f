"""Two processes with half a batch each learn what one learns from the whole."""

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from everymask.networks.outputs import MaskQueries, PixelLogits
from everymask.training.contrastive import contrastive_loss
from everymask.training.criterion import set_prediction_loss
from everymask.training.losses import published_loss
from everymask.training.pixel_loss import PixelLossConfig, pixel_loss
from everymask.training.targets import Targets

RUN = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from test_processes import losses_of, whole
rank, folder = int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
inputs, targets, class_maps = whole()
half = slice(2 * rank, 2 * rank + 2)
inputs = [each[half].detach().requires_grad_() for each in inputs]
losses = losses_of(inputs, targets[half], class_maps[half])
gradients = torch.autograd.grad(losses.sum(), inputs)
torch.save((losses.detach(), gradients), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def whole() -> tuple[list[Tensor], list[Targets], Tensor]:
    """A batch of four images, very unequal ones, with the predictions that the losses compare."""
    torch.manual_seed(0)
    shapes = [(4, 6, 4), (4, 6, 5, 5), (4, 3, 5, 5), (4, 3, 8), (4, 3, 8)]
    inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    targets = []
    for count in (1, 0, 5, 4):
        id_map = torch.full((10, 10), -1)
        id_map.view(-1)[: 6 * count] = torch.arange(count).repeat_interleave(6)
        targets.append(Targets(torch.randint(0, 3, (count,)), id_map))
    class_maps = torch.randint(0, 3, (4, 10, 10))
    class_maps[0], class_maps[1, 3:] = -1, -1
    return inputs, targets, class_maps


def losses_of(inputs: list[Tensor], targets: list[Targets], class_maps: Tensor) -> Tensor:
    """The losses that depend on more than one image at a time: (3,)."""
    class_logits, mask_logits, pixel_logits, queries, texts = inputs
    masks = published_loss("maskformer").masks
    assert masks is not None
    queried = set_prediction_loss(MaskQueries(class_logits, mask_logits), targets, masks.weights, masks.sampling)
    config = PixelLossConfig(class_weights=(0.3, 1.0, 2.0))
    pixels = pixel_loss(PixelLogits(pixel_logits), class_maps, config)
    contrastive = contrastive_loss(queries, texts, torch.tensor(2.0))
    return torch.stack([queried.total(masks.weights), pixels.total(config), contrastive])


def test_the_mean_over_processes_is_the_loss_of_the_common_batch(tmp_path: Path) -> None:
    inputs, targets, class_maps = whole()
    expected = losses_of(inputs, targets, class_maps)
    wanted = torch.autograd.grad(expected.sum(), inputs)
    here = str(Path(__file__).parent)
    runs = [subprocess.Popen([sys.executable, "-c", RUN, here, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close((first[0] + second[0]) / 2, expected.detach())
    for ours, others, both in zip(first[1], second[1], wanted, strict=True):
        # Training in parallel averages gradients over processes.
        torch.testing.assert_close(torch.cat((ours, others)) / 2, both)
