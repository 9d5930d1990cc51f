"""Depth, from an image to its result: alone, from a second model, and from one network with two heads."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DepthAnythingForDepthEstimation
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

import everymask
from everymask.errors import OptionError
from everymask.geometry import Size
from small_models import (
    DEPTH_ANYTHING,
    DEPTH_PROCESSOR,
    DPT_BOTH,
    DPT_PROCESSOR,
    METRIC,
    SEGFORMER,
    SEGFORMER_PROCESSOR,
    save_small,
)

DINOV2_PROCESSOR = {
    "image_processor_type": "DPTImageProcessor",
    "do_resize": False,
    "do_rescale": False,
    "do_pad": True,
    "size_divisor": 14,
    "image_mean": [123.675, 116.28, 103.53],
    "image_std": [58.395, 57.12, 57.375],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small checkpoints, by what they are."""
    root = tmp_path_factory.mktemp("models")
    return {
        "relative": save_small(root / "relative", DEPTH_ANYTHING, DEPTH_PROCESSOR),
        "metric": save_small(root / "metric", METRIC, DEPTH_PROCESSOR),
        "padded": save_small(root / "padded", METRIC, DINOV2_PROCESSOR),
        "semantic": save_small(root / "semantic", SEGFORMER, SEGFORMER_PROCESSOR),
        "both": save_small(root / "both", DPT_BOTH, DPT_PROCESSOR),
    }


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", ["relative", "metric"])
@pytest.mark.parametrize("size", [(90, 120), (140, 70), (300, 260)])
def test_equal_to_transformers(folders: dict[str, Path], kind: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    reference = DepthAnythingForDepthEstimation.from_pretrained(folders[kind]).eval()
    processor = DPTImageProcessorPil.from_pretrained(folders[kind])
    with torch.inference_mode():
        outputs = reference(**processor(Image.fromarray(image), return_tensors="pt"))
    [expected] = processor.post_process_depth_estimation(outputs, [size])
    theirs = expected["predicted_depth"].numpy()

    model = everymask.load(folders[kind], dtype="float32")
    assert (model.tasks, model.depth_kind) == (("depth",), kind)
    result = model(image)
    assert (result.task, result.size, result.segments, result.depth_kind) == ("depth", Size(*size), (), kind)
    assert result.depth is not None
    assert (result.depth.shape, result.depth.dtype) == (size, np.float32)
    assert theirs.std() > 1e-3 * abs(theirs).max()
    assert abs(result.depth - theirs).max() <= 1e-4 * abs(theirs).max()


def test_padding_on_all_sides_is_cropped_away(folders: dict[str, Path]) -> None:
    """A picture that needs padding has, at its pixels, the depth of the same picture padded by hand."""
    image = picture(100, 129)
    model = everymask.load(folders["padded"], dtype="float32")
    geometry = model.prepare(image).geometry
    assert (geometry.padded, geometry.offset) == (Size(112, 140), (6, 5))
    # The processor pads what is normalised with zeros, which is the mean colour: there is no such picture in uint8.
    with torch.inference_mode():
        whole = model.network(model.prepare(image).pixel_values).depth[0].numpy()
    depth = model(image).depth
    assert depth is not None
    assert whole.shape == (112, 140)
    np.testing.assert_allclose(depth, whole[6:106, 5:134], rtol=1e-4, atol=1e-5)


def test_a_second_model_adds_depth(folders: dict[str, Path]) -> None:
    image = picture(90, 120)
    segments, depth = (everymask.load(folders[each], dtype="float32") for each in ("semantic", "metric"))
    model = everymask.load(folders["semantic"], depth=folders["metric"], dtype="float32")
    assert (model.tasks, model.depth_kind) == (("semantic",), "metric")
    assert segments.depth_kind is None
    result = model(image)
    assert (result.label_map == segments(image).label_map).all()
    assert result.depth is not None
    np.testing.assert_array_equal(result.depth, depth(image).depth)
    assert len(result.segments) > 1
    for segment in result.segments:
        assert segment.depth is not None
        inside = result.depth[segment.mask]
        expected = (float(np.median(inside)), inside.min(), inside.max())
        assert dataclasses.astuple(segment.depth) == pytest.approx(expected)


def test_depth_beside_instances_that_overlap(folders: dict[str, Path]) -> None:
    model = everymask.load("street", depth=folders["relative"], dtype="float32")
    photo = sorted((Path(everymask.__file__).parent / "bundled" / "photos").glob("*.jpg"))[0]
    result = model(photo, task="instance", threshold=0.1)
    assert result.segments
    assert all(segment.depth is not None for segment in result.segments)
    for drawing in ("map", "shade", "order"):
        assert result.draw(depth=drawing).size == (result.size.width, result.size.height)


def test_one_network_with_two_heads(folders: dict[str, Path]) -> None:
    image = picture(80, 100)
    model = everymask.load(folders["both"], dtype="float32")
    assert (model.tasks, model.depth_kind) == (("semantic",), "relative")
    result = model(image)
    assert result.task == "semantic"
    assert result.depth is not None
    assert result.depth.shape == (80, 100)
    assert all(segment.depth is not None for segment in result.segments)
    with pytest.raises(OptionError, match="gives depth itself"):
        everymask.load(folders["both"], depth=folders["metric"], dtype="float32")


def test_streams_give_what_each_image_gives_alone(folders: dict[str, Path]) -> None:
    """Images whose inputs are of one size for one network and of several for the other, too."""
    images = [picture(60, 90), picture(90, 60, 1), picture(60, 90, 2), picture(100, 100, 3), picture(70, 105, 4)]
    for model in (
        everymask.load(folders["relative"], dtype="float32"),
        everymask.load(folders["semantic"], depth=folders["relative"], dtype="float32"),
        everymask.load(folders["semantic"], depth=folders["relative"], window=48, dtype="float32"),
        everymask.load(folders["both"], dtype="float32"),
    ):
        for image, result in zip(images, model.stream(images, batch_size=3), strict=True):
            assert isinstance(result, everymask.Segmentation)
            alone = model(image)
            assert result.depth is not None
            assert alone.depth is not None
            np.testing.assert_allclose(result.depth, alone.depth, rtol=1e-4, atol=1e-5)
            if alone.id_map is not None:
                assert (result.label_map == alone.label_map).mean() >= 0.999


@pytest.mark.parametrize(
    ("name", "depth", "message"),
    [
        ("semantic", "semantic", "gives no depth alone"),
        ("semantic", "both", "gives no depth alone"),
        ("metric", "relative", "gives depth itself"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(folders: dict[str, Path], name: str, depth: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        everymask.load(folders[name], depth=folders[depth], dtype="float32")


@pytest.mark.parametrize("format", ["depth-png", "depth-tiff", "depth-npz", "depth-map", "json", "overlay"])
def test_depth_is_saved(folders: dict[str, Path], format: str, tmp_path: Path) -> None:
    result: Any = everymask.load(folders["metric"], dtype="float32")(picture(40, 50))
    for path in result.save(tmp_path, formats=[format]):
        assert path.stat().st_size > 0
