"""What the machine can do at best: torch's own matrix products and convolutions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch.nn import functional as F

from everymask.devices import dtype_name

# Sides of square products: which is fastest depends on the caches, so the best of them counts.
_SIDES = (1024, 1536, 2048, 3072)
_YARDSTICK_SIDE = 1536
_CHANNELS, _MAP_SIDE = 256, 128
_SECONDS = 0.5  # spent on each figure, at least


@dataclass(frozen=True, slots=True)
class Ceiling:
    """GFLOP/s by number type: ``products`` of the best square matrix product, ``convolutions`` of a 3 x 3 one of 256
    channels, which torch has none of in int8. A multiplication and an addition are two operations.
    """

    products: dict[str, float]
    convolutions: dict[str, float]


def measure_ceiling(device: torch.device, dtypes: Iterable[torch.dtype]) -> Ceiling:
    """Takes a few seconds; the best of several calls counts, since whatever disturbs a call can only slow it."""
    products, convolutions = {}, {}
    for dtype in dtypes:
        name = dtype_name(dtype)
        products[name] = max(_product_rate(side, device, dtype) for side in _SIDES)
        if dtype.is_floating_point:
            convolutions[name] = _convolution_rate(device, dtype)
    return Ceiling(products, convolutions)


def yardstick(device: torch.device) -> Callable[[], object]:
    """A float32 matrix product of 7.2 GFLOP: the machine's own measure of time, for ratios that travel."""
    return _product(_YARDSTICK_SIDE, device, torch.float32)


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has done what it was told; the CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _product(side: int, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    left, right, out = (torch.randn(side, side, device=device).to(dtype) for _ in range(3))  # (side, side)

    def multiply() -> None:
        if dtype == torch.int8:
            torch._int_mm(left, right)  # mm would sum in int8; the sums of int8 networks are int32
        else:
            torch.mm(left, right, out=out)
        synchronize(device)

    return multiply


def _product_rate(side: int, device: torch.device, dtype: torch.dtype) -> float:
    return 2 * side**3 / _best_seconds(_product(side, device, dtype)) / 1e9


def _convolution_rate(device: torch.device, dtype: torch.dtype) -> float:
    image = torch.randn(1, _CHANNELS, _MAP_SIDE, _MAP_SIDE, device=device).to(dtype)
    weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3, device=device).to(dtype)
    image, weight = (each.to(memory_format=torch.channels_last) for each in (image, weight))

    def convolve() -> None:
        F.conv2d(image, weight, padding=1)
        synchronize(device)

    return 2 * 9 * _CHANNELS**2 * _MAP_SIDE**2 / _best_seconds(convolve) / 1e9


def _best_seconds(function: Callable[[], object]) -> float:
    function()
    best, end = float("inf"), perf_counter() + _SECONDS
    with torch.inference_mode():
        while (start := perf_counter()) < end:
            function()
            best = min(best, perf_counter() - start)
    return best
