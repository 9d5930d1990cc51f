"""The image processors of transformers, as the reference of post-processing, and random queries to give both."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.detr.modeling_detr import DetrSegmentationOutput
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil
from transformers.models.eomt.modeling_eomt import EomtForUniversalSegmentationOutput
from transformers.models.eomt_dinov3.modeling_eomt_dinov3 import EomtDinov3ForUniversalSegmentationOutput
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentationOutput
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil
from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentationOutput
from transformers.models.oneformer import image_processing_pil_oneformer
from transformers.models.oneformer.modeling_oneformer import OneFormerForUniversalSegmentationOutput
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from everymask.networks.outputs import MaskQueries

CANVAS = {"shortest_edge": 24, "longest_edge": 32}


@dataclass(frozen=True)
class Official:
    """A family in transformers: what its networks return and its image processor."""

    output: Any
    processor: Any

    def outputs(self, queries: MaskQueries) -> Any:
        if self.output is DetrSegmentationOutput:
            return DetrSegmentationOutput(logits=queries.class_logits, pred_masks=queries.mask_logits)
        return self.output(class_queries_logits=queries.class_logits, masks_queries_logits=queries.mask_logits)


OFFICIAL = {
    "detr": Official(DetrSegmentationOutput, DetrImageProcessorPil()),
    "eomt": Official(EomtForUniversalSegmentationOutput, EomtImageProcessorPil(size=CANVAS)),
    "eomt_dinov3": Official(EomtDinov3ForUniversalSegmentationOutput, EomtImageProcessorPil(size=CANVAS)),
    "mask2former": Official(Mask2FormerForUniversalSegmentationOutput, Mask2FormerImageProcessorPil()),
    "maskformer": Official(MaskFormerForInstanceSegmentationOutput, MaskFormerImageProcessorPil()),
    "oneformer": Official(
        OneFormerForUniversalSegmentationOutput,
        image_processing_pil_oneformer.OneFormerImageProcessorPil(class_info_file="", repo_path=""),
    ),
}
EOMT = ("eomt", "eomt_dinov3")
OTHERS = tuple(name for name in OFFICIAL if name not in EOMT)
PIXELS = [BeitImageProcessorPil(), DPTImageProcessorPil(), SegformerImageProcessorPil()]


@pytest.fixture(autouse=True, scope="module")
def torchvision() -> Iterator[None]:
    """OneFormer's processor resizes with torchvision even where it prepares images without it; this does the same."""

    def smooth_resize(values: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
        assert interpolation == "bilinear"
        resized = F.interpolate(values.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
        return resized.to(values.dtype)

    stand_in = SimpleNamespace(resize=smooth_resize, InterpolationMode=SimpleNamespace(BILINEAR="bilinear"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_processing_pil_oneformer, "tvF", stand_in, raising=False)
        yield


@dataclass(frozen=True)
class Case:
    """Random queries of a batch and the sizes wanted of its images."""

    queries: MaskQueries
    target_sizes: list[tuple[int, int]] | None
    classes: int


@st.composite
def cases(draw: Any, families: tuple[str, ...], sized: bool = False) -> tuple[str, Case]:
    family = draw(st.sampled_from(families))
    torch.manual_seed(draw(st.integers(0, 10_000)))
    images, queries, classes = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 4))
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    sharpness = draw(st.sampled_from([0.5, 4.0]))
    class_logits = sharpness * torch.randn(images, queries, classes + 1)
    masks = F.interpolate(3 * torch.randn(images, queries, 3, 3), size=(height, width), mode="bilinear")
    if draw(st.booleans()):  # ties, on the borders of masks and between queries
        masks, class_logits = masks.round(), class_logits.round()
    sizes = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=images, max_size=images)
    return family, Case(MaskQueries(class_logits, masks), draw(sizes if sized else st.none() | sizes), classes)


def clear_queries(images: int) -> MaskQueries:
    """40 queries an image with round masks, and scores on both sides of the usual thresholds: many are segments."""
    torch.manual_seed(0)
    centre, radius = torch.rand(images, 40, 2, 1, 1), 0.1 + 0.1 * torch.rand(images, 40, 1, 1)
    ticks = torch.linspace(0, 1, 30)
    distance = ((centre[:, :, 0] - ticks[:, None]) ** 2 + (centre[:, :, 1] - ticks) ** 2).sqrt()  # (B, Q, 30, 30)
    return MaskQueries(4 * torch.randn(images, 40, 5), 40 * (radius - distance))
