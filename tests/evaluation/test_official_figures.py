"""The evaluation of published predictions on COCO's sample, held to panopticapi's figures."""

import json
from dataclasses import replace

import pytest
import torch

from color_model import color_checkpoint
from everymask import open_dataset
from everymask.engines.eager import EagerEngine
from everymask.evaluation import evaluate
from everymask.evaluation.drawing import truth_segmentation
from everymask.segmenter import Segmenter
from shared import SHARED, needs_shared

SAMPLE = SHARED / "data" / "panoptic_sample"


class Replay(Segmenter):
    """Gives the results of a file of predictions, image by image, in the classes of ``labels``."""

    def __init__(self, predictions, labels):
        checkpoint = replace(color_checkpoint(), labels=labels)
        super().__init__(checkpoint, EagerEngine(checkpoint.network, torch.device("cpu"), torch.float32))
        self._predictions = predictions

    def stream(self, sources, **options):
        for index, image in enumerate(sources):
            truth = self._predictions.read_truth(index)
            yield replace(truth_segmentation(truth, self._predictions.labels, "panoptic"), image=image)


@needs_shared
@pytest.mark.parametrize("quality", ["good", "bad"])
def test_panoptic_quality_is_the_official_one(quality):
    official = json.loads((SAMPLE / f"official_{quality}.json").read_text())
    truth = open_dataset(SAMPLE, format="coco-panoptic", split="truth")
    predictions = open_dataset(SAMPLE, format="coco-panoptic", split=f"prediction_{quality}")
    assert predictions.names == truth.names
    report = evaluate(Replay(predictions, predictions.labels), truth, "panoptic", worst=2)
    headline = report.figures.headline
    for ours, theirs in (("PQ", "pq"), ("SQ", "sq"), ("RQ", "rq")):
        assert headline[ours] == pytest.approx(official["All"][theirs], abs=1e-12)
        assert headline[f"{ours} things"] == pytest.approx(official["Things"][theirs], abs=1e-12)
        assert headline[f"{ours} stuff"] == pytest.approx(official["Stuff"][theirs], abs=1e-12)
    assert report.images == len(truth.names) == len(report.worst)
