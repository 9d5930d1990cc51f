"""A folder of ModelScope's, an image, and the classes that the published code finds in it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import everymask
from modelscope_folders import VIT_ADAPTER as TINY
from modelscope_folders import save_vit_adapter


@pytest.fixture
def model(tmp_path: Path) -> everymask.Segmenter:
    return everymask.load(save_vit_adapter(tmp_path), dtype="float32")


def test_an_image_gets_the_published_classes_in_every_pixel(model: everymask.Segmenter) -> None:
    expected = load_file(TINY / "expected.safetensors")
    image = load_file(TINY / "input.safetensors")["image_bgr"].numpy()[..., ::-1].copy()  # the golden file is BGR
    torch.testing.assert_close(model.prepare(image).pixel_values, expected["image.pixel_values"], rtol=0, atol=1e-5)
    result = model(image)
    classes = np.full(result.id_map.shape, -1)
    for segment in result.segments:
        classes[result.id_map == segment.id] = segment.label_id
    # Two classes may be as good as equal somewhere; the published scores are the same to 1e-4 of the largest.
    wrong = classes != expected["image.label_map"][0].numpy()
    scores = expected["image.semantic_logits"][0].topk(2, 0).values
    assert np.all((scores[0] - scores[1]).numpy()[wrong] <= 1e-4 * float(scores.max()))
    assert wrong.mean() <= 1e-3
    assert (
        sorted((each.label_id for each in result.segments), reverse=True) == expected["image.result_label_ids"].tolist()
    )


def test_every_pixel_has_one_mask(model: everymask.Segmenter) -> None:
    image = load_file(TINY / "input.safetensors")["image_bgr"].numpy()[..., ::-1].copy()
    expected = load_file(TINY / "expected.safetensors")
    masks = {each.label_id: each.mask for each in model(image).segments}
    found = np.stack([masks[int(index)] for index in expected["image.result_label_ids"]])
    assert (found.sum(0) == 1).all()
    assert (found != expected["image.result_masks"].numpy().astype(bool)).mean() <= 1e-3
