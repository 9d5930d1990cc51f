"""What each family is trained with unless a user says otherwise: the recipes of the papers and their published code."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from everymask.checkpoints.families import FAMILIES
from everymask.devices import computes_bfloat16
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.labels import LABEL_SETS, LabelSet, label_set
from everymask.preprocessing import FitOneSide, FixedSize, Preprocessing
from everymask.segmentation import Task
from everymask.training.augmentation import Augmentation
from everymask.training.losses import published_loss
from everymask.training.recipe import TrainingRecipe

Config = Mapping[str, Any]

CROPS: Mapping[str, Size] = {
    "coco-panoptic": Size(1024, 1024),
    "coco-instance": Size(1024, 1024),
    "coco-stuff": Size(512, 512),
    "ade20k": Size(512, 512),
    "cityscapes": Size(512, 1024),
    "cityscapes-instance": Size(512, 1024),
    "mapillary-vistas": Size(1024, 1024),
    "pascal-voc": Size(512, 512),
    "camvid": Size(352, 480),
}
"""The training crops by data set, as ``labels.LABEL_SETS`` names them: Mask2Former's configurations for COCO panoptic
and instances, ADE20K, Cityscapes and Mapillary Vistas; mmsegmentation's for COCO-Stuff and Pascal VOC; of CamVid's
360 x 480 pixels what is a multiple of 32."""
OTHER_CROP = Size(512, 512)

LARGE_SCALE_JITTER = Augmentation(scale=(0.1, 2.0), fit="inside")
"""Ghiasi et al. 2021, section 3, as Mask2Former (section 4.1) uses it for panoptic and instance segmentation."""

COLOR_JITTER = Augmentation(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)
"""The photometric distortion of SSD (Liu et al. 2016), which detectron2 and mmsegmentation use for semantic
segmentation: 32 of 256 levels of brightness, 18 of 360 degrees of hue."""

SEMANTIC_JITTER = replace(COLOR_JITTER, scale=(0.5, 2.0))
"""Scales from half to twice the size at which an image's shorter side is that of the crop, as in the configurations of
Mask2Former for ADE20K and of mmsegmentation (ratio_range)."""

CITYSCAPES_JITTER = replace(SEMANTIC_JITTER, scale=(1.0, 4.0))
"""The same in crops of 512 x 1024: Mask2Former's shorter sides for Cityscapes are 512 to 2048 pixels."""

DETECTION_JITTER = Augmentation(scale=(0.6, 1.0), fit="inside")
"""DETR's shorter sides of 480 to 800 pixels at most 1333 long (section 4), in the square crop of 1024 pixels that lets
all images of a batch have one size; MaskFormer (section 4.1) has it for COCO."""

CROP_AND_FLIP = Augmentation()
"""For depth (Ranftl et al. 2022, section 5): a crop of an image that just covers it, and its mirror image."""


def default_recipe(
    config: Config, task: Task, preprocessing: Preprocessing, labels: LabelSet, device: torch.device | None = None
) -> TrainingRecipe:
    """The published recipe of a family for a task.

    ``config``: the content of the model's config.json. ``labels``: the data set's, by which the known ones are told
    for sizes and augmentation. All run for 50 epochs (Mask2Former on COCO, section 4.1) in batches
    of 16; the numbers of steps that others publish are for data sets of thousands of images. ``device``: if it is given
    and would emulate bfloat16, which takes twenty times as long, what is published in bfloat16 is in float32.

    Raises OptionError for a model_type that is not supported.
    """
    model_type = str(config.get("model_type"))
    if model_type not in _FAMILIES:
        raise OptionError(f'there is no recipe for the model_type "{model_type}"; there are {", ".join(_FAMILIES)}')
    recipe = _FAMILIES[model_type](config)
    if recipe.precision == "bf16-mixed" and device is not None and not computes_bfloat16(device):
        recipe = replace(recipe, precision="32-true")
    data = _known_data(labels)
    crop = _own_size(model_type, preprocessing) or CROPS.get(data, OTHER_CROP)
    return replace(
        recipe,
        crop=crop,
        augmentation=_augmentation(model_type, task, data, crop),
        loss=published_loss(model_type, FAMILIES[model_type].depth_kind(config)),
    )


def _known_data(labels: LabelSet) -> str:
    """Which of ``LABEL_SETS`` has these classes; empty where none has."""
    return next((name for name in LABEL_SETS if label_set(name).names == labels.names), "")


def _own_size(model_type: str, preprocessing: Preprocessing) -> Size | None:
    """The one size a network was trained at, where its preprocessing tells; None for those that take any.

    Mask2Former, MaskFormer, OneFormer and DETR were trained on crops that their processors do not know of.
    """
    if preprocessing.tiling is not None:
        return preprocessing.tiling.window
    if preprocessing.pad_to is not None:
        return preprocessing.pad_to
    if model_type in ("segformer", "upernet", "beit", "dpt", "depth_anything"):
        resize = preprocessing.resize
        return resize.size if isinstance(resize, (FixedSize, FitOneSide)) else None
    return None


def _augmentation(model_type: str, task: Task, data: str, crop: Size) -> Augmentation:
    if task == "depth":
        return CROP_AND_FLIP
    if task == "semantic" or data.startswith("cityscapes") or data == "camvid":
        # Mask2Former trains Cityscapes alike for all three tasks.
        wide = data.startswith("cityscapes") and crop.width > crop.height
        return CITYSCAPES_JITTER if wide else SEMANTIC_JITTER
    if model_type in ("detr", "maskformer"):
        return DETECTION_JITTER
    if model_type.startswith("eomt"):
        return replace(COLOR_JITTER, scale=LARGE_SCALE_JITTER.scale, fit=LARGE_SCALE_JITTER.fit)
    return LARGE_SCALE_JITTER


def _detr(config: Config) -> TrainingRecipe:
    """Carion et al. 2020, section 4 and appendix A.4, and the defaults of facebookresearch/detr's main.py.

    The learning rate falls in one step there, by ten after two thirds.
    """
    return TrainingRecipe(learning_rate=1e-4, backbone_multiplier=0.1, weight_decay=1e-4, clip_norm=0.1)


def _maskformer(config: Config) -> TrainingRecipe:
    """Cheng et al. 2021, section 4.1 and appendix A: other numbers for convolutional backbones than for Swin."""
    if _backbone(config) == "resnet":
        return TrainingRecipe(learning_rate=1e-4, backbone_multiplier=0.1, weight_decay=1e-4, clip_norm=0.01)
    return TrainingRecipe(learning_rate=6e-5, weight_decay=0.01, warmup_steps=1500, clip_norm=0.01)


def _mask2former(config: Config) -> TrainingRecipe:
    """Cheng et al. 2022, section 4.1, and configs/ of facebookresearch/Mask2Former.

    For COCO the learning rate falls in two steps there; for all other data sets it is poly, as here. OneFormer (Jain et
    al. 2023, section 4.1) has the same numbers.
    """
    return TrainingRecipe(
        learning_rate=1e-4, backbone_multiplier=0.1, weight_decay=0.05, clip_norm=0.01, precision="bf16-mixed"
    )


def _eomt(config: Config) -> TrainingRecipe:
    """Kerssies et al. 2025, section 4.1 and appendix A: the ViT is warmed up after the rest."""
    return TrainingRecipe(
        learning_rate=1e-4,
        layer_decay=0.8,
        weight_decay=0.05,
        warmup_steps=500,
        backbone_warmup_steps=1000,
        clip_norm=0.01,
        precision="bf16-mixed",
    )


def _vit_adapter(config: Config) -> TrainingRecipe:
    """mask2former_beitv2_adapter_large_896_80k_cocostuff164k_ss.py of czczup/ViT-Adapter."""
    return TrainingRecipe(learning_rate=2e-5, layer_decay=0.9, weight_decay=0.05, warmup_steps=1500, power=1.0)


def _segformer(config: Config) -> TrainingRecipe:
    """Xie et al. 2021, section 4.1, and local_configs of NVlabs/SegFormer: the head learns 10 times faster."""
    return TrainingRecipe(learning_rate=6e-4, backbone_multiplier=0.1, weight_decay=0.01, warmup_steps=1500, power=1.0)


def _upernet(config: Config) -> TrainingRecipe:
    """configs/swin and configs/convnext of open-mmlab/mmsegmentation.

    ConvNeXt's 0.9 is for groups of three blocks there, for blocks the third root is meant. ResNets were trained with
    SGD; they get Swin's numbers.
    """
    if _backbone(config) == "convnext":
        return TrainingRecipe(
            learning_rate=1e-4,
            layer_decay=0.965,
            weight_decay=0.05,
            warmup_steps=1500,
            power=1.0,
            precision="bf16-mixed",
        )
    return TrainingRecipe(learning_rate=6e-5, weight_decay=0.01, warmup_steps=1500, power=1.0)


def _beit(config: Config) -> TrainingRecipe:
    """Bao et al. 2022, appendix, as configs/beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py of mmsegmentation."""
    return TrainingRecipe(learning_rate=3e-5, layer_decay=0.9, weight_decay=0.05, warmup_steps=1500, power=1.0)


def _dpt(config: Config) -> TrainingRecipe:
    """Ranftl et al. 2021, section 5.1: Adam with 1e-5 for the backbone and 1e-4 for the rest.

    For classes (section 5.2) it was SGD with a poly schedule of power 0.9; it gets the same rates with that schedule.
    """
    return TrainingRecipe(learning_rate=1e-4, backbone_multiplier=0.1, weight_decay=0.0)


def _depth_anything(config: Config) -> TrainingRecipe:
    """metric_depth/train.py of DepthAnything/Depth-Anything-V2: 5e-6 for the backbone, 10 times that for the rest."""
    return TrainingRecipe(learning_rate=5e-5, backbone_multiplier=0.1, weight_decay=0.01)


def _backbone(config: Config) -> str:
    backbone = config.get("backbone_config")
    return str(backbone.get("model_type")) if isinstance(backbone, Mapping) else ""


_FAMILIES: dict[str, Callable[[Config], TrainingRecipe]] = {
    "beit": _beit,
    "depth_anything": _depth_anything,
    "detr": _detr,
    "dpt": _dpt,
    "eomt": _eomt,
    "eomt_dinov3": _eomt,
    "mask2former": _mask2former,
    "maskformer": _maskformer,
    "oneformer": _mask2former,
    "segformer": _segformer,
    "upernet": _upernet,
    "vit_adapter": _vit_adapter,
}
