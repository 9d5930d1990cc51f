"""Arrays and tensors of numbers as images of eight bits."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import ImageError

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def is_tensor(source: object) -> bool:
    """Whether ``source`` is a torch tensor; imports nothing, for where torch was never imported none can exist."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def from_tensor(tensor: Any) -> NDArray[np.uint8]:
    """A torch tensor as ``from_array`` returns it.

    The tensor is (H, W), (C, H, W) or (H, W, C) with C in 1, 3, 4: the axis at the end that has a channel count is the
    channels. Raises ImageError where both ends have one or neither has, and as ``from_array``.
    """
    name = f"the tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}"
    if tensor.ndim == 3:
        first, last = tensor.shape[0] in CHANNELS, tensor.shape[2] in CHANNELS
        if first and last:
            raise ImageError(
                f"{name} may be (C, H, W) or (H, W, C); pass an array, which is read as (H, W, C): "
                "tensor.permute(1, 2, 0).numpy() or tensor.numpy()"
            )
        if first:
            tensor = tensor.permute(1, 2, 0)  # (H, W, C)
    if tensor.ndim == 4:
        raise ImageError(f"{name} looks like a batch; pass its images one by one: tensor[0], tensor[1], ...")
    try:
        tensor = tensor.detach().cpu()
        # numpy has no bfloat16; widening the small types is exact.
        widen = tensor.is_floating_point() and tensor.dtype.itemsize < 4
        array = (tensor.float() if widen else tensor).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ImageError(f"{name} has no numpy form ({error}); pass a dense uint8 tensor") from error
    return from_array(array, name)


def from_array(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """An array as (H, W), (H, W, 3) or (H, W, 4) uint8; ``name`` is what errors call it.

    Shapes: (H, W), (H, W, 1), (H, W, 3), (H, W, 4). Types: uint8 as it is; uint16 by its high byte (``high_byte``);
    floats in 0..1, rounded to the nearest of 0..255; bool as 0 and 255.

    Raises ImageError for any other shape or type, an empty array, and floats that are not in 0..1.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in CHANNELS):
        raise ImageError(
            f"{name} is no image: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); move the axes, e.g. "
            "array.transpose(1, 2, 0) for (C, H, W), or pick three channels"
        )
    if 0 in array.shape:
        raise ImageError(f"{name} has no pixels; pass at least one row and one column")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return high_byte(array)
    if array.dtype.kind == "f":
        return unit_floats(array, name)
    raise ImageError(
        f"{name}: only uint8, uint16, floats in 0..1 and bool have a stated range; convert, e.g. array.astype('uint8') "
        "where the values are 0..255"
    )


def high_byte(array: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit values 0..65535 as 0..255: equal bins of 256 values.

    Pillow reads 16-bit RGB files so; with the same rule here a file and its array agree. It inverts both ways
    of widening 8 bits to 16 (times 256 and times 257).
    """
    return (array >> 8).astype(np.uint8)


def unit_floats(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Floats in 0..1 as the nearest of 0..255. Raises ImageError for values outside and NaN."""
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise ImageError(
            f"{name} holds floats from {low:g} to {high:g}, expected 0..1; divide 0..255 by 255, clip what overshoots, "
            "and replace NaN, e.g. numpy.nan_to_num"
        )
    scaled: NDArray[np.float32] = array.astype(np.float32) * np.float32(255)
    return np.rint(scaled, out=scaled).astype(np.uint8)
