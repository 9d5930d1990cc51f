"""Checkpoints that hold only the differences from DINOv3's own weights, whose licence forbids to pass them on."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from everymask.checkpoints.find import find
from everymask.checkpoints.layouts.eomt import ORIGINAL_BACKBONE
from everymask.checkpoints.weights import read_weights
from everymask.errors import CheckpointError, OptionError

BASES = {
    384: "facebook/dinov3-vits16-pretrain-lvd1689m",
    768: "facebook/dinov3-vitb16-pretrain-lvd1689m",
    1024: "facebook/dinov3-vitl16-pretrain-lvd1689m",
}
"""The weights the published differences are from, by width."""

# The scales of a trained layer norm are positive and far from zero, what fine-tuning changes of them is small.
LARGEST_MEAN_OF_A_DELTA = 0.1

CLASS_TOKEN = ORIGINAL_BACKBONE + "patch_embed.cls_token"
NORM = re.compile(re.escape(ORIGINAL_BACKBONE) + r"blocks\.\d+\.norm1\.weight")


def is_delta(weights: Mapping[str, Tensor]) -> bool:
    """Whether the ViT in a file is a difference: DINOv3 in the layout of EoMT's authors, with norms around zero."""
    scales = [tensor.float().mean() for key, tensor in weights.items() if NORM.fullmatch(key)]
    return CLASS_TOKEN in weights and bool(scales) and abs(float(torch.stack(scales).mean())) < LARGEST_MEAN_OF_A_DELTA


def complete(
    weights: dict[str, Tensor],
    name: str,
    base: str | Path | None,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> dict[str, Tensor]:
    """The weights of the checkpoint ``name``, with those of its base added if they are differences.

    ``base`` is the folder or Hub id of DINOv3; None means the repository of that width, which is downloaded (``token``,
    ``cache_dir``). Raises CheckpointError if the base cannot be had or does not fit, and OptionError for a ``base`` of
    weights that are complete.
    """
    if not is_delta(weights):
        if base is not None:
            raise OptionError(f"base={str(base)!r} has no meaning for {name}, whose weights are complete: leave it out")
        return weights
    dim = weights[CLASS_TOKEN].shape[-1]
    source = base or BASES.get(dim)
    if source is None:
        raise CheckpointError(
            f"{name} holds only differences from a DINOv3 of width {dim}, which is none of the published; give the "
            "folder of the full weights as base=..."
        )
    try:
        base_weights = read_weights(find(source, token=token, cache_dir=cache_dir))
    except CheckpointError as error:
        raise CheckpointError(
            f"{name} holds only differences from the weights of {source}, which are gated and cannot be had: {error}. "
            f"Accept their terms at https://huggingface.co/{BASES.get(dim, source)} and pass token=... of that account "
            "(or run `hf auth login`), or give the folder they lie in as base=..."
        ) from error
    return add_base(weights, base_weights, str(source))


def add_base(delta: Mapping[str, Tensor], base: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Full weights, in float32: every tensor of the ViT in ``delta`` plus the one of ``base`` that belongs to it.

    ``base`` has the keys of a DINOv3 as transformers saves it. Raises CheckpointError, naming ``source``, if it misses
    a tensor or has one in another shape.
    """
    full = dict(delta)
    for key, difference in delta.items():
        if not key.startswith(ORIGINAL_BACKBONE):
            continue
        theirs = _base_key(key.removeprefix(ORIGINAL_BACKBONE))
        if theirs not in base or base[theirs].shape != difference.shape:
            found = f"has it as {tuple(base[theirs].shape)}" if theirs in base else "has no such tensor"
            raise CheckpointError(
                f"the weights of {source} are not those that this checkpoint holds the differences from: it needs "
                f"{theirs} {tuple(difference.shape)}, {source} {found}; give the DINOv3 of the same size as base=..."
            )
        full[key] = base[theirs].float() + difference.float()
    return full


def _base_key(key: str) -> str:
    first, _, rest = key.partition(".")
    return {"patch_embed": "embeddings", "blocks": "layer"}.get(first, first) + "." + rest
