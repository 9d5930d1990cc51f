"""The depth-estimation pipeline: a Segmenter's depth as transformers' dictionary."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image

from everymask.compat.transformers.pipelines.base import Pipeline, results
from everymask.compat.transformers.pipelines.inputs import Answers, Source
from everymask.errors import OptionError
from everymask.segmentation import Segmentation, depth_of
from everymask.segmenter import Segmenter


class Depth(TypedDict):
    """``predicted_depth`` (H, W) float32, and the same as a grey picture, the least 0 and the most 255."""

    predicted_depth: torch.Tensor
    depth: Image.Image


@dataclass(frozen=True, slots=True)
class DepthOptions:
    """What a call may say. ``timeout``: seconds for a URL; None means 30."""

    timeout: float | None = None


class DepthEstimationPipeline(Pipeline[DepthOptions, Depth]):
    """Estimates depth as transformers' pipeline of the same name does; made by ``pipeline("depth-estimation")``.

    ``options``: those of a call, which hold where a call does not say otherwise.
    Raises OptionError for a model without depth.
    """

    task = "depth-estimation"

    def __init__(
        self, model: Segmenter, *, num_workers: int | None = None, batch_size: int | None = None, **options: Any
    ) -> None:
        super().__init__(model, DepthOptions(), _flat(options), num_workers=num_workers, batch_size=batch_size)
        if model.depth_kind is None:
            raise OptionError(f'{model.name} gives no depth: use pipeline("image-segmentation")')

    def __call__(
        self, inputs: Any = None, *, num_workers: int | None = None, batch_size: int | None = None, **options: Any
    ) -> Depth | list[Depth] | Answers[Depth]:
        """The depth of one image, or of several: a list for a list, Answers for a data set or generator.

        ``inputs`` (also named ``images``): a URL, path, base64 string or PIL image, or many of them. ``timeout``:
        seconds for a URL, None means 30; ``parameters``, a dictionary, may say it, too. ``batch_size``,
        ``num_workers`` and errors are as of ``ImageSegmentationPipeline``.
        """
        if "images" in options:
            inputs = options.pop("images")
        return self._call(inputs, num_workers, batch_size, _flat(options))

    def _answer(self, image: Source, options: DepthOptions) -> Depth:
        return _depth(self.model(image))

    def _answer_all(self, images: Iterable[Any], options: DepthOptions, batch_size: int) -> Iterator[Depth]:
        return map(_depth, results(self.model, images, options.timeout, batch_size=batch_size))


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` with what their ``parameters`` say in the place of these."""
    others = {name: value for name, value in options.items() if name != "parameters"}
    return {**others, **(options.get("parameters") or {})}


def _depth(result: Segmentation) -> Depth:
    depth, _ = depth_of(result, "the depth-estimation pipeline")
    least, most = depth.min(), depth.max()
    grey = (depth - least) / np.maximum(most - least, np.finfo(np.float32).tiny)
    return {"predicted_depth": torch.from_numpy(depth), "depth": Image.fromarray((grey * 255).astype(np.uint8))}
