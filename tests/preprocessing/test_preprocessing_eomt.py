"""EoMT's preprocessor configs: pixel values equal those of transformers' Pillow processor, padded or in windows."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

from everymask.errors import CheckpointError
from everymask.geometry import Geometry, Size
from everymask.images import read_image
from everymask.preprocessing import Preprocessing, ShortestEdge, prepare
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
EOMT: dict[str, Any] = {"image_processor_type": "EomtImageProcessorFast"}
PADDED = {**EOMT, "size": {"shortest_edge": 64, "longest_edge": 64}, "do_pad": True}
WINDOWED = {**EOMT, "size": {"shortest_edge": 48, "longest_edge": None}, "do_split_image": True, "do_pad": False}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@needs_shared
def test_golden_photo() -> None:
    golden = SHARED / "golden" / "transformers-4.57" / "eomt"
    preprocessing = Preprocessing.from_config(json.loads((golden / "preprocessor_config.json").read_text()))
    prepared = prepare(read_image(golden / "photo.png"), preprocessing)
    with safe_open(golden / "expected.safetensors", "pt") as tensors:
        reference = tensors.get_tensor("photo_pixel_values")
    assert prepared.pixel_values.shape == reference.shape
    assert (prepared.pixel_values - reference).abs().max() <= 1e-5


@needs_shared
@pytest.mark.parametrize("name", ["coco_panoptic_eomt_base_640_2x", "coco_panoptic_eomt_small_640_dinov3"])
def test_public_configs_are_read(name: str) -> None:
    preprocessing = Preprocessing.from_config(json.loads((CONFIGS / f"tue-mps--{name}.preprocessor.json").read_text()))
    assert preprocessing.resize == ShortestEdge(640, 640, round_longer=True)
    assert preprocessing.pad_to == Size(640, 640)
    assert preprocessing.black_padding
    assert preprocessing.tiling is None
    assert preprocessing.geometry(Size(480, 640)) == Geometry(Size(480, 640), Size(480, 640), Size(640, 640))
    assert preprocessing.geometry(Size(800, 300)) == Geometry(Size(800, 300), Size(640, 240), Size(640, 640))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    config=st.sampled_from([PADDED, WINDOWED]),
    height=st.integers(20, 200),
    width=st.integers(20, 200),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "do_normalize": st.just(False),
            "do_rescale": st.just(False),
            "image_mean": st.just([0.2, 0.5, 0.7]),
            "resample": st.sampled_from([0, 3]),
        },
    ),
)
def test_pixel_values_equal_transformers(config: dict[str, Any], height: int, width: int, changes: Any) -> None:
    config = {**config, **changes}
    edges = config["size"]
    theirs = get_size_with_aspect_ratio((height, width), edges["shortest_edge"], edges["longest_edge"])
    ours = Preprocessing.from_config(config).geometry(Size(height, width)).resized
    # transformers 5.23 rounds the longer side downwards, 4.57, which made the golden photo, to the next whole number.
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 1
    assume(ours == theirs)
    image = picture(height, width)
    prepared = prepare(image, Preprocessing.from_config(config))
    expected = EomtImageProcessorPil(**config)(Image.fromarray(image), return_tensors="pt")
    pixel_values = torch.cat(list(prepared.windows()))
    assert pixel_values.shape == expected["pixel_values"].shape
    bound = 1e-5 * max(1.0, float(expected["pixel_values"].abs().max()))
    assert (pixel_values - expected["pixel_values"].float()).abs().max() <= bound
    offsets = [int(start) for _, start, _ in expected["patch_offsets"]] or [0]
    assert [max(corner) for corner in prepared.geometry.windows] == offsets


def test_padding_is_black_and_windows_cover_what_is_too_long() -> None:
    prepared = prepare(picture(32, 64), Preprocessing.from_config(PADDED))
    assert prepared.geometry == Geometry(Size(32, 64), Size(32, 64), Size(64, 64))
    black = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(prepared.pixel_values[0, :, 32:].amax((1, 2)), black)
    torch.testing.assert_close(prepared.pixel_values[0, :, 32:].amin((1, 2)), black)

    prepared = prepare(picture(100, 48), Preprocessing.from_config(WINDOWED))
    assert prepared.pixel_values.shape == (1, 3, 100, 48)
    assert [window.shape for window in prepared.windows()] == [(1, 3, 48, 48)] * 3
    assert prepared.geometry == Geometry(Size(100, 48), Size(100, 48), Size(48, 48), ((0, 0), (26, 0), (52, 0)))


def test_fields_that_are_silent_take_the_processors_defaults() -> None:
    preprocessing = Preprocessing.from_config({**EOMT, "do_pad": None, "do_split_image": None, "size": None})
    assert preprocessing.resize == ShortestEdge(640, 640, round_longer=True)
    assert (preprocessing.pad_to, preprocessing.tiling, preprocessing.size_divisor) == (None, None, 0)
    assert Preprocessing.from_config({**WINDOWED, "size": 512}).resize == ShortestEdge(512, None, round_longer=True)
    # A limit of the longest edge makes the shortest one shorter than the window: the rest is padding.
    limited = Preprocessing.from_config({**WINDOWED, "size": {"shortest_edge": 48, "longest_edge": 96}})
    assert limited.geometry(Size(40, 400)) == Geometry(Size(40, 400), Size(10, 96), Size(48, 48), ((0, 0), (0, 48)))


@pytest.mark.parametrize(
    "size",
    [{"height": 64, "width": 64}, {"longest_edge": 64}, "64"],
)
def test_other_sizes_are_refused(size: Any) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: size is"):
        Preprocessing.from_config({**PADDED, "size": size})


def test_padding_needs_a_square() -> None:
    with pytest.raises(CheckpointError, match=r"longest_edge equal to shortest_edge, since images are padded"):
        Preprocessing.from_config({**PADDED, "size": {"shortest_edge": 64, "longest_edge": 128}})
