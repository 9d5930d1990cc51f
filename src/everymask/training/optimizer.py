"""AdamW as transformers are trained with it: groups of parameters, layer-wise decay and schedules."""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW

from everymask.networks.layers.level_convolution import LevelConvolution
from everymask.training.recipe import TrainingRecipe

# Where a parameter of a backbone sits: the first convolutional part of a hybrid before the transformer (False < True),
# then stage and block. Blocks of a plain transformer are all in stage 0.
Place = tuple[bool, int, int]

_BLOCK = re.compile(
    r"(?P<bit>bit\.)?stages\.(?P<stage>\d+)\.(blocks\.)?(?P<block>\d+)\."  # Swin, ConvNeXt, MiT, DiNAT, ResNet, BiT
    r"|(vit\.)?blocks\.(?P<plain>\d+)\."  # ViT, DINOv2, BEiT
)
_BETWEEN_STAGES = re.compile(r"(mergings|downsamplers)\.(?P<stage>\d+)\.")  # made from stage i, they open stage i + 1
_STAGE_PATCHES = re.compile(r"stages\.(?P<stage>\d+)\.patch_(embedding|norm)\.")  # MiT
_EMBEDDING = re.compile(
    r"(?P<vit>vit\.)?(class_token|register_tokens|positions$|patch_embedding\.|patch_norm\.)|(bit\.)?stem\."
)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters, by name, that are trained alike.

    ``multiplier``: of the learning rate. ``decays``: whether weight decay applies. ``backbone``: whether they belong to
    it, which may be warmed up later than the rest.
    """

    names: tuple[str, ...]
    multiplier: float
    decays: bool
    backbone: bool


def parameter_groups(network: nn.Module, backbone_multiplier: float, layer_decay: float) -> tuple[ParameterGroup, ...]:
    """Parts the trainable parameters of a network of any family; each is in one group.

    Weight decay applies to the weights of linear and convolutional layers alone: to no bias, norm, embedding, position,
    query, token or scale. The learning rate of the backbone is multiplied by ``backbone_multiplier`` and, a block at
    depth d of L (d = 1..L), by ``layer_decay`` to the power L + 1 - d; embeddings have d = 0, what comes after the last
    block has L + 1 (Bao et al. 2022, BEiT's fine-tuning). Blocks of hierarchical backbones are counted through all
    stages; what leads into a stage has the depth of its first block. Adapters, and norms of what leaves the backbone,
    are new where a backbone was pretrained alone and have L + 1.
    """
    decaying = _decaying(network)
    depths, last = backbone_depths(network)
    groups: dict[tuple[float, bool, bool], list[str]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        multiplier = 1.0
        if name in depths:
            multiplier = backbone_multiplier * layer_decay ** (last - depths[name])
        groups[multiplier, name in decaying, name in depths].append(name)
    return tuple(ParameterGroup(tuple(names), *key) for key, names in sorted(groups.items()))


def backbone_depths(network: nn.Module) -> tuple[dict[str, int], int]:
    """The depth, 0..L + 1, of every parameter of the network's backbone by its full name, and L + 1.

    See ``parameter_groups``. A network without a part named ``backbone`` has no depths, and L + 1 is 1.
    """
    prefix = "backbone."
    inside = [name for name, _ in network.named_parameters() if name.startswith(prefix)]
    places = {name: _place(name.removeprefix(prefix)) for name in inside}
    blocks = sorted({place for place in places.values() if place is not None and place[2] >= 0})
    depth_of = {block: depth for depth, block in enumerate(blocks, 1)}
    top = len(blocks) + 1

    def depth(place: Place | None) -> int:
        if place is None:
            return top
        if place[2] >= 0:
            return depth_of[place]
        following = next((depth_of[block] for block in blocks if block > place), top)
        return 0 if following == 1 else following

    return {name: depth(place) for name, place in places.items()}, top


def _place(name: str) -> Place | None:
    """The place of a parameter of a backbone; block -1 stands for what leads into a stage, None for what is new."""
    name = name.removeprefix("backbone.")
    if found := _BLOCK.match(name):
        if found["plain"] is not None:
            return True, 0, int(found["plain"])
        return not found["bit"], int(found["stage"]), int(found["block"])
    if found := _BETWEEN_STAGES.match(name):
        return True, int(found["stage"]) + 1, -1
    if found := _STAGE_PATCHES.match(name):
        return True, int(found["stage"]), -1
    if found := _EMBEDDING.match(name):
        return bool(found["vit"]), -1, -1
    return None


def _decaying(network: nn.Module) -> set[str]:
    """The names of the weights of all linear and convolutional layers."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, LevelConvolution)
    return {
        f"{path}.weight" if path else "weight" for path, module in network.named_modules() if isinstance(module, layers)
    }


def build_optimizer(network: nn.Module, recipe: TrainingRecipe) -> AdamW:
    """AdamW (betas 0.9 and 0.999) over all trainable parameters, in the groups of ``parameter_groups``.

    Each group also holds "multiplier" and "backbone", which ``set_learning_rates`` reads and which are part of the
    optimiser's state.
    """
    parameters = dict(network.named_parameters())
    groups = [
        {
            "params": [parameters[name] for name in group.names],
            "weight_decay": recipe.weight_decay if group.decays else 0.0,
            "multiplier": group.multiplier,
            "backbone": group.backbone,
        }
        for group in parameter_groups(network, recipe.backbone_multiplier, recipe.layer_decay)
    ]
    return AdamW(groups, lr=recipe.learning_rate)


def set_learning_rates(optimizer: AdamW, recipe: TrainingRecipe, step: int, total: int) -> float:
    """Sets the learning rates for step 0..total - 1 and returns the one of the network's new parts.

    They depend on nothing but the step, so that a run that is resumed goes on with the same ones.
    """
    new = recipe.learning_rate * factor_of(recipe, total)(step)
    backbone = recipe.learning_rate * factor_of(recipe, total, backbone=True)(step)
    for group in optimizer.param_groups:
        group["lr"] = group["multiplier"] * (backbone if group["backbone"] else new)
    return new


def factor_of(recipe: TrainingRecipe, total: int, *, backbone: bool = False) -> Callable[[int], float]:
    """The function from a step, 0..total - 1, to the factor, 0..1, of the learning rate.

    The rate rises linearly through ``recipe.warmup_steps``, to 1 at the last of them; a backbone's stays at 0 for as
    long and then rises through ``recipe.backbone_warmup_steps``, if there are any. Either takes a tenth of the run at
    most. Over the whole run it falls: "poly" as (1 - step / total) ** power, "cosine" as half a wave, "constant" not at
    all. A warm-up multiplies that, so there is no jump at its end.
    """
    longest = total // 10
    head = min(recipe.warmup_steps, longest)
    start, length = 0, head
    if backbone and recipe.backbone_warmup_steps:
        start, length = head, min(recipe.backbone_warmup_steps, longest)

    def factor(step: int) -> float:
        warm = 1.0 if step >= start + length else max(step + 1 - start, 0) / max(length, 1)
        progress = min(step / total, 1.0)
        if recipe.schedule == "poly":
            return warm * math.pow(1 - progress, recipe.power)
        if recipe.schedule == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * progress))
        return warm

    return factor
