"""The families of networks: how a checkpoint of each model_type is built, and what it can do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from everymask.checkpoints.layouts import (
    beit,
    depth_anything,
    detr,
    dpt,
    eomt,
    mask2former,
    mask2former_mmcv,
    maskformer,
    oneformer,
    segformer,
    upernet,
    vit_adapter,
)
from everymask.checkpoints.layouts.rules import Layout
from everymask.segmentation import TASKS, DepthKind, Task

Config = Mapping[str, Any]


def _queries(config: Config) -> tuple[Task, ...]:
    return TASKS


def _pixels(config: Config) -> tuple[Task, ...]:
    return ("semantic",)


def _depth(config: Config) -> tuple[Task, ...]:
    return ("depth",)


def _no_depth(config: Config) -> DepthKind | None:
    return None


def _no_preprocessor(config: Config, tasks: tuple[Task, ...] | None) -> Config | None:
    return None


def _no_description(config: Config) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Family:
    """How checkpoints of a model_type are read; each function takes the content of config.json.

    ``build``: also takes the number of classes; gives the network and its published layout. ``tasks``: what such a
    network can do, ("depth",) where it tells no classes apart. ``depth_kind``: what its depth means, None without
    depth. ``preprocessor``: also takes the tasks where they are known; what stands in for a preprocessor_config.json
    that a folder lacks, None where nothing does. ``description``: what a user should know of the network that neither
    its name nor its labels tell, None where there is nothing. ``scores_at_mask_size``: whether the published semantic
    reading of queries sums their masks at the masks' own resolution and resizes the sums, not the masks.
    """

    build: Callable[[Config, int], tuple[nn.Module, Layout]]
    tasks: Callable[[Config], tuple[Task, ...]] = _queries
    depth_kind: Callable[[Config], DepthKind | None] = _no_depth
    preprocessor: Callable[[Config, tuple[Task, ...] | None], Config | None] = _no_preprocessor
    description: Callable[[Config], str | None] = _no_description
    scores_at_mask_size: bool = False


def _eomt_preprocessor(config: Config, tasks: tuple[Task, ...] | None) -> Config | None:
    return eomt.original_preprocessor(config, semantic=tasks == ("semantic",))


def _mask2former_preprocessor(config: Config, tasks: tuple[Task, ...] | None) -> Config | None:
    return mask2former_mmcv.preprocessor(config)


def _vit_adapter_preprocessor(config: Config, tasks: tuple[Task, ...] | None) -> Config | None:
    return vit_adapter.preprocessor(config)


FAMILIES: dict[str, Family] = {
    "beit": Family(beit.build, _pixels),
    "depth_anything": Family(depth_anything.build, _depth, depth_anything.depth_kind),
    "detr": Family(detr.build),
    "dpt": Family(dpt.build, dpt.tasks, dpt.depth_kind),
    "eomt": Family(eomt.build, preprocessor=_eomt_preprocessor),
    "eomt_dinov3": Family(eomt.build, preprocessor=_eomt_preprocessor),
    "mask2former": Family(mask2former.build, preprocessor=_mask2former_preprocessor),
    "maskformer": Family(maskformer.build),
    "oneformer": Family(oneformer.build),
    "segformer": Family(segformer.build, _pixels),
    "upernet": Family(upernet.build, _pixels),
    "vit_adapter": Family(
        vit_adapter.build,
        _pixels,
        preprocessor=_vit_adapter_preprocessor,
        description=vit_adapter.description,
        scores_at_mask_size=True,
    ),
}
"""Every supported model_type."""
