"""CUDA graphs, with a recorder that repeats a run on the CPU: what is kept, copied and fallen back from."""

import warnings
from collections.abc import Callable
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from everymask.engines.engine import Inputs
from everymask.engines.graphs import GraphsEngine, Run
from everymask.errors import OptionError
from everymask.networks.outputs import DepthMap, MaskQueries, Output, PixelLogits, PixelsAndDepth
from everymask.networks.selective import Keep, SelectiveNetwork

CPU, FLOAT = torch.device("cpu"), torch.float32


class Recorder:
    """As CUDA graphs do, a recording reads and writes always the same tensors."""

    def __init__(self) -> None:
        self.recorded = 0
        self.replayed = 0

    def __call__(self, run: Run) -> tuple[Callable[[], None], dict[str, Tensor]]:
        self.recorded += 1
        fixed = {name: tensor.clone() for name, tensor in run().items()}

        def replay() -> None:
            self.replayed += 1
            for name, tensor in run().items():
                fixed[name].copy_(tensor)

        return replay, fixed


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, stride=2)

    def forward(self, pixel_values: Tensor) -> PixelsAndDepth:
        found = self.conv(pixel_values)
        return PixelsAndDepth(PixelLogits(found), DepthMap(found.sum(1)))


class Told(nn.Module):
    def forward(self, pixel_values: Tensor, task_tokens: Tensor) -> PixelLogits:
        return PixelLogits(pixel_values * task_tokens.sum())


class Selective(SelectiveNetwork):
    def forward(self, pixel_values: Tensor, keep: Keep | None = None) -> MaskQueries:
        classes = pixel_values.mean((2, 3))[:, None]  # (B, 1, 3)
        assert keep is None or keep(classes).any()
        return MaskQueries(classes, pixel_values[:, :1])


def test_a_recording_gives_what_the_network_gives_and_keeps_results_apart() -> None:
    torch.manual_seed(0)
    network, recorder = Scores(), Recorder()
    engine = GraphsEngine(network, CPU, FLOAT, record=recorder)
    images = [torch.randn(2, 3, 9, 9) for _ in range(4)]
    found = [engine(Inputs(image)) for image in images]  # together: the last must not write over the first
    with torch.inference_mode():
        for image, output in zip(images, found, strict=True):
            expected = network(image)
            assert isinstance(output, PixelsAndDepth)
            torch.testing.assert_close(output.pixels.logits, expected.pixels.logits)
            torch.testing.assert_close(output.depth.depth, expected.depth.depth)
    assert (recorder.recorded, recorder.replayed) == (1, 3)  # the first came once: nothing is recorded for it


def test_the_tokens_of_a_task_are_brought_to_the_recording() -> None:
    engine = GraphsEngine(Told(), CPU, FLOAT, record=Recorder())
    pixels = torch.ones(1, 3, 2, 2)
    for task in (1, 2, 3, 5):
        output = engine(Inputs(pixels, torch.tensor([[task]])))
        assert isinstance(output, PixelLogits)
        assert (output.logits == task).all()


def test_threads_take_turns() -> None:
    """What another thread brings comes into a recording when the former result is out."""
    outputs: dict[int, Output] = {}

    def run(value: int) -> None:
        outputs[value] = engine(Inputs(torch.full((1, 3, 2, 2), float(value)), torch.tensor([[1]])))

    def record(run_network: Run) -> tuple[Callable[[], None], dict[str, Tensor]]:
        replay, fixed = Recorder()(run_network)

        def replay_while_another_comes() -> None:
            if 4 not in outputs and not other.is_alive():
                other.start()
                other.join(0.2)  # long enough to do harm, if it were let in
            replay()

        return replay_while_another_comes, fixed

    engine, other = GraphsEngine(Told(), CPU, FLOAT, record=record), Thread(target=run, args=(4,))
    for value in (1, 2):
        run(value)
    other.join()
    for value, output in outputs.items():
        assert isinstance(output, PixelLogits)
        assert (output.logits == value).all()
    assert list(outputs) == [1, 2, 4]


def test_sizes_that_come_once_are_not_recorded_and_few_are_kept() -> None:
    recorder = Recorder()
    engine = GraphsEngine(Scores(), CPU, FLOAT, record=recorder)
    for width in range(4, 24):
        engine(Inputs(torch.zeros(1, 3, 4, width)))
    assert recorder.recorded == 0
    for width in (23, 22, 23):  # among the last eight
        engine(Inputs(torch.zeros(1, 3, 4, width)))
    assert (recorder.recorded, recorder.replayed) == (2, 3)
    for width in range(30, 37):
        engine(Inputs(torch.zeros(1, 3, 4, width)))
    engine(Inputs(torch.zeros(1, 3, 4, 23)))  # used after 22, and still there
    engine(Inputs(torch.zeros(1, 3, 4, 22)))  # forgotten: comes for the first time again
    assert (recorder.recorded, recorder.replayed) == (2, 4)


def test_what_cannot_be_recorded_runs_without_and_says_so_once() -> None:
    attempts = 0

    def refuse(run: Run) -> tuple[Callable[[], None], dict[str, Tensor]]:
        nonlocal attempts
        attempts += 1
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    network = Scores()
    engine = GraphsEngine(network, CPU, FLOAT, record=refuse)
    image = torch.randn(1, 3, 9, 9)
    engine(Inputs(image))
    with pytest.warns(RuntimeWarning, match="Scores cannot be recorded as a CUDA graph .* not permitted"):
        output = engine(Inputs(image))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            engine(Inputs(image))
    assert attempts == 1
    assert isinstance(output, PixelsAndDepth)
    torch.testing.assert_close(output.pixels.logits, network(image).pixels.logits)


def test_a_network_that_leaves_out_masks_is_never_recorded() -> None:
    recorder = Recorder()
    engine = GraphsEngine(Selective(), CPU, FLOAT, record=recorder)
    for _ in range(3):
        engine(Inputs(torch.ones(1, 3, 2, 2), keep=lambda classes: classes[..., 0] > 0))
    assert recorder.recorded == 0


def test_another_device_is_refused() -> None:
    with pytest.raises(OptionError, match="'graphs' needs a CUDA GPU and the device is cpu"):
        GraphsEngine(Scores(), CPU, FLOAT)
