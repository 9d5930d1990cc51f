"""The loss of every family in one form: from a network's output and a batch to what is minimised."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from everymask.errors import DataError, OptionError
from everymask.networks.depth_anything import DepthAnything
from everymask.networks.detr import BoxedQueries
from everymask.networks.oneformer import OneFormer, TaskQueries, TextMapper
from everymask.networks.outputs import DepthMap, MaskQueries, Output, PixelLogits
from everymask.segmentation import DepthKind
from everymask.training.batch import Batch
from everymask.training.contrastive import contrastive_loss
from everymask.training.criterion import PointSampling, set_prediction_loss
from everymask.training.depth_loss import (
    MetricDepthLoss,
    RelativeDepthLoss,
    metric_depth_loss,
    relative_depth_loss,
)
from everymask.training.matcher import LossWeights
from everymask.training.pixel_loss import HardPixels, PixelLossConfig, pixel_loss
from everymask.training.semantic_loss import semantic_reading_loss

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MaskLossConfig:
    """How a mask classification network learns; the defaults are Mask2Former's (section 4.1).

    ``sampling``: None compares masks at every pixel, with the focal loss. ``contrastive``: what OneFormer's
    contrastive loss counts; only a network with a text mapper has one. ``semantic``: what the loss of the semantic
    reading counts (``semantic_loss``), which no published recipe has and which helps where images are few; how it is
    made is said by the ``pixels`` of ``LossConfig``.
    """

    weights: LossWeights = field(default_factory=LossWeights)
    sampling: PointSampling | None = field(default_factory=PointSampling)
    contrastive: float = 0.0
    semantic: float = 0.0


@dataclass(frozen=True, slots=True)
class LossConfig:
    """How a network learns: what its output is compared with, and how; None for what it does not give."""

    masks: MaskLossConfig | None = None
    pixels: PixelLossConfig | None = None
    relative_depth: RelativeDepthLoss | None = None
    metric_depth: MetricDepthLoss | None = None

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "LossConfig":
        """The inverse of ``dataclasses.asdict``, also after a way through JSON.

        Raises OptionError for a setting that does not exist.
        """
        try:
            kinds = dict(settings)
            if kinds.get("masks") is not None:
                masks = dict(kinds["masks"])
                if masks.get("sampling") is not None:
                    masks["sampling"] = PointSampling(**masks["sampling"])
                if "weights" in masks:
                    masks["weights"] = LossWeights(**masks["weights"])
                kinds["masks"] = MaskLossConfig(**masks)
            if kinds.get("pixels") is not None:
                pixels = dict(kinds["pixels"])
                if pixels.get("hard_pixels") is not None:
                    pixels["hard_pixels"] = HardPixels(**pixels["hard_pixels"])
                if pixels.get("class_weights") is not None:
                    pixels["class_weights"] = tuple(map(float, pixels["class_weights"]))
                kinds["pixels"] = PixelLossConfig(**pixels)
            if kinds.get("relative_depth") is not None:
                kinds["relative_depth"] = RelativeDepthLoss(**kinds["relative_depth"])
            if kinds.get("metric_depth") is not None:
                kinds["metric_depth"] = MetricDepthLoss(**kinds["metric_depth"])
            return cls(**kinds)
        except (TypeError, ValueError) as error:
            raise OptionError(f"the loss cannot be set like this: {error}; correct or remove the setting") from error


MASK2FORMER = LossConfig(masks=MaskLossConfig())
PIXELS = LossConfig(pixels=PixelLossConfig())
PUBLISHED: Mapping[str, LossConfig] = {
    "detr": LossConfig(masks=MaskLossConfig(LossWeights(1, 1, 1, 0.1, l1=5, giou=2), sampling=None)),
    "maskformer": LossConfig(masks=MaskLossConfig(LossWeights(1, 20, 1), sampling=None)),
    "mask2former": MASK2FORMER,
    "oneformer": LossConfig(masks=MaskLossConfig(contrastive=0.5)),
    "eomt": MASK2FORMER,
    "eomt_dinov3": MASK2FORMER,
    "vit_adapter": MASK2FORMER,
    "segformer": PIXELS,
    "upernet": PIXELS,
    "beit": PIXELS,
    "dpt": LossConfig(pixels=PixelLossConfig(), relative_depth=RelativeDepthLoss()),
    "depth_anything": LossConfig(relative_depth=RelativeDepthLoss()),
}
"""The published loss of every model_type: the weights of DETR (appendix A.4; focal and dice loss: section 4.2),
MaskFormer (section 4.1 and its code), Mask2Former (section 4.1), OneFormer (section 4.1), EoMT (appendix A) and
ViT-Adapter (its Mask2Former configurations); 0.4 for the auxiliary heads of UPerNet, BEiT and DPT; the depth loss of
MiDaS, which DPT keeps."""


def published_loss(model_type: str, depth_kind: DepthKind | None = None) -> LossConfig:
    """How networks of a model_type were trained; those that tell metres with the loss of Depth Anything V2's.

    Raises OptionError for a model_type that is not supported.
    """
    if model_type not in PUBLISHED:
        raise OptionError(f"no loss is known for the model_type {model_type!r}; choose one of {', '.join(PUBLISHED)}")
    config = PUBLISHED[model_type]
    if depth_kind == "metric":
        config = replace(config, relative_depth=None, metric_depth=MetricDepthLoss())
    return config


@dataclass(frozen=True, slots=True)
class LossParts:
    """``total``, a scalar with gradients, and the weighted parts it is the sum of, scalars without, by their names."""

    total: Tensor
    parts: dict[str, Tensor]


def predict(network: nn.Module, batch: Batch) -> Output:
    """What a network gives for a batch; OneFormer, alone or wrapped, is told the tasks of its images, too."""
    inputs = () if batch.task_tokens is None else (batch.task_tokens,)
    output: Output = network(batch.pixel_values, *inputs)
    return output


def loss_for(network: nn.Module, config: LossConfig) -> Callable[[Output, Batch], LossParts]:
    """The loss of a network, which must be the bare one, not a wrapper: a function of its output and the batch.

    The output is that of training mode. A network with two heads learns from what the batch has. Everything is computed
    in float32, also where the forward pass was not. Where several processes train together, all must call the loss
    equally often. Metres beyond the largest depth that a network can tell count as unknown, as Depth Anything V2 has it
    (metric_depth/train.py).

    The function raises OptionError where ``config`` lacks what the output asks for, and DataError where the batch does
    or has a class that the network does not know.
    """
    text_mapper = network.text_mapper if isinstance(network, OneFormer) else None
    farthest = network.head.max_depth if isinstance(network, DepthAnything) else None

    def loss(output: Output, batch: Batch) -> LossParts:
        with torch.autocast(batch.pixel_values.device.type, enabled=False):
            parts: dict[str, Tensor] = {}
            if isinstance(output, MaskQueries):
                parts |= _mask_parts(output, batch, config)
                if isinstance(output, TaskQueries) and text_mapper is not None:
                    parts |= _contrastive_part(output, batch, text_mapper, config.masks)
            elif isinstance(output, PixelLogits):
                parts |= _pixel_parts(output, batch, config.pixels)
            elif isinstance(output, DepthMap):
                parts |= _depth_part(output, batch, config, farthest)
            else:
                if batch.class_maps is not None or batch.depth is None:
                    parts |= _pixel_parts(output.pixels, batch, config.pixels)
                if batch.depth is not None:
                    parts |= _depth_part(output.depth, batch, config, farthest)
            total = torch.stack(list(parts.values())).sum()
        return LossParts(total, {name: each.detach() for name, each in parts.items()})

    return loss


def _mask_parts(output: MaskQueries, batch: Batch, losses_wanted: LossConfig) -> dict[str, Tensor]:
    config, targets = _wanted("masks", losses_wanted.masks), _given("targets", batch.targets)
    weights = config.weights
    if weights.boxes and not isinstance(output, BoxedQueries):
        raise OptionError("the loss has weights for boxes, which this network does not predict; set l1 and giou to 0")
    _check_classes(torch.cat([each.labels for each in targets]), output.class_logits.shape[-1] - 1)
    losses = set_prediction_loss(output, targets, weights, config.sampling)
    parts = {
        "class": weights.classification * losses.classification,
        "mask": weights.mask * losses.mask,
        "dice": weights.dice * losses.dice,
    }
    if weights.boxes:
        parts |= {"box L1": weights.l1 * losses.l1, "box GIoU": weights.giou * losses.giou}
    if config.semantic > 0:
        pixels = losses_wanted.pixels or PixelLossConfig()
        _check_class_weights(pixels, output.class_logits.shape[-1] - 1)
        parts["semantic"] = config.semantic * semantic_reading_loss(output, targets, pixels)
    return parts


def _contrastive_part(
    output: TaskQueries, batch: Batch, text_mapper: TextMapper, config: MaskLossConfig | None
) -> dict[str, Tensor]:
    text_queries = text_mapper(_given("text_tokens", batch.text_tokens))  # (B, K + contexts, dim)
    if text_queries.shape != output.queries.shape:
        contexts = len(text_mapper.contexts)
        raise DataError(
            f"an image has {text_queries.shape[1] - contexts} texts, but the network has {output.queries.shape[1]} "
            f"queries, {contexts} of them without a text; give {output.queries.shape[1] - contexts} texts"
        )
    loss = contrastive_loss(output.queries, text_queries, text_mapper.logit_scale)
    return {"contrastive": _wanted("masks", config).contrastive * loss}


def _pixel_parts(output: PixelLogits, batch: Batch, config: PixelLossConfig | None) -> dict[str, Tensor]:
    config, class_maps = _wanted("pixels", config), _given("class_maps", batch.class_maps)
    num_classes = output.logits.shape[1]
    _check_classes(class_maps, num_classes)
    _check_class_weights(config, num_classes)
    losses = pixel_loss(output, class_maps, config)
    parts = {"class": losses.cross_entropy}
    if config.dice > 0:
        parts["dice"] = config.dice * losses.dice
    if output.auxiliary:
        parts["auxiliary"] = config.auxiliary * losses.auxiliary
    return parts


def _depth_part(output: DepthMap, batch: Batch, config: LossConfig, farthest: float | None) -> dict[str, Tensor]:
    depth = _given("depth", batch.depth)
    if config.metric_depth is not None:
        if farthest is not None:
            depth = torch.where(depth <= farthest, depth, 0)
        return {"depth": metric_depth_loss(output.depth, depth, config.metric_depth)}
    return {"depth": relative_depth_loss(output.depth, depth, _wanted("relative_depth", config.relative_depth))}


def _wanted(name: str, config: T | None) -> T:
    if config is None:
        raise OptionError(f"the loss does not say how this network learns; set {name!r} as in its published loss")
    return config


def _given(name: str, truth: T | None) -> T:
    if truth is None:
        raise DataError(f"this network learns from {name}, which the batch lacks; use data that has them")
    return truth


def _check_class_weights(config: PixelLossConfig, num_classes: int) -> None:
    if config.class_weights is not None and len(config.class_weights) != num_classes:
        raise OptionError(
            f"there are {len(config.class_weights)} class weights, but the network knows {num_classes} classes; "
            "give one for each"
        )


def _check_classes(classes: Tensor, num_classes: int) -> None:
    if classes.numel() and int(classes.max()) >= num_classes:
        raise DataError(
            f"the data has class {int(classes.max())}, but the network knows {num_classes} classes, from 0 on; map "
            "what is to be ignored to no class, or train with the data's own classes"
        )
