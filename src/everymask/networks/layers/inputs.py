"""What every network asks of its input."""

from torch import Tensor


def check_pixel_values(pixel_values: Tensor, channels: int) -> None:
    """Raises ValueError, naming the cure, unless ``pixel_values`` is (B, channels, H, W) of floating-point numbers."""
    if pixel_values.dim() != 4 or pixel_values.shape[1] != channels or not pixel_values.is_floating_point():
        found = f"{tuple(pixel_values.shape)} {str(pixel_values.dtype).removeprefix('torch.')}"
        raise ValueError(
            f"pixel_values is {found}: give (B, {channels}, H, W) floating-point numbers, resized and normalised as "
            "the checkpoint was trained; Segmenter.prepare makes them from an image"
        )
