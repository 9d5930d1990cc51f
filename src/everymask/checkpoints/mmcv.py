"""Checkpoints as mmcv saves them: ModelScope's, and those of the ViT-Adapter project and of mmdet.

Their configurations are Python files, which are neither executed nor read: what a network needs to know comes from the
shapes of its tensors and from what all published ones have in common.
"""

from pathlib import Path
from typing import Any

from everymask.checkpoints.files import (
    CONFIG,
    MODELSCOPE_CONFIG,
    MODELSCOPE_WEIGHTS,
    mmcv_weights,
    read_json,
)
from everymask.checkpoints.layouts import mask2former_mmcv, vit_adapter
from everymask.checkpoints.weights import read_weights
from everymask.errors import CheckpointError


def implied_config(folder: Path) -> dict[str, Any] | None:
    """What stands for the config.json of a folder with weights that mmcv saved; None for any other folder.

    A config.json beside them goes before what the weights say, key by key. Tensors are not read, only their shapes.
    Raises CheckpointError for weights of other networks than Mask2Former on Swin, ResNet or ViT-Adapter, and where
    their shapes leave open what the config must say.
    """
    path = mmcv_weights(folder)
    if path is None:
        return None
    shapes = {key: tuple(tensor.shape) for key, tensor in read_weights(folder).items()}
    stated = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
    if mask2former_mmcv.belongs(shapes):
        return {**mask2former_mmcv.config_of(shapes), **stated}
    if not vit_adapter.belongs(shapes):
        raise CheckpointError(
            f"{path} is of no supported network: of the files that mmcv saves, those of Mask2Former on Swin, "
            "ResNet and ViT-Adapter (BEiT) are read"
        )
    # Only ModelScope's code, for which its files are made, has this residual connection.
    from_modelscope = path.name == MODELSCOPE_WEIGHTS or (folder / MODELSCOPE_CONFIG).exists()
    config = {**vit_adapter.config_of(shapes), "adapter_attn_identity": from_modelscope, **stated}
    if "img_size" not in config:
        raise CheckpointError(
            f"the positions in {path} are for windows that are no squares, and nothing says how high and wide; write "
            f'"img_size": [height, width] in pixels into a {CONFIG} beside it'
        )
    return config
