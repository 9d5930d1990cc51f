"""UPerNet as transformers saves it (``UperNetForSemanticSegmentation``, 4.x and 5.x)."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from everymask.checkpoints.layouts.backbones import build_backbone
from everymask.checkpoints.layouts.parts import refuse_unpublished, uper_head_rules
from everymask.checkpoints.layouts.rules import Layout
from everymask.errors import CheckpointError
from everymask.networks.upernet import UPerNet, UPerNetConfig

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    Values the file leaves out have the defaults of transformers' configuration class. Raises CheckpointError for
    settings that no published checkpoint has.
    """
    backbone_config = config.get("backbone_config") or {"model_type": "resnet"}
    _refuse_unpublished(config, backbone_config)
    backbone, widths, backbone_layout = build_backbone(backbone_config, "backbone.")
    if config.get("auxiliary_in_channels") not in (None, widths[2]):
        raise CheckpointError(
            f"UPerNet with auxiliary_in_channels = {config['auxiliary_in_channels']} does not fit its backbone, whose "
            f"third stage has {widths[2]}"
        )
    network = UPerNet(
        UPerNetConfig(
            num_labels=num_labels,
            dim=config.get("hidden_size", 512),
            pool_scales=tuple(config.get("pool_scales", (1, 2, 3, 6))),
            auxiliary_dim=config.get("auxiliary_channels", 256) if config.get("use_auxiliary_head", True) else None,
        ),
        backbone,
        widths,
    )
    return network, Layout(backbone_layout.rules + uper_head_rules("batch_norm"), backbone_layout.leftovers)


def _refuse_unpublished(config: Mapping[str, Any], backbone_config: Mapping[str, Any]) -> None:
    expected = {
        "backbone": None,
        "use_timm_backbone": False,
        "auxiliary_num_convs": 1,
        "auxiliary_concat_input": False,
    }
    refuse_unpublished("UPerNet", config, expected)
    refuse_unpublished("the backbone_config of UPerNet", backbone_config, {"out_features": STAGES})
