"""The recipes of SegFormer, UPerNet, BEiT, DPT and Depth Anything: pixels equal transformers' Pillow processors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil, get_resize_output_image_size
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from everymask.errors import CheckpointError
from everymask.geometry import Geometry, Size
from everymask.images import read_image
from everymask.preprocessing import FitOneSide, FixedSize, Preprocessing, prepare
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"
ORACLES = {
    "SegformerImageProcessor": SegformerImageProcessorPil,
    "BeitImageProcessor": BeitImageProcessorPil,
    "DPTImageProcessor": DPTImageProcessorPil,
}
FAMILIES = ("nvidia--segformer", "openmmlab--upernet", "microsoft--beit", "Intel--dpt", "facebook--dpt", "depth-any")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def processor(config: dict[str, Any]) -> str:
    name = config.get("image_processor_type") or config["feature_extractor_type"].replace(
        "FeatureExtractor", "ImageProcessor"
    )
    return str(name)


def check(config: dict[str, Any], height: int, width: int) -> Geometry:
    """Compares one picture's pixels with transformers'; returns the geometry."""
    image = picture(height, width)
    prepared = prepare(image, Preprocessing.from_config(config))
    oracle = ORACLES[processor(config)](**config)
    expected = oracle(Image.fromarray(image), return_tensors="pt")["pixel_values"].float()
    assert prepared.pixel_values.dtype == torch.float32
    assert prepared.pixel_values.shape == expected.shape
    assert (prepared.pixel_values - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert prepared.geometry.original == (height, width)
    assert prepared.geometry.padded == expected.shape[2:]
    return prepared.geometry


@needs_shared
@pytest.mark.parametrize(
    "family", ["segformer", "upernet_convnext", "beit", "dpt_semantic", "dpt_depth", "depth_anything"]
)
def test_golden_photo(family: str) -> None:
    golden = SHARED / "golden" / "transformers-4.57" / family
    preprocessing = Preprocessing.from_config(json.loads((golden / "preprocessor_config.json").read_text()))
    prepared = prepare(read_image(golden / "photo.png"), preprocessing)
    with safe_open(golden / "expected.safetensors", "pt") as tensors:
        expected = tensors.get_tensor("photo_pixel_values")
    assert prepared.pixel_values.shape == expected.shape
    assert (prepared.pixel_values - expected).abs().max() <= 1e-5


def public_configs() -> dict[str, Path]:
    paths = (path for family in FAMILIES for path in sorted(CONFIGS.glob(f"{family}*.preprocessor.json")))
    return {path.name.removesuffix(".preprocessor.json"): path for path in paths}


@needs_shared
def test_every_public_config_is_read() -> None:
    recipes = {name: Preprocessing.from_config(json.loads(path.read_text())) for name, path in public_configs().items()}
    assert len(recipes) == 39
    squares = {
        "nvidia--segformer-b0-finetuned-ade-512-512": 512,
        "nvidia--segformer-b5-finetuned-ade-640-640": 640,
        "nvidia--segformer-b2-finetuned-cityscapes-1024-1024": 1024,
        "openmmlab--upernet-swin-large": 512,
        "openmmlab--upernet-convnext-tiny": 512,
        "microsoft--beit-base-finetuned-ade-640-640": 640,
        "Intel--dpt-large-ade": 480,
        "Intel--dpt-large": 384,
        "Intel--dpt-beit-large-512": 512,
        "Intel--dpt-swinv2-tiny-256": 256,
    }
    for name, side in squares.items():
        assert recipes[name].resize == FixedSize(Size(side, side))
    for name, recipe in recipes.items():
        assert (recipe.pad_to, recipe.tiling) == (None, None)
        halves = name.startswith(("microsoft--beit", "Intel--dpt"))
        zero_to_one = [value * (1 if recipe.rescale_factor == 1 / 255 else 1 / 255) for value in recipe.mean]
        assert zero_to_one == pytest.approx((0.5,) * 3 if halves else (0.485, 0.456, 0.406))
        cubic = name.startswith(("depth-any", "Intel--dpt-swinv2"))
        assert recipe.resample == (Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR)
        assert recipe.pad_divisor == (14 if name.startswith("facebook--dpt-dinov2") else 0)
        multiples = [(14, "depth-any"), (32, "Intel--dpt-beit"), (1, "Intel--dpt"), (1, "facebook--dpt"), (0, "")]
        assert recipe.size_divisor == next(multiple for multiple, start in multiples if name.startswith(start))
    anything = recipes["depth-anything--Depth-Anything-V2-Small-hf"]
    assert anything.resize == FitOneSide(Size(518, 518), 14)
    assert anything.geometry(Size(480, 640)).resized == (518, 686)
    dinov2 = recipes["facebook--dpt-dinov2-small-nyu"]
    assert dinov2.resize is None
    assert dinov2.geometry(Size(480, 640)) == Geometry((480, 640), (480, 640), (490, 644), offset=(5, 2))


@needs_shared
@pytest.mark.parametrize(("height", "width"), [(60, 81), (701, 333), (480, 640)])
def test_public_configs_equal_transformers(height: int, width: int) -> None:
    contents = {path.read_text() for path in public_configs().values()}
    assert len(contents) >= 9
    for content in sorted(contents):
        check(json.loads(content), height, width)


common = {
    "resample": st.sampled_from([0, 1, 2, 3, 4, 5]),
    "do_resize": st.booleans(),
    "do_rescale": st.booleans(),
    "do_normalize": st.booleans(),
    "do_reduce_labels": st.booleans(),
    "image_mean": st.sampled_from([[0.485, 0.456, 0.406], [0.2, 0.5, 0.7]]),
}
sizes = st.one_of(
    st.integers(8, 90), st.fixed_dictionaries({"height": st.integers(8, 90), "width": st.integers(8, 90)})
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["SegformerImageProcessor", "BeitImageProcessor"]),
    height=st.integers(12, 120),
    width=st.integers(12, 120),
    size=sizes,
    extra=st.fixed_dictionaries({}, optional=common | {"crop_size": st.just(32), "do_center_crop": st.just(False)}),
)
def test_stretched_images_equal_transformers(
    kind: str, height: int, width: int, size: dict[str, int] | int, extra: dict[str, Any]
) -> None:
    check({"image_processor_type": kind, "size": size, **extra}, height, width)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(
    height=st.integers(12, 120),
    width=st.integers(12, 120),
    size=sizes,
    multiple=st.sampled_from([1, 7, 14, 32]),
    keep=st.booleans(),
    padding=st.fixed_dictionaries(
        {}, optional={"do_pad": st.booleans(), "size_divisor": st.sampled_from([None, 1, 14, 32])}
    ),
    extra=st.fixed_dictionaries({}, optional=common),
)
def test_dpt_equals_transformers(
    height: int,
    width: int,
    size: dict[str, int] | int,
    multiple: int,
    keep: bool,
    padding: dict[str, Any],
    extra: dict[str, Any],
) -> None:
    wanted = Size(size, size) if isinstance(size, int) else Size(**size)
    # transformers fails where a side is rounded to nothing. Where each side of the file's size is exactly between two
    # multiples, rounding errors that depend on the image decide between them in transformers; here the even one wins.
    assume(all(theirs(Size(height, width), wanted, keep, multiple)))
    assume(keep or all(side % multiple != multiple / 2 for side in wanted))
    config = {
        "image_processor_type": "DPTImageProcessor",
        "size": size,
        "ensure_multiple_of": multiple,
        "keep_aspect_ratio": keep,
        **padding,
        **extra,
    }
    geometry = check(config, height, width)
    if not config.get("do_pad") or config.get("size_divisor") is None:
        assert geometry.padded == geometry.resized


def theirs(original: Size, size: Size, keep: bool, multiple: int) -> Size:
    image = np.broadcast_to(np.uint8(0), (3, *original))
    resized = get_resize_output_image_size(image, tuple(size), keep, multiple)
    return Size(resized.height, resized.width)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    height=st.integers(40, 6000), width=st.integers(40, 6000), side=st.sampled_from([(518, 14), (384, 32), (98, 14)])
)
def test_one_side_is_fitted_at_full_scale_too(height: int, width: int, side: tuple[int, int]) -> None:
    size, original = Size(side[0], side[0]), Size(height, width)
    expected = theirs(original, size, True, side[1])
    assume(all(expected))
    assert FitOneSide(size, side[1]).target(original) == expected


def test_an_extreme_panorama_keeps_a_row_of_patches() -> None:
    assert FitOneSide(Size(98, 98), 14).target(Size(10, 4000)) == (14, 98)
    assert FitOneSide(Size(98, 98), 14).target(Size(300, 4)) == (98, 14)
    config = {"image_processor_type": "DPTImageProcessor", "size": 8, "ensure_multiple_of": 32}
    assert Preprocessing.from_config(config).geometry(Size(40, 50)).resized == (32, 32)


def test_padding_is_in_the_middle_and_zero_after_normalising() -> None:
    config = {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": False,
        "do_pad": True,
        "size_divisor": 14,
    }
    prepared = prepare(picture(31, 42), Preprocessing.from_config(config))
    assert prepared.geometry == Geometry(Size(31, 42), Size(31, 42), Size(42, 42), offset=(5, 0))
    assert not prepared.pixel_values[:, :, :5].any()
    assert not prepared.pixel_values[:, :, 36:].any()
    assert prepared.pixel_values[:, :, 5].any()
    assert prepared.pixel_values[:, :, 35].any()


@pytest.mark.parametrize("kind", ORACLES)
def test_fields_that_are_silent_take_the_processors_defaults(kind: str) -> None:
    check({"image_processor_type": kind}, 30, 40)
    fields = ("size", "resample", "do_resize", "do_rescale", "do_normalize", "image_mean", "image_std", "do_pad")
    nulls: dict[str, Any] = {"image_processor_type": kind, **dict.fromkeys((*fields, "size_divisor", "crop_size"))}
    assert Preprocessing.from_config(nulls) == Preprocessing.from_config({"image_processor_type": kind})


@pytest.mark.parametrize("kind", ["Segformer", "Beit", "DPT"])
def test_all_names_of_a_processor_are_one_rule(kind: str) -> None:
    config = {"size": 96, "reduce_labels": True, "_valid_processor_keys": ["images"]}
    recipes = [
        Preprocessing.from_config({**config, "image_processor_type": kind + name})
        for name in ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil")
    ]
    recipes.append(Preprocessing.from_config({**config, "feature_extractor_type": kind + "FeatureExtractor"}))
    assert recipes == recipes[:1] * 4
    assert recipes[0].resize == FixedSize(Size(96, 96))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("Segformer", {"size": {"shortest_edge": 512}}, r"size is .*, expected an integer or \{height, width\}"),
        ("Beit", {"size": {"height": 512}}, r"size is .*, expected an integer or \{height, width\}"),
        ("DPT", {"size": "384"}, r"size is '384', expected an integer"),
        ("DPT", {"size": {"height": 384, "width": 0}}, r"width is 0, expected an integer of at least 1"),
        ("Beit", {"do_center_crop": True}, r"do_center_crop is True, expected false, since .* whole image"),
        ("Beit", {"do_center_crop": 1}, r"do_center_crop is 1, expected true or false"),
        ("DPT", {"ensure_multiple_of": 0}, r"ensure_multiple_of is 0, expected an integer of at least 1"),
        ("DPT", {"keep_aspect_ratio": "yes"}, r"keep_aspect_ratio is 'yes', expected true or false"),
        ("DPT", {"do_pad": True, "size_divisor": 0}, r"size_divisor is 0, expected an integer of at least 1"),
        ("Segformer", {"resample": 9}, r"resample is 9, expected the number of a Pillow filter"),
    ],
)
def test_mistakes_are_named(kind: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: " + message):
        Preprocessing.from_config({"image_processor_type": f"{kind}ImageProcessor", **change})
