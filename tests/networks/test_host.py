"""A GPU and the host do not wait for each other inside a network: nothing is asked, and nothing is copied."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from everymask.networks.eomt import EoMT
from everymask.networks.layers.deformable_attention import Pyramid
from everymask.networks.oneformer import OneFormer
from everymask.networks.selective import SelectiveNetwork
from networks.test_invariants import CASES, Case

META = torch.device("meta")
RECORDED = [case for case in CASES if not isinstance(case.build()[0], SelectiveNetwork)]
FROM_LISTS = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor)


class NothingFromTheHost(TorchFunctionMode):
    """Fails where a tensor on the CPU takes part, or one is made of Python's numbers.

    On the meta device, whose tensors have no values, to ask for a value fails by itself.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        assert func not in FROM_LISTS, f"{func.__name__} copies from the host"
        for each in tree_leaves((args, kwargs, result)):
            assert not isinstance(each, Tensor) or each.device == META, f"{func} has a tensor on the host"
        return result


def forward(network: nn.Module) -> None:
    """One pass on the meta device; hooks, which stand for a caller, are left out."""
    tokens = {"task_tokens": torch.zeros(1, 77, dtype=torch.int64, device=META)}
    pixel_values = torch.zeros(1, 3, 96, 75, device=META)
    with torch.inference_mode(), NothingFromTheHost():
        network.forward(pixel_values, **(tokens if isinstance(network, OneFormer) else {}))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_a_forward_neither_asks_the_device_nor_copies_to_it(case: Case) -> None:
    network, _ = case.build()
    forward(network.eval().to(META))


@pytest.mark.parametrize(
    "layer",
    [
        lambda each: each * torch.tensor([1.0, 2.0], device=each.device),
        lambda each: each[torch.arange(2)],
        lambda each: each[each > 0],
        lambda each: each.tolist(),
        lambda each: each if each.sum() > 0 else -each,
    ],
    ids=["list", "index", "mask", "values", "branch"],
)
def test_what_would_wait_is_noticed(layer: Callable[[Tensor], Any]) -> None:
    with pytest.raises((AssertionError, RuntimeError)), NothingFromTheHost():
        layer(torch.zeros(2, device=META))


def test_sizes_of_a_pyramid_are_what_was_given() -> None:
    pyramid = Pyramid.of([(3, 4), (2, 1)], torch.device("cpu"))
    assert (pyramid.heights.tolist(), pyramid.widths.tolist(), pyramid.starts.tolist()) == ([3, 2], [4, 1], [0, 12])
    assert pyramid.heights.dtype == pyramid.widths.dtype == pyramid.starts.dtype == torch.int64


def test_eomt_knows_on_the_host_where_it_is_held_to_masks() -> None:
    """Whoever writes the probabilities: a caller, a state dict, or anybody before the next call of eval."""
    network, _ = next(case for case in CASES if case.name == "eomt-dinov2").build()
    assert isinstance(network, EoMT)
    pixel_values = torch.randn(1, 3, 64, 64)

    def masks(of: nn.Module) -> Tensor:
        with torch.inference_mode():
            found: Tensor = of(pixel_values).mask_logits
        return found

    network.eval().set_mask_probabilities([0.0, 0.0])
    plain = masks(network)
    with_masks = {**network.state_dict(), "mask_probabilities": torch.ones(2)}
    network.load_state_dict(with_masks)
    held = masks(network)
    assert not torch.equal(plain, held)
    network.mask_probabilities.zero_()
    assert torch.equal(masks(network.eval()), plain)
    for assign in (False, True):
        network.load_state_dict(with_masks, assign=assign)
        assert torch.equal(masks(network), held)
        network.set_mask_probabilities([0.49, 0.49])
        assert torch.equal(masks(network), plain)
