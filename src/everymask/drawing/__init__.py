"""A segmentation drawn over its image, or its depth in colour; with or without a legend."""

from dataclasses import replace

from PIL import Image

from everymask.drawing.colors import segment_colors
from everymask.drawing.depth import brightness, depth_colors, depth_scale, greys
from everymask.drawing.depth_bar import with_depth_bar
from everymask.drawing.legend import legend_entries, with_legend
from everymask.drawing.overlay import overlay
from everymask.errors import OptionError
from everymask.segmentation import DEPTH_DRAWINGS, DepthDrawing, Legend, Segmentation, depth_of

__all__ = ["draw"]


def draw(result: Segmentation, *, legend: Legend = False, depth: DepthDrawing | None = None) -> Image.Image:
    """The image with every segment filled in its colour and outlined: RGB, the size of the original image.

    With ``legend`` the picture grows to the right or at the bottom by a panel that names the colours, so nothing of
    the image is hidden; the image itself stays at the top left, pixel for pixel. ``legend`` and ``depth`` are described
    at ``Segmentation.draw``.

    Raises OptionError when the drawing shows the image and the result does not carry it, for an unknown ``legend``, and
    for a ``depth`` that the result cannot have.
    """
    if legend not in (False, True, "labels", "segments"):
        raise OptionError(f"a legend cannot be of {legend!r}: choose True, False, labels or segments")
    if depth is not None and depth not in DEPTH_DRAWINGS:
        raise OptionError(f"depth cannot be drawn as {depth!r}: choose from {', '.join(DEPTH_DRAWINGS)}")
    if depth == "map" or (depth is None and result.task == "depth"):
        return _draw_map(result, legend=bool(legend))
    if depth is not None and result.task == "depth":
        raise OptionError(f'a result of depth alone has no segments to {depth}: draw it with depth="map"')
    if result.image is None:
        raise OptionError(
            "this result has no image to draw on; keep it when building the result: "
            "dataclasses.replace(result, image=array) with the (H, W, 3) uint8 picture"
        )
    colors = segment_colors(result)
    if depth == "shade":
        values, kind = depth_of(result, 'drawing with depth="shade"')
        scale = depth_scale(values, kind)
        picture = Image.fromarray(overlay(result, result.image, colors, brightness(values, scale)))
        if not legend:
            return picture
        return with_legend(with_depth_bar(picture, scale, greys()), legend_entries(result, colors, legend))
    drawn = _nearest_first(result) if depth == "order" else result
    picture = Image.fromarray(overlay(drawn, result.image, colors))
    return with_legend(picture, legend_entries(result, colors, legend)) if legend else picture


def _draw_map(result: Segmentation, *, legend: bool) -> Image.Image:
    values, kind = depth_of(result, 'drawing with depth="map"')
    scale, colors = depth_scale(values, kind), depth_colors()
    picture = Image.fromarray(colors[brightness(values, scale)])
    return with_depth_bar(picture, scale, colors) if legend else picture


def _nearest_first(result: Segmentation) -> Segmentation:
    """The result with its segments by their median depth."""
    _, kind = depth_of(result, 'drawing with depth="order"')
    if result.id_map is not None:
        raise OptionError(
            f"the segments of a {result.task} result do not overlap, so none can be on top: "
            'draw it with depth="shade", or take the task instance'
        )
    median = {each.id: each.depth.median for each in result.segments if each.depth is not None}
    segments = sorted(result.segments, key=lambda each: median[each.id], reverse=kind == "relative")
    return replace(result, segments=tuple(segments))
