"""EoMT from a checkpoint's folder to a segmentation: as transformers does it, in both task styles and both layouts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import EomtConfig, EomtForUniversalSegmentation
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

import everymask
from everymask.checkpoints import load_checkpoint
from everymask.checkpoints.layouts import eomt
from everymask.geometry import Size
from everymask.labels import label_set
from everymask.preprocessing import ShortestEdge

WINDOWED = {"size": {"shortest_edge": 64, "longest_edge": None}, "do_split_image": True, "do_pad": False}
PADDED = {"size": {"shortest_edge": 64, "longest_edge": 64}, "do_split_image": False, "do_pad": True}
SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_blocks": 2,
    "num_queries": 9,
    "image_size": 64,
}


def picture(height: int, width: int) -> Image.Image:
    coarse = np.random.default_rng(height * width).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(folder: Path, processor: dict[str, Any]) -> EomtForUniversalSegmentation:
    """A network with random weights, which says something about every pixel, and its processor."""
    torch.manual_seed(0)
    names = {index: f"class {index}" for index in range(7)}
    network = EomtForUniversalSegmentation(EomtConfig(**SMALL, id2label=names)).eval()
    for name, tensor in network.state_dict().items():
        tensor.normal_(mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.3)
    network.class_predictor.weight.data.mul_(4)
    network.attn_mask_probs.zero_()
    network.save_pretrained(folder)
    EomtImageProcessorPil(**processor).save_pretrained(folder)
    return network


def theirs(network: EomtForUniversalSegmentation, processor: dict[str, Any], image: Image.Image) -> tuple[Any, Any]:
    their_processor = EomtImageProcessorPil(**processor)
    inputs = their_processor(image, return_tensors="pt")
    with torch.inference_mode():
        outputs = network(inputs["pixel_values"], patch_offsets=inputs["patch_offsets"])
    return their_processor, outputs


# Sizes on which transformers 5.23 rounds the longer side as the authors do.
SIZES = [(70, 140), (150, 75), (40, 170), (128, 64), (200, 300)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_windowed_semantic_equals_transformers(height: int, width: int, tmp_path: Path) -> None:
    """The maths is the same, so only ties may go another way."""
    network = saved(tmp_path, WINDOWED)
    image = picture(height, width)
    processor, outputs = theirs(network, WINDOWED, image)
    [expected] = processor.post_process_semantic_segmentation(outputs, [(height, width)], size=WINDOWED["size"])

    model = everymask.load(str(tmp_path), device="cpu", dtype="float32")
    assert model.tasks == ("semantic",)
    prepared = model.prepare(image)
    resized = get_size_with_aspect_ratio((height, width), 64)
    assert prepared.geometry.resized == resized
    assert len(prepared.geometry.windows) == len(list(prepared.windows())) == -(-max(resized) // 64) > 1
    result = model(image)
    assert (result.task, result.size) == ("semantic", Size(height, width))
    assert len(result.segments) > 1
    assert (result.label_map == expected.numpy()).mean() >= 0.999


def test_images_in_windows_do_not_depend_on_what_they_are_streamed_with(tmp_path: Path) -> None:
    saved(tmp_path, WINDOWED)
    model = everymask.load(str(tmp_path), device="cpu", dtype="float32")
    images = [picture(*size) for size in [*SIZES, (64, 64)]]
    for image, result in zip(images, model.stream(images, batch_size=3), strict=True):
        assert isinstance(result, everymask.Segmentation)
        alone = model(image)
        assert (result.label_map == alone.label_map).mean() >= 0.9999


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_padded_panoptic_is_close_to_transformers(height: int, width: int, tmp_path: Path) -> None:
    """transformers brings the masks to the padded size first and from there to the image's; here it is one step.

    (Its semantic reading of a padded image squeezes the padding into the picture: there is nothing to compare with.)
    """
    network = saved(tmp_path, PADDED)
    image = picture(height, width)
    processor, outputs = theirs(network, PADDED, image)
    [expected] = processor.post_process_panoptic_segmentation(
        outputs, [(height, width)], threshold=0.3, overlap_mask_area_threshold=0.0, size=PADDED["size"]
    )
    model = everymask.load(str(tmp_path), device="cpu", dtype="float32")
    assert model.tasks == ("panoptic", "instance", "semantic")
    result = model(image, threshold=0.3, overlap_threshold=0.0)
    label_of_id = {each["id"]: each["label_id"] for each in expected["segments_info"]}
    assert len(label_of_id) > 1
    theirs_map = np.vectorize(lambda id: label_of_id.get(id, -1))(expected["segmentation"].numpy())
    assert (result.label_map == theirs_map).mean() >= 0.95


def original(folder: Path, **changes: Any) -> torch.nn.Module:
    """A folder as EoMT's authors make it: a config of seven fields (and smaller sizes), a pickle, no processor."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "eomt",
        "backbone": "vit_small_patch14_reg4_dinov2",
        "patch_size": 16,
        "num_labels": 80,
        **SMALL,
        **changes,
    }
    torch.manual_seed(0)
    network, layout = eomt.build(config, config["num_labels"])
    published = layout.alternatives[-1].to_published(network)
    published |= {
        "network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1),
        "network.encoder.pixel_std": torch.ones(1, 3, 1, 1),
        "criterion.empty_weight": torch.ones(config["num_labels"] + 1),
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(published, folder / "pytorch_model.bin")
    return network.eval()


def test_the_authors_checkpoints_load_without_a_processor(tmp_path: Path) -> None:
    network = original(tmp_path / "eomt")
    checkpoint = load_checkpoint(tmp_path / "eomt")
    for key, tensor in network.state_dict().items():
        assert torch.equal(checkpoint.network.state_dict()[key], tensor), key
    assert checkpoint.preprocessing.resize == ShortestEdge(64, 64, round_longer=True)
    assert checkpoint.preprocessing.pad_to == Size(64, 64)
    result = everymask.load(str(tmp_path / "eomt"), device="cpu", dtype="float32")(picture(50, 90), threshold=0)
    assert result.size == Size(50, 90)


def test_the_catalogue_says_which_of_the_authors_checkpoints_take_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "tue-mps/cityscapes_semantic_eomt_large_1024"
    original(Path(name), num_labels=19)
    checkpoint = load_checkpoint(name)
    assert checkpoint.tasks == ("semantic",)
    assert checkpoint.preprocessing.tiling
    assert checkpoint.preprocessing.resize == ShortestEdge(64, None, round_longer=True)
    assert checkpoint.labels == label_set("cityscapes")

    name = "tue-mps/coco_instance_eomt_large_640"
    original(Path(name))
    checkpoint = load_checkpoint(name)
    assert checkpoint.tasks == ("instance",)
    assert checkpoint.preprocessing.tiling is None
    assert checkpoint.labels == label_set("coco-instance")
