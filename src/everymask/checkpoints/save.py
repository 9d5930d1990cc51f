"""Saving a network as a folder in the transformers layout, which transformers and everymask load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from everymask.atomic import ready_folder, write
from everymask.checkpoints.files import CONFIG, PREPROCESSOR, WEIGHTS
from everymask.checkpoints.layouts.rules import Layout
from everymask.labels import LabelSet
from everymask.segmentation import Task


def save_checkpoint(
    folder: Path,
    network: nn.Module,
    layout: Layout,
    config: Mapping[str, Any],
    preprocessor: Mapping[str, Any],
    *,
    labels: LabelSet,
    tasks: tuple[Task, ...],
    license: str | None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes config.json, preprocessor_config.json and model.safetensors.

    ``config`` describes the network as its published layout does; the label names and the ``everymask`` block (things,
    palette, tasks, licence) are added to it. Floating-point tensors are stored as ``dtype``; transformers computes in
    float32 whatever they are stored as. Raises OptionError where the folder cannot be written.
    """
    names = {
        "id2label": {str(index): name for index, name in enumerate(labels.names)},
        "label2id": {name: index for index, name in enumerate(labels.names)},
    }
    complete = {
        **config,
        **(names if labels.names else {}),  # a network of depth has no classes
        "dtype": "float32",
        "everymask": {
            **config.get("everymask", {}),
            "things": [index for index, is_thing in enumerate(labels.things) if is_thing],
            "palette": list(labels.colors),
            "tasks": list(tasks),
            "license": license,
        },
    }
    tensors = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in layout.to_published(network).items()
    }
    ready_folder(folder)
    write(folder / WEIGHTS[0], save(tensors, metadata={"format": "pt"}))
    write(folder / PREPROCESSOR, _json(preprocessor))
    write(folder / CONFIG, _json(complete))


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
