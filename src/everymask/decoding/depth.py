"""From a network's depth to the depth of every pixel of the original image, and of every segment."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from everymask.errors import CheckpointError, OptionError
from everymask.geometry import Geometry
from everymask.segmentation import DepthKind, DepthRange, Region, Segment, Segmentation

SHARPNESS = -0.75  # the a of Keys' kernel; torch and OpenCV have this one, Pillow -0.5


def decode_depth(depth: Tensor, geometry: Geometry) -> NDArray[np.float32]:
    """The depth of every pixel of the original image, (H, W) float32, from ``depth`` (h, w) over the padded input.

    The padding is cropped away and what is left resized once, by cubic convolution with half-pixel centres and without
    a filter against aliasing. Without padding that is ``F.interpolate(mode="bicubic")``, which transformers'
    ``post_process_depth_estimation`` uses. (h, w) may be any size, so the crop may begin and end between two values.
    Like every bicubic resize it overshoots beside steep edges: values a little beyond those of ``depth`` occur.

    ``depth`` may be of any floating dtype (all is computed in float32) and on any device; the result is on the CPU.
    Raises CheckpointError when ``depth`` is not finite.
    """
    finite = torch.isfinite(depth)
    if not finite.all():
        raise CheckpointError(
            f"the network gave {int((~finite).sum())} depths of {depth.numel()} that are not finite: "
            'load it with dtype="float32", and if they stay, its weights are damaged and need to be downloaded again'
        )
    values = depth.detach().float()  # (h, w)
    sizes = zip(geometry.original, geometry.resized, geometry.padded, geometry.offset, values.shape, strict=True)
    rows, columns = (_taps(*size, values.device) for size in sizes)
    # Both passes gather whole rows, which is several times faster than gathering within them.
    wide = _gather(values.T.contiguous(), *columns).T.contiguous()  # (h, W)
    resized: NDArray[np.float32] = _gather(wide, *rows).cpu().numpy()  # (H, W)
    return resized


def with_depth(result: Segmentation, depth: NDArray[np.float32], kind: DepthKind) -> Segmentation:
    """The same result with ``depth`` (H, W) float32 of the original image, and every segment with its depths' range.

    Raises OptionError when ``depth`` is of another size than the result, or not finite.
    """
    if depth.shape != tuple(result.size):
        raise OptionError(
            f"the depth is {depth.shape[1]}x{depth.shape[0]} and the result {result.size.width}x{result.size.height} "
            "pixels: resize it to the image first, as decode_depth does"
        )
    if not np.isfinite(depth).all():
        raise OptionError("the depth holds values that are not finite: replace them, e.g. with numpy.nan_to_num")
    segments = tuple(replace(segment, depth=_measure(segment, depth)) for segment in result.segments)
    return replace(result, segments=segments, depth=depth, depth_kind=kind)


def _measure(segment: Segment, depth: NDArray[np.float32]) -> DepthRange:
    x, y, width, height = segment.box
    window = np.s_[y : y + height, x : x + width]
    pixels = segment.pixels
    mask = pixels.id_map[window] == pixels.id if isinstance(pixels, Region) else segment.mask[window]
    depths = depth[window][mask]  # (area,)
    smallest, largest = float(depths.min()), float(depths.max())
    return DepthRange(float(np.median(depths, overwrite_input=True)), smallest, largest)


def _gather(values: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of four rows each: values (n, m), indices and weights (N, 4) -> (N, m)."""
    return F.embedding_bag(indices, values, per_sample_weights=weights, mode="sum")


def _taps(
    original: int, resized: int, padded: int, offset: int, values: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which four values make each pixel of one axis, and their weights: (original, 4) int64 and float32.

    ``values`` values cover ``padded`` pixels; the image has ``resized`` of these from ``offset`` on. Beyond the values
    that cover any of the image, the outermost is repeated. The weights are those of R. Keys, "Cubic convolution
    interpolation for digital image processing", 1981, before he chooses a.
    """
    first = offset * values // padded
    last = -(-(offset + resized) * values // padded) - 1
    pixel = (2 * np.arange(original) + 1) / (2 * original)  # the centres, 0..1 of the image
    position = (offset + resized * pixel) * values / padded - 0.5
    floor = np.floor(position)
    near = position - floor  # the distance from the value before, 0..1
    far = 1 - near
    a = SHARPNESS
    weights = np.stack(
        [
            a * near * far**2,
            1 - (a + 3) * near**2 + (a + 2) * near**3,
            1 - (a + 3) * far**2 + (a + 2) * far**3,
            a * far * near**2,
        ],
        axis=1,
    )
    indices = (floor.astype(np.int64)[:, None] + np.arange(-1, 3)).clip(first, last)
    return torch.from_numpy(indices).to(device), torch.from_numpy(weights.astype(np.float32)).to(device)
