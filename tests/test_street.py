"""The bundled model on its photographs, beside transformers on the same folder and beside itself in batches."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from transformers import Mask2FormerForUniversalSegmentation
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

from everymask import Segmentation, Segmenter, load
from everymask.checkpoints.find import BUNDLED
from everymask.datasets.opening import open_dataset
from everymask.metrics.semantic import ConfusionMatrix
from everymask.segmentation import TASKS
from shared import SHARED, needs_shared

PHOTOS = sorted((BUNDLED / "photos").glob("*.jpg"))
every_photo = pytest.mark.parametrize("photo", PHOTOS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def street() -> Segmenter:
    return load("street", device="cpu", dtype="float32")


class Transformers:
    """The same folder in transformers, with its own preparation and post-processing."""

    def __init__(self) -> None:
        folder = BUNDLED / "street"
        self.processor = Mask2FormerImageProcessorPil.from_pretrained(folder)
        self.model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()

    @torch.inference_mode()
    def label_map(self, photo: Path, street: Segmenter) -> NDArray[np.int32]:
        """The panoptic label of every pixel, -1 for none.

        transformers gives a pixel to the best query even where that query's own mask is below the mask threshold. The
        published code, and ours, leave such pixels out: so does this.
        """
        outputs, sizes = self._run(photo)
        stuff = [index for index, is_thing in enumerate(street.labels.things) if not is_thing]
        [found] = self.processor.post_process_panoptic_segmentation(
            outputs,
            threshold=0.8,
            mask_threshold=0.5,
            overlap_mask_area_threshold=0.8,
            label_ids_to_fuse=set(stuff),
            target_sizes=sizes,
        )
        label_map = np.full(sizes[0], -1, np.int32)
        for segment in found["segments_info"]:
            label_map[found["segmentation"].numpy() == segment["id"]] = segment["label_id"]
        label_map[~self._held(outputs, sizes[0])] = -1
        return label_map

    def _held(self, outputs: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Where the mask of the query that wins a pixel is at least 0.5, by way of 384 x 384 as in transformers."""
        score, label = outputs.class_queries_logits[0].softmax(-1).max(-1)
        kept = (score > 0.8) & (label < outputs.class_queries_logits.shape[-1] - 1)
        masks = F.interpolate(outputs.masks_queries_logits[:, kept], size=(384, 384), mode="bilinear").sigmoid()
        masks = F.interpolate(masks, size=size, mode="bilinear")[0]
        winner = (masks * score[kept, None, None]).argmax(0, keepdim=True)
        return (masks.gather(0, winner)[0] >= 0.5).numpy()

    @torch.inference_mode()
    def thing_masks(self, photo: Path, street: Segmenter) -> NDArray[np.bool_]:
        """For every class the union of its instances' masks, (C, H, W)."""
        outputs, sizes = self._run(photo)
        [found] = self.processor.post_process_instance_segmentation(
            outputs, threshold=0.5, mask_threshold=0.5, target_sizes=sizes, return_binary_maps=True
        )
        unions = np.zeros((len(street.labels), *sizes[0]), bool)
        for mask, segment in zip(found["segmentation"], found["segments_info"], strict=True):
            if street.labels.things[segment["label_id"]]:
                unions[segment["label_id"]] |= mask.numpy().astype(bool)
        return unions

    @torch.inference_mode()
    def class_map(self, photo: Path) -> NDArray[np.int64]:
        """The semantic class of every pixel."""
        outputs, sizes = self._run(photo)
        [found] = self.processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return found.numpy()

    def _run(self, photo: Path) -> tuple[Any, list[tuple[int, int]]]:
        image = Image.open(photo)
        return self.model(**self.processor(image, return_tensors="pt")), [(image.height, image.width)]


@pytest.fixture(scope="module")
def transformers() -> Transformers:
    return Transformers()


def test_street_says_what_it_is(street: Segmenter) -> None:
    assert street.tasks == TASKS
    assert street.license == "CC BY-NC 4.0"
    things = [name for name, is_thing in zip(street.labels.names, street.labels.things, strict=True) if is_thing]
    assert things == ["sign or symbol", "car", "pedestrian", "bicyclist"]
    assert (BUNDLED / "street" / "model.safetensors").stat().st_size <= 12e6


@every_photo
def test_panoptic_agrees_with_transformers(photo: Path, street: Segmenter, transformers: Transformers) -> None:
    ours = street(photo, task="panoptic").label_map
    assert (ours == transformers.label_map(photo, street)).mean() >= 0.95


@every_photo
def test_instances_agree_with_transformers(photo: Path, street: Segmenter, transformers: Transformers) -> None:
    result = street(photo, task="instance")
    expected = transformers.thing_masks(photo, street)
    ours = np.zeros_like(expected)
    for segment in result.segments:
        ours[segment.label_id] |= segment.mask
    assert (ours == expected).all(0).mean() >= 0.95


@every_photo
def test_semantic_agrees_with_transformers(photo: Path, street: Segmenter, transformers: Transformers) -> None:
    ours = street(photo, task="semantic").label_map
    assert (ours == transformers.class_map(photo)).mean() >= 0.95


def mixed_images() -> list[Image.Image]:
    """Photographs of several sizes and shapes, some of them of equal size."""
    images = [Image.open(photo) for photo in PHOTOS]
    return [
        *images,
        images[0].crop((100, 0, 340, 360)),
        images[1].resize((800, 600)),
        images[2].rotate(90, expand=True),
        images[3].crop((0, 100, 480, 260)),
        images[2].resize((333, 217)),
    ]


@pytest.fixture(scope="module")
def alone(street: Segmenter) -> dict[str, list[Segmentation]]:
    return {task: [street(image, task=task) for image in mixed_images()] for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_no_result_depends_on_its_companions(
    street: Segmenter, alone: dict[str, list[Segmentation]], task: str, batch_size: int
) -> None:
    """Whatever the batch size and order: the same segments, at most 1 pixel in 10,000 different."""
    images = mixed_images()
    order = random.Random(batch_size).sample(range(len(images)), len(images))
    results = street.stream([images[index] for index in order], batch_size=batch_size, task=task)
    for index, result in zip(order, results, strict=True):
        expected = alone[task][index]
        assert isinstance(result, Segmentation)
        assert [segment.label for segment in result.segments] == [segment.label for segment in expected.segments]
        different = sum(
            int((ours.mask != theirs.mask).sum())
            for ours, theirs in zip(result.segments, expected.segments, strict=True)
        )
        assert different <= result.size.height * result.size.width / 10_000


@needs_shared
def test_street_knows_camvid(street: Segmenter) -> None:
    """A sixteenth of the test photographs; the model card has the figure of all."""
    matrix = ConfusionMatrix(len(street.labels))
    data = open_dataset(SHARED / "data" / "camvid", split="test", task="semantic")
    for index in range(0, len(data.names), 16):
        result = street(data.read_image(index), task="semantic")
        matrix.add(result.label_map, data.read_truth(index).class_map(ignored=-1), [-1])
    assert matrix.scores().mean_iou >= 0.55
