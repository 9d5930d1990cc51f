"""CUDA graphs: a network's kernels are recorded once for a size of input, then launched with one call.

A small network on a GPU is bound by the host, which launches thousands of kernels one by one. A recording takes that
time away. It holds for one size of input, and needs memory of its own.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from everymask.engines.engine import EngineName, Inputs, run_network
from everymask.engines.flat import flatten, unflatten
from everymask.errors import OptionError
from everymask.networks.outputs import Output
from everymask.networks.selective import SelectiveNetwork

_SIZES = 8  # recordings that are kept; the one that was not used for longest goes first
_WARM_UP = 2  # runs before a recording: libraries choose their kernels and allocate in the first ones

Run = Callable[[], dict[str, Tensor]]
"""Runs a network on tensors that stay where they are."""

Record = Callable[[Run], tuple[Callable[[], None], dict[str, Tensor]]]
"""From a run to what repeats it and the tensors that every repetition writes. Raises RuntimeError if it cannot."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """``pixel_values`` and ``task_tokens``: what ``replay`` reads; ``output``: what it writes."""

    pixel_values: Tensor
    task_tokens: Tensor | None
    replay: Callable[[], None]
    output: dict[str, Tensor]


class GraphsEngine:
    """Runs ``network`` on a GPU, with a recording for every size of input that comes a second time.

    A network whose work depends on its own intermediate results (``SelectiveNetwork``) runs as torch runs it, and so
    does one that cannot be recorded, which a RuntimeWarning tells. Calls from several threads take turns.
    """

    name: EngineName = "graphs"

    def __init__(
        self, network: nn.Module, device: torch.device, dtype: torch.dtype, *, record: Record | None = None
    ) -> None:
        """``record`` is for tests; None records a CUDA graph. Raises OptionError where the device is no CUDA GPU."""
        if record is None and device.type != "cuda":
            raise OptionError(f"engine 'graphs' needs a CUDA GPU and the device is {device}: choose engine 'eager'")
        network = network.to(device, dtype).eval()
        self.network = convert_conv2d_weight_memory_format(network, torch.channels_last)
        self.device = device
        self.dtype = dtype
        self._record = record or CudaRecorder(device)
        self._recordable = not isinstance(network, SelectiveNetwork)
        # None for a size that came once.
        self._sizes: OrderedDict[tuple[torch.Size, torch.Size | None], _Recording | None] = OrderedDict()
        self._lock = Lock()

    def __call__(self, inputs: Inputs) -> Output:
        with torch.inference_mode(), self._lock:
            recording = self._recording(inputs) if self._recordable else None
            if recording is None:
                return run_network(self.network, inputs, self.device, self.dtype)
            recording.pixel_values.copy_(inputs.pixel_values, non_blocking=True)
            if recording.task_tokens is not None and inputs.task_tokens is not None:
                recording.task_tokens.copy_(inputs.task_tokens, non_blocking=True)
            recording.replay()
            # The next replay writes over the recording's own.
            return unflatten({name: tensor.clone() for name, tensor in recording.output.items()})

    def _recording(self, inputs: Inputs) -> _Recording | None:
        """The recording for this size of inputs; None where the size is new or the network cannot be recorded."""
        size = inputs.pixel_values.shape, None if inputs.task_tokens is None else inputs.task_tokens.shape
        recording = (self._sizes[size] or self._recorded(inputs)) if size in self._sizes else None
        if self._recordable:
            self._sizes[size] = recording
            self._sizes.move_to_end(size)
            if len(self._sizes) > _SIZES:
                self._sizes.popitem(last=False)
        return recording

    def _recorded(self, inputs: Inputs) -> _Recording | None:
        """A new recording; None, and no further attempt, where the network cannot be recorded."""
        # Copies even of what is on the device already: the caller's tensors will not stay.
        pixel_values = torch.empty(inputs.pixel_values.shape, dtype=self.dtype, device=self.device)
        pixel_values.copy_(inputs.pixel_values)
        tokens = None if inputs.task_tokens is None else inputs.task_tokens.to(self.device, copy=True)
        fixed = Inputs(pixel_values, tokens)
        try:
            replay, output = self._record(lambda: flatten(run_network(self.network, fixed, self.device, self.dtype)))
        except RuntimeError as error:
            self._recordable = False
            self._sizes.clear()
            warnings.warn(
                f"{type(self.network).__name__} cannot be recorded as a CUDA graph and runs without, as with engine "
                f"'eager': {str(error).splitlines()[0]}",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return _Recording(pixel_values, tokens, replay, output)


class CudaRecorder:
    """Records CUDA graphs that share their memory: one runs after another, whose output was copied before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> tuple[Callable[[], None], dict[str, Tensor]]:
        with torch.cuda.device(self._device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    run()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                output = run()
        return graph.replay, output
