"""The result of a training run: a folder in the transformers layout, with a model card."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from torch import Tensor

from everymask.atomic import write
from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.files import TOKENIZER_FILES
from everymask.checkpoints.load import Checkpoint
from everymask.checkpoints.save import save_checkpoint
from everymask.checkpoints.strict import no_random_initialisation
from everymask.networks.eomt import EoMT

CARD = "README.md"

# Licences that a model card of the Hub names by an identifier of its own; any other is "other" with a name.
HUB_LICENSES = re.compile(r"apache-2\.0|mit|isc|bsd-[23]-clause|cc0-1\.0|cc-by(-sa|-nc|-nc-sa)?-[34]\.0")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a trained network comes from, for its model card.

    ``start``: what training began with. ``data``: the name of the data set; ``images``: how many of them were trained
    on. ``recipe``: the settings by name. ``figures``: the accuracy on held-out images by name, such as
    {"mIoU": 0.61}, after ``step`` steps; empty where none were held out.
    """

    start: str
    data: str
    images: int
    recipe: Mapping[str, Any]
    step: int
    figures: Mapping[str, float]


def save_trained(
    folder: Path, checkpoint: Checkpoint, weights: Mapping[str, Tensor], provenance: Provenance, license: str | None
) -> None:
    """Writes what transformers and ``everymask.load`` read: config, preprocessor config, weights and README.md.

    ``checkpoint``: what training started from (``adaptation``). ``weights``: the trained network's tensors; those that
    only training needs (OneFormer's text mapper) are left out. ``license``: of the result, None if not stated.
    A network that reads texts takes its tokenizer along. Raises OptionError where the folder cannot be written.
    """
    with no_random_initialisation():
        network, layout = FAMILIES[checkpoint.config["model_type"]].build(checkpoint.config, len(checkpoint.labels))
    network.load_state_dict({key: weights[key] for key in network.state_dict()})
    if isinstance(network, EoMT):
        # What it does in evaluation: transformers would draw at random which queries are held to their masks.
        network.set_mask_probabilities((network.mask_probabilities >= 0.5).tolist())
    save_checkpoint(
        folder,
        network,
        layout,
        checkpoint.config,
        checkpoint.preprocessor,
        labels=checkpoint.labels,
        tasks=checkpoint.tasks,
        license=license,
    )
    for name in TOKENIZER_FILES if checkpoint.task_tokens is not None else ():
        if (checkpoint.folder / name).exists():
            write(folder / name, (checkpoint.folder / name).read_bytes())
    write(folder / CARD, model_card(checkpoint, provenance, license).encode())


def model_card(checkpoint: Checkpoint, provenance: Provenance, license: str | None) -> str:
    """The text of README.md: what the Hub reads, then data, classes, recipe, figures and licence for people."""
    depth = checkpoint.tasks == ("depth",)
    identifier = None if license is None else re.sub(r"[\s_-]+", "-", license.strip().lower())
    listed = identifier is not None and HUB_LICENSES.fullmatch(identifier) is not None
    data = ModelCardData(
        license=identifier if listed else "other" if license is not None else None,
        license_name=None if listed or license is None else license,
        library_name="transformers",
        pipeline_tag="depth-estimation" if depth else "image-segmentation",
        tags=["everymask", *checkpoint.tasks],
    )
    classes = "\n".join(
        f"| {index} | {name} | {'thing' if is_thing else 'stuff'} |"
        for index, (name, is_thing) in enumerate(zip(checkpoint.labels.names, checkpoint.labels.things, strict=True))
    )
    recipe = "\n".join(f"| {name} | {value} |" for name, value in provenance.recipe.items())
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {checkpoint.config['model_type']} for {', '.join(checkpoint.tasks)}",
        f"Trained with everymask from {provenance.start} on {provenance.data} ({provenance.images} images).",
        '```python\nimport everymask\n\nresult = everymask.load("PATH OR NAME")("photo.jpg")\n```',
        _figures(provenance),
        "" if depth else f"## Classes\n\n| index | name | kind |\n| --- | --- | --- |\n{classes}",
        f"## Recipe\n\n| setting | value |\n| --- | --- |\n{recipe}",
        f"## Licence\n\n{license or 'Not stated.'}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _figures(provenance: Provenance) -> str:
    if not provenance.figures:
        return f"## Figures\n\nNone: no images were held out. Training took {provenance.step} steps."
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in provenance.figures.items())
    return (
        f"## Figures\n\nOn held-out images, after {provenance.step} steps.\n\n| figure | value |\n| --- | --- |\n{rows}"
    )
