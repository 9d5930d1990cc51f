"""Preprocessing: every public configuration is read, and pixel values equal transformers' Pillow processors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.maskformer.image_processing_pil_maskformer import MaskFormerImageProcessorPil
from transformers.models.oneformer.image_processing_pil_oneformer import OneFormerImageProcessorPil

from everymask.errors import CheckpointError, ImageError
from everymask.geometry import Geometry, Size
from everymask.images import read_image
from everymask.preprocessing import FixedSize, Preprocessing, ShortestEdge, prepare
from shared import SHARED, needs_shared

CONFIGS = SHARED / "checkpoints" / "configs"

ORACLES = {
    "Mask2FormerImageProcessor": Mask2FormerImageProcessorPil,
    "MaskFormerImageProcessor": MaskFormerImageProcessorPil,
}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def expected(config: dict[str, Any], image: np.ndarray) -> torch.Tensor:
    oracle = ORACLES[config["image_processor_type"]](**config)
    values: torch.Tensor = oracle(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    return values.float()


@needs_shared
@pytest.mark.parametrize(
    "folder",
    [
        "transformers-4.57/mask2former_swin",
        "transformers-4.57/mask2former_resnet",
        "transformers-4.57/maskformer_swin",
        "transformers-4.57/maskformer_resnet",
        "transformers-5.23/mask2former_swin",
        "transformers-4.57/detr_timm",
        "transformers-4.57/detr_resnet",
    ],
)
def test_golden_photo(folder: str) -> None:
    golden = SHARED / "golden" / folder
    preprocessing = Preprocessing.from_config(json.loads((golden / "preprocessor_config.json").read_text()))
    prepared = prepare(read_image(golden / "photo.png"), preprocessing)
    with safe_open(golden / "expected.safetensors", "pt") as tensors:
        reference = tensors.get_tensor("photo_pixel_values")
    assert prepared.pixel_values.dtype == torch.float32
    assert prepared.pixel_values.shape == reference.shape
    assert (prepared.pixel_values - reference).abs().max() <= 1e-5


def public_configs() -> list[Path]:
    return sorted(path for family in ("mask2former", "maskformer") for path in CONFIGS.glob(f"*--{family}-*.pre*.json"))


@needs_shared
def test_every_public_config_is_read() -> None:
    rules = {}
    for path in public_configs():
        preprocessing = Preprocessing.from_config(json.loads(path.read_text()))
        assert preprocessing.size_divisor == 32
        assert preprocessing.resample == Image.Resampling.BILINEAR
        assert preprocessing.rescale_factor == pytest.approx(1 / 255)
        assert preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
        assert preprocessing.std == pytest.approx((0.229, 0.224, 0.225))
        assert preprocessing.pad_to is None
        rules[path.name.removesuffix(".preprocessor.json")] = preprocessing.resize
    assert len(rules) >= 40
    square = FixedSize(Size(384, 384))
    assert all(rule == square for name, rule in rules.items() if "mask2former" in name)
    assert rules["facebook--maskformer-swin-base-ade"] == ShortestEdge(640, 2560)  # int size, max_size
    assert rules["facebook--maskformer-swin-small-ade"] == ShortestEdge(512, 2048)
    assert rules["facebook--maskformer-swin-base-coco"] == ShortestEdge(800, 1333)
    assert rules["facebook--maskformer-resnet50-ade"] == ShortestEdge(800, 1333)  # {shortest_edge, longest_edge}


sizes = st.one_of(
    st.fixed_dictionaries({"shortest_edge": st.integers(16, 90), "longest_edge": st.integers(40, 160)}),
    st.fixed_dictionaries({"height": st.integers(8, 90), "width": st.integers(8, 90)}),
)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    kind=st.sampled_from(list(ORACLES)),
    height=st.integers(12, 120),
    width=st.integers(12, 120),
    size=sizes,
    divisor=st.sampled_from([0, 1, 7, 32]),
    resample=st.sampled_from([0, 1, 2, 3, 4, 5]),
    flags=st.fixed_dictionaries({}, optional={"do_resize": st.booleans(), "do_normalize": st.booleans()}),
    mean=st.sampled_from([[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]),
)
def test_equal_to_transformers(
    kind: str,
    height: int,
    width: int,
    size: dict[str, int],
    divisor: int,
    resample: int,
    flags: dict[str, bool],
    mean: list[float],
) -> None:
    config = {
        "image_processor_type": kind,
        "size": size,
        "size_divisor": divisor,
        "resample": resample,
        "image_mean": mean,
        **flags,
    }
    image = picture(height, width)
    prepared = prepare(image, Preprocessing.from_config(config))
    reference = expected(config, image)
    assert prepared.pixel_values.shape == reference.shape
    assert prepared.geometry.original == (height, width)
    assert prepared.geometry.resized == prepared.geometry.padded == reference.shape[2:]
    assert (prepared.pixel_values - reference).abs().max() <= 1e-5


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    height=st.integers(12, 120),
    width=st.integers(12, 120),
    size=st.one_of(sizes, st.integers(16, 90)),
    max_size=st.one_of(st.none(), st.integers(40, 160)),
    extra=st.fixed_dictionaries({}, optional={"size_divisor": st.just(32), "do_pad": st.booleans()}),
)
def test_detr_equals_transformers(
    height: int, width: int, size: dict[str, int] | int, max_size: int | None, extra: dict[str, Any]
) -> None:
    """Both forms of the size; a size divisor means nothing to this processor."""
    legacy = {} if max_size is None or not isinstance(size, int) else {"max_size": max_size}
    config = {"format": "coco_panoptic", "size": size, **legacy, **extra}
    image = picture(height, width)
    prepared = prepare(image, Preprocessing.from_config({**config, "feature_extractor_type": "DetrFeatureExtractor"}))
    reference = DetrImageProcessorPil(**config)(Image.fromarray(image), return_tensors="pt")
    assert prepared.pixel_values.shape == reference["pixel_values"].shape
    assert (prepared.pixel_values - reference["pixel_values"]).abs().max() <= 1e-5
    assert reference.get("pixel_mask", torch.ones(1)).all()  # an image alone has no padding


@needs_shared
def test_every_public_config_of_detr_is_read() -> None:
    paths = sorted(CONFIGS.glob("facebook--detr-*.preprocessor.json"))
    assert len(paths) == 3
    for path in paths:  # one of them has an int size beside max_size
        preprocessing = Preprocessing.from_config(json.loads(path.read_text()))
        assert preprocessing.resize == ShortestEdge(800, 1333)
        assert preprocessing.geometry(Size(480, 640)) == Geometry((480, 640), (800, 1066), (800, 1066))
        assert preprocessing.resample == Image.Resampling.BILINEAR
        assert preprocessing.rescale_factor == pytest.approx(1 / 255)
        assert preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))


def test_detr_needs_no_padding_for_an_image_alone() -> None:
    config = {"image_processor_type": "DetrImageProcessor", "pad_size": {"height": 900, "width": 900}, "size": 100}
    assert Preprocessing.from_config(config).geometry(Size(50, 80)).padded == (100, 160)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    height=st.integers(12, 120),
    width=st.integers(12, 120),
    size=sizes,
    extra=st.fixed_dictionaries(
        {"_max_size": st.integers(40, 160)}, optional={"size_divisor": st.just(32), "do_resize": st.booleans()}
    ),
)
def test_oneformer_equals_transformers(height: int, width: int, size: dict[str, int], extra: dict[str, Any]) -> None:
    """Neither ``_max_size`` nor a size divisor means anything here; what concerns texts is not looked at."""
    config = {"image_processor_type": "OneFormerImageProcessor", "size": size, **extra}
    image = picture(height, width)
    texts = {"class_info_file": "missing.json", "repo_path": "nobody/nothing", "metadata": {}, "num_text": None}
    prepared = prepare(image, Preprocessing.from_config({**config, **texts}))
    reference = OneFormerImageProcessorPil(**config)(Image.fromarray(image), ["semantic"], return_tensors="pt")
    assert prepared.pixel_values.shape == reference["pixel_values"].shape
    assert (prepared.pixel_values - reference["pixel_values"]).abs().max() <= 1e-5
    assert reference["pixel_mask"].all()  # an image alone has no padding


@needs_shared
def test_every_public_config_of_oneformer_is_read() -> None:
    paths = sorted(CONFIGS.glob("shi-labs--oneformer_*.preprocessor.json"))
    edges = {"ade20k_swin_tiny": (512, 2048), "ade20k": (640, 2560), "coco": (800, 1333), "cityscapes": (1024, 2048)}
    assert len(paths) == 7
    for path in paths:
        preprocessing = Preprocessing.from_config(json.loads(path.read_text()))
        assert preprocessing.resize == ShortestEdge(*next(edges[key] for key in edges if key in path.name))
        assert preprocessing.size_divisor == 0
        assert preprocessing.pad_to is None
        assert preprocessing.resample == Image.Resampling.BILINEAR
        assert preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    height=st.integers(100, 6000),
    width=st.integers(100, 6000),
    edges=st.sampled_from([(800, 1333), (640, 2560), (512, 2048), (1024, 2048)]),
)
def test_sizes_equal_to_transformers_at_full_scale(height: int, width: int, edges: tuple[int, int]) -> None:
    assert ShortestEdge(*edges).target(Size(height, width)) == get_size_with_aspect_ratio((height, width), *edges)


@pytest.mark.parametrize("kind", ORACLES)
def test_without_rescaling(kind: str) -> None:
    config = {"image_processor_type": kind, "size": {"height": 20, "width": 30}, "do_rescale": False}
    image = picture(40, 50)
    reference = expected(config, image)
    difference = (prepare(image, Preprocessing.from_config(config)).pixel_values - reference).abs().max()
    assert difference <= 1e-6 * reference.abs().max()


def test_padding_is_zero_after_normalising() -> None:
    config = {
        "image_processor_type": "Mask2FormerImageProcessor",
        "size": {"height": 20, "width": 30},
        "size_divisor": 0,
        "pad_size": {"height": 32, "width": 48},
    }
    image = picture(40, 50)
    prepared = prepare(image, Preprocessing.from_config(config))
    assert prepared.geometry == Geometry(Size(40, 50), Size(20, 30), Size(32, 48))
    assert (prepared.pixel_values - expected(config, image)).abs().max() <= 1e-5
    assert not prepared.pixel_values[:, :, 20:].any()
    assert not prepared.pixel_values[:, :, :, 30:].any()


def test_an_image_larger_than_the_padding_is_refused() -> None:
    config = {"image_processor_type": "MaskFormerImageProcessor", "do_resize": False, "pad_size": 32}
    with pytest.raises(ImageError, match=r"50 x 40 pixels becomes 50 x 40, more than the 32 x 32 .* pads to; resize"):
        prepare(picture(40, 50), Preprocessing.from_config(config))


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    config = {
        "image_processor_type": "Mask2FormerImageProcessor",
        "size": {"height": 32, "width": 64},
        "do_normalize": False,
        "do_rescale": False,
    }
    image = picture(32, 64)
    prepared = prepare(image, Preprocessing.from_config(config))
    assert np.array_equal(prepared.pixel_values[0].permute(1, 2, 0).numpy(), image)


def test_the_callers_image_is_left_alone() -> None:
    image = picture(32, 32)
    before = image.copy()
    image.setflags(write=False)
    config = {"image_processor_type": "Mask2FormerImageProcessor", "do_resize": False}
    prepare(image, Preprocessing.from_config(config)).pixel_values.fill_(0)
    assert np.array_equal(image, before)


def test_an_extreme_panorama_keeps_a_row() -> None:
    assert ShortestEdge(800, 1333).target(Size(1, 4000)) == Size(1, 1333)
    assert ShortestEdge(800, 1333).target(Size(4000, 1)) == Size(1333, 1)
    default = Preprocessing.from_config({"image_processor_type": "MaskFormerImageProcessor"})
    assert prepare(picture(1, 4000), default).pixel_values.shape == (1, 3, 32, 1344)


def test_defaults_are_those_of_transformers() -> None:
    for kind in ORACLES:
        image = picture(30, 40)
        values = prepare(image, Preprocessing.from_config({"image_processor_type": kind})).pixel_values
        assert values.shape == (1, 3, 800, 1088)
        assert (values - expected({"image_processor_type": kind}, image)).abs().max() <= 1e-5


def test_null_means_the_default() -> None:
    fields = ("size", "resample", "do_resize", "do_rescale", "do_normalize", "image_mean", "image_std", "size_divisor")
    config = {"image_processor_type": "MaskFormerImageProcessor"}
    assert Preprocessing.from_config(config | dict.fromkeys(fields)) == Preprocessing.from_config(config)


def test_a_single_mean_stands_for_three() -> None:
    config = {"image_processor_type": "MaskFormerImageProcessor", "image_mean": 0.5, "image_std": 0.25}
    preprocessing = Preprocessing.from_config(config)
    assert preprocessing.mean == (0.5, 0.5, 0.5)
    assert preprocessing.std == (0.25, 0.25, 0.25)


def test_legacy_fields() -> None:
    config = {"feature_extractor_type": "MaskFormerFeatureExtractor", "size": 512}
    assert Preprocessing.from_config(config).resize == ShortestEdge(512, 1333)
    assert Preprocessing.from_config(config | {"max_size": 2048}).resize == ShortestEdge(512, 2048)
    assert Preprocessing.from_config(config | {"_max_size": 2048}).resize == ShortestEdge(512, 2048)
    assert Preprocessing.from_config(config | {"size_divisibility": 64}).size_divisor == 64
    assert Preprocessing.from_config(config | {"size_divisibility": 0}).size_divisor == 0


@pytest.mark.parametrize("suffix", ["", "Fast", "Pil"])
def test_engines_of_one_processor_are_one_rule(suffix: str) -> None:
    names = ("Mask2FormerImageProcessor", "Mask2FormerImageProcessor" + suffix)
    first, second = (Preprocessing.from_config({"image_processor_type": name}) for name in names)
    assert first == second


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"image_processor_type": "SamImageProcessor"},
            r"is for SamImageProcessor; supported are Mask2Former.*MaskFor",
        ),
        ({}, r"names no image_processor_type; supported are Mask2Former"),
        ({"size": {"shortest_edge": 800}}, r"size is .*, expected an integer, \{height, width\}"),
        ({"size": "large"}, r"size is 'large', expected an integer"),
        ({"size": 0}, r"size is 0, expected an integer of at least 1"),
        ({"size": True}, r"size is True"),
        ({"size": {"height": -3, "width": 4}}, r"height is -3, expected an integer of at least 1"),
        ({"max_size": "1333"}, r"max_size is '1333'"),
        ({"size_divisor": -1}, r"size_divisor is -1, expected an integer of at least 0"),
        ({"size_divisor": 32.5}, r"size_divisor is 32.5"),
        ({"resample": 99}, r"resample is 99, expected the number of a Pillow filter"),
        ({"do_resize": 1}, r"do_resize is 1, expected true or false"),
        ({"rescale_factor": "1/255"}, r"rescale_factor is '1/255', expected a finite number"),
        ({"rescale_factor": float("nan")}, r"rescale_factor is nan, expected a finite number"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean is \[0.5, 0.5\], expected a number or a list of three"),
        ({"image_std": [0.5, 0.5, "x"]}, r"image_std is .* expected a number or a list of three"),
        ({"image_std": [0.5, 0.5, 0]}, r"image_std is .* expected three numbers other than 0"),
        ({"pad_size": {"height": 5}}, r"width is None, expected an integer of at least 1"),
    ],
)
def test_bad_configs(config: dict[str, Any], message: str) -> None:
    if config and "image_processor_type" not in config:
        config = {"image_processor_type": "Mask2FormerImageProcessor", **config}
    with pytest.raises(CheckpointError, match=message):
        Preprocessing.from_config(config)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((3, 5, 6), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_arrays_that_were_not_read_are_refused(image: np.ndarray) -> None:
    preprocessing = Preprocessing.from_config({"image_processor_type": "MaskFormerImageProcessor"})
    with pytest.raises(
        ImageError, match=r"expected \(H, W, 3\) uint8, got .* pass it through everymask.images.read_im"
    ):
        prepare(image, preprocessing)
