"""BEiT for semantic segmentation as transformers saves it (``BeitForSemanticSegmentation``, 4.x and 5.x)."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from everymask.checkpoints.layouts.backbones import beit_config, beit_layout
from everymask.checkpoints.layouts.parts import refuse_unpublished, uper_head_rules
from everymask.checkpoints.layouts.rules import Layout, Rule, rename
from everymask.errors import CheckpointError
from everymask.networks.backbones.beit import Beit
from everymask.networks.beit import BeitSegmentation, BeitSegmentationConfig


def build(config: Mapping[str, Any], num_labels: int) -> tuple[nn.Module, Layout]:
    """The network that a transformers ``config.json`` describes, with fresh weights, and the layout of its file.

    Values the file leaves out have the defaults of transformers' configuration class. Raises CheckpointError for
    settings that no published checkpoint has.
    """
    refuse_unpublished("BEiT", config, {"auxiliary_num_convs": 1, "auxiliary_concat_input": False})
    sizes = beit_config(config)
    network = BeitSegmentation(
        BeitSegmentationConfig(
            num_labels=num_labels,
            taps=_taps(config.get("out_indices"), sizes.depth),
            pool_scales=tuple(config.get("pool_scales", (1, 2, 3, 6))),
            auxiliary_dim=config.get("auxiliary_channels", 256) if config.get("use_auxiliary_head", True) else None,
        ),
        Beit(sizes),
    )
    backbone = beit_layout("beit.")
    return network, Layout(backbone.rules + _pyramid_rules() + uper_head_rules("bn"), backbone.leftovers)


def _taps(out_indices: Any, depth: int) -> tuple[int, ...]:
    """After how many blocks maps are taken.

    The published code counts the embedding as the first of its ``out_indices``: index i comes after i - 1 blocks.
    """
    taps = tuple(index - 1 for index in out_indices or ())
    if len(taps) != 4 or taps != tuple(sorted(set(taps))) or not 0 <= taps[0] <= taps[-1] < depth:
        raise CheckpointError(
            f"BEiT with out_indices = {out_indices!r} is no checkpoint for segmentation; it takes maps at four "
            f"rising indices from 1 to {depth}"
        )
    return taps


def _pyramid_rules() -> tuple[Rule, ...]:
    return (
        rename("fpn1.#.*", "pyramid.four_times.#.*"),
        rename("fpn2.0.*", "pyramid.twice.*"),
    )
