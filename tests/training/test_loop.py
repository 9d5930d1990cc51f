"""A run from start to end, for every family: what it writes, and that it learns."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

import everymask
from everymask.checkpoints import load_checkpoint
from everymask.errors import OptionError
from everymask.evaluation import evaluate
from everymask.geometry import Size
from everymask.segmentation import DepthKind
from everymask.training.adaptation import CLASS_HEADS, adapt, untrained
from everymask.training.defaults import default_recipe
from everymask.training.job import TrainingJob
from everymask.training.loop import train
from everymask.training.recipe import changed
from everymask.training.step import Trainer
from parity import relative_error
from small_models import DEPTH_ANYTHING, DEPTH_PROCESSOR, save_small
from trainable import CONFIGS, LABELS, SOURCE_LABELS, DrawnData, job_for


def column(file: Path, name: str) -> list[float]:
    with file.open(newline="") as opened:
        return [float(row[name]) for row in csv.DictReader(opened)]


@pytest.mark.parametrize("family", CONFIGS)
def test_what_is_trained_here_gives_the_same_logits_in_transformers(family: str, tmp_path: Path) -> None:
    result = train(job_for(tmp_path, family, steps=2))
    assert result.folder == tmp_path / "run" / "last"
    losses = column(tmp_path / "run" / "steps.csv", "loss")
    assert len(losses) == 2
    assert all(math.isfinite(each) for each in losses)

    trained = load_checkpoint(result.folder)
    assert trained.labels == LABELS
    before = load_checkpoint(tmp_path / "start").network.state_dict()
    assert any(not torch.equal(tensor, before[key]) for key, tensor in trained.network.state_dict().items())
    reference = getattr(transformers, CONFIGS[family]["architectures"][0]).from_pretrained(result.folder).eval()
    pixel_values = torch.randn(1, 3, 64, 64)
    tokens = {} if trained.task_tokens is None else {"task_inputs": trained.task_tokens["panoptic"][None]}
    ours = {} if trained.task_tokens is None else {"task_tokens": trained.task_tokens["panoptic"][None]}
    with torch.inference_mode():
        expected, output = reference(pixel_values, **tokens), trained.network(pixel_values, **ours)
    pairs = {"class_queries_logits": "class_logits", "masks_queries_logits": "mask_logits", "pred_masks": "mask_logits"}
    compared = [(theirs, mine) for theirs, mine in pairs.items() if theirs in expected]
    compared = compared or [("logits", "logits")]
    for theirs, mine in compared:
        assert relative_error(getattr(output, mine), expected[theirs]) <= 1e-4


def test_a_run_writes_figures_pictures_and_the_best_and_last_network(tmp_path: Path) -> None:
    job = job_for(tmp_path, "segformer", steps=6, held_out=2, validation_interval=2, ema_decay=0.9)
    result = train(job)
    run = tmp_path / "run"
    assert result.folder == run / "best"
    assert column(run / "steps.csv", "step") == [1, 2, 3, 4, 5, 6]
    assert column(run / "validation.csv", "step") == [2, 4, 6]
    assert result.figures["mIoU"] == max(column(run / "validation.csv", "mIoU"))
    assert {path.name for path in run.iterdir()} == {
        "best",
        "last",
        "pictures",
        "state.pt",
        "steps.csv",
        "tensorboard",
        "validation.csv",
    }
    pictures = sorted(path.relative_to(run / "pictures") for path in (run / "pictures").rglob("*.png"))
    assert pictures == [Path(f"step-{step:07d}/drawn-{index}.png") for step in (2, 4, 6) for index in (0, 1)]
    with Image.open(run / "pictures" / pictures[0]) as picture:
        assert picture.width > 3 * 64
    for name in ("best", "last"):
        report = evaluate(everymask.load(run / name, device="cpu", dtype="float32"), DrawnData(2), "semantic")
        step = column(run / "validation.csv", "mIoU").index(result.figures["mIoU"]) if name == "best" else -1
        assert report.figures.headline["mIoU"] == pytest.approx(column(run / "validation.csv", "mIoU")[step])
    card = (run / "best" / "README.md").read_text()
    assert "drawn boxes (8 images)" in card
    assert f"| mIoU | {result.figures['mIoU']:.4f} |" in card


def test_tensorboard_has_the_scalars_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(job_for(tmp_path, "segformer", steps=4, held_out=1, validation_interval=4))
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    board.Reload()
    assert {"training/loss", "training/learning rate", "validation/mIoU"} <= set(board.Tags()["scalars"])
    read = [each.value for each in board.Scalars("training/loss")]
    assert read == pytest.approx(column(tmp_path / "run" / "steps.csv", "loss"))
    assert [each.step for each in board.Images("validation/drawn-0")] == [4]


def test_it_learns(tmp_path: Path) -> None:
    job = job_for(tmp_path, "segformer", images=4, steps=60, batch_size=4, learning_rate=0.01)
    train(job)
    losses = column(tmp_path / "run" / "steps.csv", "loss")
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_accumulated_parts_are_one_batch(tmp_path: Path) -> None:
    """MaskFormer has no batch norm, and each of the drawn images has as many segments as another here."""
    whole, parts = (
        job_for(tmp_path / str(count), "maskformer", batch_size=4, accumulation=count, data=DrawnData(8, boxes=0))
        for count in (1, 2)
    )
    train(whole)
    train(parts)
    first, second = (column(tmp_path / count / "run" / "steps.csv", "loss") for count in ("1", "2"))
    assert first == pytest.approx(second, rel=1e-4)
    norms = [column(tmp_path / count / "run" / "steps.csv", "gradient norm") for count in ("1", "2")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    from everymask.training.batches import batches
    from everymask.training.job import make_fabric, samples_of

    job = job_for(tmp_path, "maskformer", clip_norm=0.01)
    fabric = make_fabric(job)
    trainer = Trainer.of(fabric, job.checkpoint.network, job.recipe)
    seen: list[float] = []
    trainer.optimizer.register_step_pre_hook(
        lambda *_: seen.append(
            math.hypot(*(each.grad.norm().item() for each in trainer.network.parameters() if each.grad is not None))
        )
    )
    figures = trainer.step(batches(samples_of(job), job.recipe))
    assert figures["gradient norm"] > 1
    assert seen == [pytest.approx(0.01, rel=1e-3)]


def test_eomt_ends_without_masked_attention(tmp_path: Path) -> None:
    result = train(job_for(tmp_path, "eomt", steps=6, ema_decay=0.9))
    assert not load_checkpoint(result.folder).network.mask_probabilities.any()


def test_a_loss_that_is_no_number_ends_the_run_with_the_cure(tmp_path: Path) -> None:
    job = job_for(tmp_path, "segformer", learning_rate=1e30, steps=20)
    with pytest.raises(OptionError, match=r"no finite number any more.*take a lower learning rate"):
        train(job)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    train(job_for(tmp_path, "segformer"))
    with pytest.raises(OptionError, match="holds a run of 3 steps: resume it"):
        train(job_for(tmp_path, "segformer"))


def test_other_settings_do_not_resume_a_run(tmp_path: Path) -> None:
    train(job_for(tmp_path, "segformer"))
    with pytest.raises(OptionError, match=r"other settings \(batch_size was 2 and is 4\)"):
        train(job_for(tmp_path, "segformer", resume=True, batch_size=4))


def test_data_of_another_size_is_cut_to_the_crop(tmp_path: Path) -> None:
    result = train(job_for(tmp_path, "mask2former", data=DrawnData(4, size=Size(50, 90)), crop=[64, 96]))
    config = json.loads((result.folder / "config.json").read_text())
    assert config["everymask"]["tasks"] == ["panoptic", "instance", "semantic"]


@dataclass(frozen=True)
class DrawnDepth(DrawnData):
    """Boxes whose later ones are nearer."""

    depth_kind: DepthKind = "relative"

    def read_depth(self, index: int) -> NDArray[np.float32]:
        return self._id_map(index)[0].astype(np.float32)


def test_depth_is_learned(tmp_path: Path) -> None:
    start = adapt(load_checkpoint(save_small(tmp_path / "start", DEPTH_ANYTHING, DEPTH_PROCESSOR)), LABELS, "depth", 0)
    recipe = default_recipe(start.config, "depth", start.preprocessing, start.labels)
    recipe = changed(recipe, {"steps": 3, "batch_size": 2, "crop": [70, 70], "learning_rate": 1e-3})
    result = train(TrainingJob(start, DrawnDepth(4, size=Size(70, 70)), None, "depth", recipe, tmp_path / "run"))
    assert all(math.isfinite(each) for each in column(tmp_path / "run" / "steps.csv", "loss"))
    trained = load_checkpoint(result.folder)
    assert (trained.tasks, trained.depth_kind) == (("depth",), "relative")
    before = start.network.state_dict()
    assert any(not torch.equal(tensor, before[key]) for key, tensor in trained.network.state_dict().items())


VIT_ADAPTER = {
    "model_type": "vit_adapter",
    "img_size": [64, 64],
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "conv_inplane": 8,
    "feat_channels": 64,
    "pixel_decoder_layers": 1,
    "pixel_decoder_ffn": 48,
    "decoder_layers": 3,
    "decoder_ffn": 64,
    "num_queries": 8,
}
DINOV3 = {**CONFIGS["eomt"], "model_type": "eomt_dinov3", "architectures": ["EomtDinov3ForUniversalSegmentation"]}


@pytest.mark.parametrize("config", [VIT_ADAPTER, DINOV3], ids=["vit_adapter", "eomt_dinov3"])
def test_networks_of_further_files_train_from_a_config(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    start = adapt(untrained(tmp_path), LABELS, "semantic", seed=0, from_scratch=True)
    recipe = default_recipe(start.config, "semantic", start.preprocessing, LABELS)
    recipe = changed(recipe, {"steps": 2, "batch_size": 2, "crop": [64, 64], "precision": "32-true"})
    result = train(TrainingJob(start, DrawnData(4), None, "semantic", recipe, tmp_path / "run"))
    model = everymask.load(result.folder, device="cpu", dtype="float32")
    assert model.labels == LABELS
    assert model(DrawnData(1).read_image(0)).size == Size(64, 64)
    again = adapt(load_checkpoint(result.folder), SOURCE_LABELS, "semantic", seed=0)
    trained = load_checkpoint(result.folder).network.state_dict()
    changed_keys = {key for key, each in again.network.state_dict().items() if not torch.equal(each, trained[key])}
    assert {key.rpartition(".")[0] for key in changed_keys} == set(CLASS_HEADS[config["model_type"]])
