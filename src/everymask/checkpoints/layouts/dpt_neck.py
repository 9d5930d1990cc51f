"""DPT's neck as transformers names it, which Depth Anything has, too."""

import torch
from torch import Tensor

from everymask.checkpoints.layouts.rules import Rule, rename
from everymask.networks.layers.dpt import NeckConfig


def neck_rules() -> tuple[Rule, ...]:
    """Every tensor of ``layers.dpt.Neck``, which is ``neck`` in the file and with us."""
    stage, fusion = "neck.reassemble_stage.", "neck.fusion_stage.layers.#."
    units = tuple(
        rename(f"{fusion}residual_layer{unit}.{kind}{step}.*", f"neck.fusions.#.{our_unit}.{our_step}.{index}.*")
        for unit, our_unit in ((1, "side"), (2, "main"))
        for step, our_step in ((1, "first"), (2, "second"))
        for index, kind in enumerate(("convolution", "batch_norm"))
    )
    return (
        rename(stage + "layers.#.projection.*", "neck.reassemble.#.projection.*"),
        rename(stage + "layers.#.resize.*", "neck.reassemble.#.resize.*"),
        rename(stage + "readout_projects.#.0.*", "neck.reassemble.#.readout.*"),
        rename("neck.convs.#.weight", "neck.convolutions.#.weight"),
        rename(fusion + "projection.*", "neck.fusions.#.projection.*"),
        *units,
    )


def unused_side_unit(neck: NeckConfig) -> dict[str, Tensor]:
    """What transformers wants for the coarsest level, to which nothing is added; not all published files have it."""
    prefix = "neck.fusion_stage.layers.0.residual_layer1."
    width = neck.fusion
    zeros, ones = torch.zeros(()).expand(width), torch.ones(()).expand(width)
    unit: dict[str, Tensor] = {}
    for step in (1, 2):
        unit[f"{prefix}convolution{step}.weight"] = torch.zeros(()).expand(width, width, 3, 3)
        if neck.bias:
            unit[f"{prefix}convolution{step}.bias"] = zeros
        if neck.batch_norm:
            norm = f"{prefix}batch_norm{step}."
            unit |= {norm + "weight": ones, norm + "bias": zeros}
            unit |= {norm + "running_mean": zeros, norm + "running_var": ones}
            unit[norm + "num_batches_tracked"] = torch.tensor(0)
    return unit
