"""The facts about a model, for people."""

from pathlib import Path

import everymask
from small_models import METRIC, SEGFORMER, SEGFORMER_PROCESSOR, save_small

DINOV2_PROCESSOR = {"image_processor_type": "DPTImageProcessor", "do_resize": False, "do_pad": True, "size_divisor": 14}


def test_a_network_that_scores_pixels(tmp_path: Path) -> None:
    model = everymask.load(save_small(tmp_path, SEGFORMER, SEGFORMER_PROCESSOR), device="cpu", dtype="float32")
    count = sum(each.numel() for each in model.network.parameters()) / 1e6
    assert model.describe() == {
        "model": str(tmp_path),
        "tasks": "semantic",
        "network": f"SegFormer, {count:.1f} M parameters",
        "classes": "4: sky, road, car, person",
        "input": "stretched to 64 x 64 pixels",
        "engine": "eager in float32 on cpu",
        "licence": "CC0 1.0",
    }
    windowed = everymask.load(tmp_path, window=(64, 96), overlap=0.5, dtype="float32").describe()["input"]
    assert windowed == ("images keep their size; windows of 64 x 96 pixels every 32 x 48 pixels, averaged smoothly")


def test_a_network_of_depth(tmp_path: Path) -> None:
    facts = everymask.load(save_small(tmp_path, METRIC, DINOV2_PROCESSOR), dtype="float32").describe()
    assert facts["tasks"] == "depth"
    assert facts["depth"] == "metric, in metres"
    assert facts["input"] == "images keep their size, padded to multiples of 14"
    assert "classes" not in facts


def test_street() -> None:
    facts = everymask.load("street", dtype="float32").describe()
    assert facts["input"].startswith("shorter side 448 pixels, longer one at most")
    assert facts["classes"].startswith("11: sky, building, ")
