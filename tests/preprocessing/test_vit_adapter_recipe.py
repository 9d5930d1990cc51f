"""ViT-Adapter's recipe: two resizes of OpenCV's, windows, and the pixels of its reference implementation."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from everymask.errors import CheckpointError
from everymask.geometry import Geometry, Size
from everymask.preprocessing import Preprocessing, WithinEdges, prepare
from everymask.tiling import Tiling
from shared import SHARED, needs_shared

PUBLIC: dict[str, Any] = {
    "image_processor_type": "ViTAdapterImageProcessor",
    "size": {"shortest_edge": 896, "longest_edge": 3584},
    "size_divisor": 32,
    "window": [896, 896],
    "stride": [512, 512],
    "do_rescale": False,
    "image_mean": [123.675, 116.28, 103.53],
    "image_std": [58.395, 57.12, 57.375],
}


@needs_shared
def test_golden_pixels() -> None:
    golden = SHARED / "golden" / "vit_adapter" / "tiny-a"
    config = json.loads((golden / "config.json").read_text())
    recipe = config["preprocess"]
    preprocessing = Preprocessing.from_config(
        {
            **PUBLIC,
            "size": {"shortest_edge": recipe["img_scale_short"], "longest_edge": recipe["img_scale_long"]},
            "size_divisor": recipe["size_divisor"],
            "window": config["crop_size"],
            "stride": config["stride"],
            "image_mean": recipe["mean"],
            "image_std": recipe["std"],
        }
    )
    image = np.ascontiguousarray(load_file(golden / "input.safetensors")["image_bgr"][..., ::-1])
    prepared = prepare(image, preprocessing)
    expected = load_file(golden / "expected.safetensors")["image.pixel_values"]
    assert prepared.pixel_values.shape == expected.shape == (1, 3, 96, 160)
    assert np.abs(prepared.pixel_values.numpy() - expected).max() <= 1e-5
    # One resize instead of two would give other pixels: the image goes by way of 96 x 150.
    assert preprocessing.resize == WithinEdges(96, 384)
    assert preprocessing.resize.target(Size(61, 95)) == Size(96, 150)
    assert prepared.geometry.windows == ((0, 0), (0, 32))


def test_the_public_recipe() -> None:
    preprocessing = Preprocessing.from_config(PUBLIC)
    assert preprocessing.tiling == Tiling(Size(896, 896), Size(512, 512), smooth=False)
    geometry = preprocessing.geometry(Size(480, 640))
    assert geometry == Geometry((480, 640), (896, 1216), (896, 896), ((0, 0), (0, 320)))
    # The examples that come with the golden files: 896, 1344 and 1600 pixels across.
    for width, lefts in ((896, [0]), (1344, [0, 448]), (1600, [0, 512, 704])):
        assert [left for _, left in preprocessing.geometry(Size(896, width)).windows] == lefts


@settings(derandomize=True, deadline=None, max_examples=200)
@given(height=st.integers(1, 6000), width=st.integers(1, 6000))
def test_sides_are_rounded_then_stretched_to_multiples(height: int, width: int) -> None:
    rule = WithinEdges(896, 3584)
    scale = min(3584 / max(height, width), 896 / min(height, width))
    resized = rule.target(Size(height, width))
    assert resized == (max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1))
    assert min(resized) <= 896
    assert max(resized) <= 3584
    stretched = Preprocessing.from_config(PUBLIC).geometry(Size(height, width)).resized
    for before, after in zip(resized, stretched, strict=True):
        assert after % 32 == 0
        assert 0 <= after - before < 32


def test_the_second_resize_happens_even_if_it_leads_back() -> None:
    config = {**PUBLIC, "size": {"shortest_edge": 90, "longest_edge": 100}, "window": [32, 32], "stride": [16, 16]}
    preprocessing = Preprocessing.from_config(config)
    image = np.random.default_rng(0).integers(0, 256, (32, 128, 3), np.uint8)
    prepared = prepare(image, preprocessing)  # by way of 25 x 100
    assert prepared.geometry.resized == prepared.geometry.original
    unchanged = Preprocessing.from_config({**config, "do_resize": False})
    assert not torch.equal(prepared.pixel_values, prepare(image, unchanged).pixel_values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 896}, r"size is 896, expected \{shortest_edge, longest_edge\}"),
        ({"size": {"shortest_edge": 896}}, r"size is .*, expected \{shortest_edge, longest_edge\}"),
        ({"size": {"shortest_edge": 896, "longest_edge": "x"}}, r"longest_edge is 'x', expected an integer"),
        ({"size_divisor": 0}, r"size_divisor is 0, expected an integer of at least 1"),
        ({"window": None}, r"window is None, expected \[height, width\]"),
        ({"window": [896]}, r"window is \[896\], expected \[height, width\]"),
        ({"stride": [512, 0]}, r"stride is \[512, 0\], expected \[height, width\]"),
        ({"stride": 512}, r"stride is 512, expected \[height, width\]"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: " + message):
        Preprocessing.from_config({**PUBLIC, **change})
