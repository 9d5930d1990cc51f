"""What is trained here loads in transformers, and what transformers saves can be trained here."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoImageProcessor

import everymask
from everymask.checkpoints import load_checkpoint
from everymask.checkpoints.load import Checkpoint
from everymask.training.adaptation import adapt
from everymask.training.export import Provenance, save_trained
from parity import randomise, relative_error
from trainable import CONFIGS, LABELS, PROCESSORS, source

PROVENANCE = Provenance("tiny", "drawn boxes", 7, {"steps": 3, "learning_rate": 0.001}, 3, {"mIoU": 0.25})
CLASSES = {family: getattr(transformers, config["architectures"][0]) for family, config in CONFIGS.items()}
every_family = pytest.mark.parametrize("family", CONFIGS)


def exported(checkpoint: Checkpoint, folder: Path) -> Path:
    save_trained(folder, checkpoint, checkpoint.network.state_dict(), PROVENANCE, "MIT")
    return folder


def said_by_transformers(model: Any, pixel_values: Tensor, checkpoint: Checkpoint) -> dict[str, Tensor]:
    extra = {}
    if checkpoint.task_tokens is not None:
        extra = {"task_inputs": checkpoint.task_tokens["semantic"].expand(len(pixel_values), -1)}
    output = model(pixel_values, **extra)
    if "class_queries_logits" in output:
        return {"class_logits": output.class_queries_logits, "mask_logits": output.masks_queries_logits}
    if "pred_masks" in output:
        return {"class_logits": output.logits, "mask_logits": output.pred_masks}
    return {"logits": output.logits}


def said_here(checkpoint: Checkpoint, pixel_values: Tensor) -> Any:
    if checkpoint.task_tokens is None:
        return checkpoint.network.eval()(pixel_values)
    tokens = checkpoint.task_tokens["semantic"].expand(len(pixel_values), -1)
    return checkpoint.network.eval()(pixel_values, task_tokens=tokens)


@torch.no_grad()
@every_family
def test_transformers_loads_the_result_whole_and_gives_the_same_logits(family: str, tmp_path: Path) -> None:
    checkpoint = adapt(source(tmp_path / "start", family), LABELS, "semantic", seed=0)
    randomise(checkpoint.network)
    if family == "eomt":
        checkpoint.network.set_mask_probabilities([0.3, 0.6])  # as between two steps of annealing
    folder = exported(checkpoint, tmp_path / "result")
    model, report = CLASSES[family].from_pretrained(folder, output_loading_info=True)
    # The norm of a Swin's last tokens, which transformers 5 has and never reads: files on the Hub lack it, too.
    assert all(".encoder.swin.layernorm." in key for key in report["missing_keys"])
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert model.config.id2label == dict(enumerate(LABELS.names))
    pixel_values = torch.randn(2, 3, 64, 64)
    for name, expected in said_by_transformers(model.eval(), pixel_values, checkpoint).items():
        assert relative_error(getattr(said_here(checkpoint, pixel_values), name), expected) <= 1e-4


@torch.no_grad()
@every_family
def test_what_transformers_saves_is_a_start(family: str, tmp_path: Path) -> None:
    """Its classes are the data's, so that nothing may change."""
    names = dict(enumerate(LABELS.names))
    kind = CLASSES[family]
    config = kind.config_class(**CONFIGS[family], id2label=names, label2id={name: i for i, name in names.items()})
    torch.manual_seed(0)
    model = kind(config).eval()
    randomise(model)
    model.save_pretrained(tmp_path)
    getattr(transformers, PROCESSORS[family]["image_processor_type"])(
        **{key: value for key, value in PROCESSORS[family].items() if key != "image_processor_type"}
    ).save_pretrained(tmp_path)
    start = load_checkpoint(tmp_path)
    checkpoint = adapt(start, LABELS, "semantic", seed=0)
    pixel_values = torch.randn(1, 3, 64, 64)
    for name, expected in said_by_transformers(model, pixel_values, start).items():
        assert relative_error(getattr(said_here(checkpoint, pixel_values), name), expected) <= 1e-4


@every_family
def test_the_result_loads_here_with_all_it_says_about_itself(family: str, tmp_path: Path) -> None:
    checkpoint = adapt(source(tmp_path / "start", family), LABELS, "semantic", seed=0)
    model = everymask.load(exported(checkpoint, tmp_path / "result"), device="cpu", dtype="float32")
    assert model.labels == LABELS
    assert model.tasks == ("semantic",)
    assert model.license == "MIT"
    assert model.preprocessing == checkpoint.preprocessing
    again = load_checkpoint(tmp_path / "result")
    assert exported(adapt(again, LABELS, "semantic", seed=5), tmp_path / "twice")
    first, second = (load_checkpoint(tmp_path / each).network.state_dict() for each in ("result", "twice"))
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_family
def test_transformers_reads_the_processor(family: str, tmp_path: Path) -> None:
    checkpoint = adapt(source(tmp_path / "start", family), LABELS, "semantic", seed=0)
    processor = AutoImageProcessor.from_pretrained(exported(checkpoint, tmp_path / "result"))
    assert processor.__class__.__name__.startswith(PROCESSORS[family]["image_processor_type"])


def test_the_model_card_says_data_classes_recipe_figures_and_licence(tmp_path: Path) -> None:
    checkpoint = adapt(source(tmp_path / "start", "segformer"), LABELS, "semantic", seed=0)
    card = (exported(checkpoint, tmp_path / "result") / "README.md").read_text()
    head, body = card.removeprefix("---\n").split("\n---\n")
    assert "license: mit" in head
    assert "pipeline_tag: image-segmentation" in head
    assert "drawn boxes (7 images)" in body
    assert "| 3 | blue box | thing |" in body
    assert "| learning_rate | 0.001 |" in body
    assert "| mIoU | 0.2500 |" in body
    assert body.rstrip().endswith("MIT")


@pytest.mark.parametrize(
    ("license", "lines"),
    [
        (None, []),
        ("CC BY-NC 4.0", ["license: cc-by-nc-4.0"]),
        ("NVIDIA non-commercial", ["license: other", "license_name: NVIDIA non-commercial"]),
    ],
)
def test_the_hub_is_told_the_licence_in_its_own_words(license: str | None, lines: list[str], tmp_path: Path) -> None:
    checkpoint = adapt(source(tmp_path / "start", "segformer"), LABELS, "semantic", seed=0)
    save_trained(tmp_path / "result", checkpoint, checkpoint.network.state_dict(), PROVENANCE, license)
    head = (tmp_path / "result" / "README.md").read_text().split("\n---\n")[0]
    assert [line for line in head.splitlines() if line.startswith("license")] == lines
