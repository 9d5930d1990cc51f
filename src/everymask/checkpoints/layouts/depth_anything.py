"""Depth Anything, V1 and V2, relative and metric, as transformers saves it (``DepthAnythingForDepthEstimation``)."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from everymask.checkpoints.layouts.dpt_neck import neck_rules, unused_side_unit
from everymask.checkpoints.layouts.parts import refuse_unpublished
from everymask.checkpoints.layouts.rules import Layout, rename
from everymask.checkpoints.layouts.vit import dinov2_config, dinov2_layout, taps
from everymask.errors import CheckpointError
from everymask.networks.backbones.vit import ViT
from everymask.networks.depth_anything import DepthAnything, DepthAnythingConfig
from everymask.networks.layers.dpt import NeckConfig
from everymask.segmentation import DepthKind

# What transformers' class takes where a config does not describe its backbone: that of the small V1.
DEFAULT_BACKBONE = {
    "model_type": "dinov2",
    "image_size": 518,
    "hidden_size": 384,
    "num_attention_heads": 6,
    "out_indices": [9, 10, 11, 12],
}
FACTORS = (4, 2, 1, 0.5)


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    ``num_labels`` is of no concern here: there are no classes. Values the file leaves out have the defaults of
    transformers' configuration classes. Raises CheckpointError for settings that no published checkpoint has.
    """
    described = config.get("backbone_config") or DEFAULT_BACKBONE
    refuse_unpublished("Depth Anything on the backbone", described, {"model_type": "dinov2"})
    vit = dinov2_config(described)
    expected = {
        "backbone": None,
        "head_in_index": -1,
        "reassemble_factors": list(FACTORS),
        # What follows from the backbone.
        "patch_size": vit.patch,
        "reassemble_hidden_size": vit.dim,
    }
    refuse_unpublished("Depth Anything", config, expected)
    neck = NeckConfig(
        dim=vit.dim,
        widths=tuple(config.get("neck_hidden_sizes", (48, 96, 192, 384))),
        factors=FACTORS,
        fusion=config.get("fusion_hidden_size", 64),
        readout="ignore",
        follow_sizes=True,
    )
    levels = taps(described, vit.depth)
    if not len(levels) == len(neck.widths) == len(FACTORS):
        raise CheckpointError(
            f"the backbone of the Depth Anything is read at {len(levels)} levels, and neck_hidden_sizes has "
            f"{len(neck.widths)}; both must be {len(FACTORS)}, one for each reassemble factor"
        )
    network = DepthAnything(
        DepthAnythingConfig(
            neck=neck, taps=levels, head_dim=config.get("head_hidden_size", 32), max_depth=_max_depth(config)
        ),
        ViT(vit),
    )
    backbone_layout = dinov2_layout("backbone.", vit)
    head_rules = tuple(
        rename(f"head.conv{number}.*", f"head.{name}.*")
        for number, name in enumerate(("reduce", "smooth", "predict"), 1)
    )
    return network, Layout(
        (*backbone_layout.rules, *neck_rules(), *head_rules),
        backbone_layout.leftovers,
        {**backbone_layout.constants, **unused_side_unit(neck)},
    )


def depth_kind(config: Mapping[str, Any]) -> DepthKind:
    """What the depth means: ``depth_estimation_type``. Raises CheckpointError if that is something else."""
    stated = config.get("depth_estimation_type", "relative")
    if stated == "metric" or stated == "relative":
        kind: DepthKind = stated
        return kind
    raise CheckpointError(
        f"Depth Anything with depth_estimation_type = {stated!r} is not supported; it must be 'metric' or 'relative'"
    )


def _max_depth(config: Mapping[str, Any]) -> float | None:
    largest = config.get("max_depth") or 1  # null is 1 to transformers 4.x
    if depth_kind(config) == "metric":
        return float(largest)
    # transformers would multiply relative depth by it, too.
    refuse_unpublished("relative Depth Anything", {"max_depth": largest}, {"max_depth": 1})
    return None
