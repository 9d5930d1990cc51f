"""A network that scores pixels, from an image to its result: whole, in sliding windows, in batches."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import SegformerForSemanticSegmentation
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

import everymask
from everymask.errors import CheckpointError, OptionError
from everymask.geometry import Size
from everymask.tiling import Tiling
from small_models import DEPTH_ANYTHING, DEPTH_PROCESSOR, LABELS, SEGFORMER, SEGFORMER_PROCESSOR, save_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("segformer"), SEGFORMER, SEGFORMER_PROCESSOR)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coarse patches of colour: something for a network to tell apart."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [(90, 120), (64, 64), (33, 200), (300, 40)])
def test_equal_to_transformers(folder: Path, size: tuple[int, int]) -> None:
    image = picture(*size)
    reference = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    processor = SegformerImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        outputs = reference(**processor(Image.fromarray(image), return_tensors="pt"))
    [expected] = processor.post_process_semantic_segmentation(outputs, [size])

    model = everymask.load(folder, dtype="float32")
    assert model.tasks == ("semantic",)
    assert model.labels == LABELS
    result = model(image)
    assert (result.task, result.size, result.depth) == ("semantic", Size(*size), None)
    assert (result.label_map == expected.numpy()).mean() >= 0.999
    assert len(result.segments) > 1
    assert [each.area for each in result.segments] == sorted((each.area for each in result.segments), reverse=True)


@pytest.mark.parametrize("options", [{}, {"window": 48, "overlap": 0.5}], ids=["whole", "windows"])
def test_a_stream_gives_what_each_image_gives_alone(folder: Path, options: dict[str, Any]) -> None:
    model = everymask.load(folder, dtype="float32", **options)
    images = [picture(60, 90), picture(90, 60, 1), picture(60, 90, 2), picture(100, 100, 3), picture(60, 90, 4)]
    for image, result in zip(images, model.stream(images, batch_size=3), strict=True):
        assert isinstance(result, everymask.Segmentation)
        assert (result.label_map == model(image).label_map).mean() >= 0.9999


def test_a_window_that_covers_the_image_changes_nothing(folder: Path) -> None:
    image = picture(64, 64)
    whole, windowed = everymask.load(folder, dtype="float32"), everymask.load(folder, window=64, dtype="float32")
    assert (windowed(image).label_map == whole(image).label_map).mean() >= 0.9999
    # A larger one is as large as the image.
    assert windowed.prepare(picture(40, 50)).geometry.padded == Size(40, 50)


@pytest.mark.parametrize(
    ("window", "overlap", "tiling"),
    [
        (64, 0.5, Tiling(Size(64, 64), Size(32, 32), smooth=True)),
        ((48, 80), None, Tiling(Size(48, 80), Size(36, 60), smooth=True)),
        (40, 0, Tiling(Size(40, 40), Size(40, 40), smooth=True)),
    ],
)
def test_windows_slide_over_the_image_at_its_own_size(
    folder: Path, window: Any, overlap: float | None, tiling: Tiling
) -> None:
    """Against the definition: the logits of each window, weighted by how far a pixel lies from the window's edge."""
    image = picture(130, 170)
    model = everymask.load(folder, window=window, overlap=overlap, dtype="float32")
    prepared = model.prepare(image)
    assert prepared.geometry.resized == Size(130, 170)
    assert prepared.geometry.windows == tiling.corners(Size(130, 170))
    height, width = tiling.window
    total, weights = torch.zeros(len(LABELS), 130, 170), torch.zeros(130, 170)
    down, across = (1 - ((2 * torch.arange(side) + 1) / side - 1).abs() for side in tiling.window)
    weight = down[:, None] * across
    with torch.inference_mode():
        for top, left in prepared.geometry.windows:
            part = prepared.pixel_values[:, :, top : top + height, left : left + width]
            logits = F.interpolate(model.network(part).logits, size=tiling.window, mode="bilinear")[0]
            total[:, top : top + height, left : left + width] += logits * weight
            weights[top : top + height, left : left + width] += weight
    expected = (total / weights).argmax(0).numpy()
    assert (model(image).label_map == expected).mean() >= 0.999


def test_a_size_and_a_window_together(folder: Path) -> None:
    model = everymask.load(folder, size=96, window=64, dtype="float32")
    geometry = model.prepare(picture(200, 300)).geometry
    assert geometry.resized == Size(96, 144)
    assert geometry.padded == Size(64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 16}, "window is 16: give its side, or its height and width, in pixels, 32 or more"),
        ({"window": (64, 64, 3)}, "give its side, or its height and width"),
        ({"window": 64.0}, "give its side, or its height and width"),
        ({"window": "64"}, "give its side, or its height and width"),
        ({"window": True}, "give its side, or its height and width"),
        ({"overlap": 0.5}, "there is no window: give window, too"),
        ({"window": 64, "overlap": 1.0}, r"overlap is 1.0: give the part of a window from 0 to 0\.9"),
        ({"window": 64, "overlap": -0.1}, "overlap is -0.1"),
        ({"window": 64, "overlap": "half"}, "overlap is 'half'"),
    ],
)
def test_wrong_windows_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        everymask.load(folder, dtype="float32", **options)


def test_tasks_and_thresholds_that_pixels_do_not_have(folder: Path, tmp_path: Path) -> None:
    model = everymask.load(folder, dtype="float32")
    with pytest.raises(OptionError, match="cannot do the task 'panoptic': choose semantic"):
        model(picture(40, 40), task="panoptic")
    with pytest.raises(OptionError, match="threshold has no meaning for the semantic task"):
        model(picture(40, 40), threshold=0.5)
    save_small(tmp_path, DEPTH_ANYTHING, DEPTH_PROCESSOR)
    with pytest.raises(OptionError, match="does depth only, which cannot be joined from windows"):
        everymask.load(tmp_path, window=64, dtype="float32")
    with pytest.raises(OptionError, match="choose depth"):
        everymask.load(tmp_path, dtype="float32")(picture(40, 40), task="semantic")


def test_a_task_that_the_network_cannot_do_is_refused(tmp_path: Path) -> None:
    save_small(tmp_path, SEGFORMER, SEGFORMER_PROCESSOR)
    config = json.loads((tmp_path / "config.json").read_text())
    config["everymask"]["tasks"] = ["panoptic"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match='is said to do panoptic, but a network of its kind does semantic: correct "tasks"'
    ):
        everymask.load(tmp_path, dtype="float32")


def test_queries_are_read_in_windows_for_the_semantic_task_alone() -> None:
    street = everymask.load("street", window=192, dtype="float32")
    assert street.tasks == ("semantic",)
    result = street(picture(200, 300))
    assert result.task == "semantic"
    assert sum(segment.area for segment in result.segments) == 200 * 300
