"""What one batch tells before a run."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from everymask.datasets.dataset import Truth, TruthSegment
from everymask.errors import DataError
from everymask.segmentation import Region
from everymask.training.batch import Batch
from everymask.training.preflight import label_statistics, preflight
from everymask.training.targets import Targets
from trainable import LABELS, DrawnData, job_for


@dataclass(frozen=True)
class Labelled(DrawnData):
    """Drawn boxes of whose labels only the first ``rows`` rows are there, all of class ``label``."""

    rows: int = 0
    label: int = 0

    def read_truth(self, index: int) -> Truth:
        id_map = np.zeros(self.size, np.int32)
        id_map[: self.rows] = 1
        if not self.rows:
            return Truth(self.size, (), id_map)
        return Truth(self.size, (TruthSegment(self.label, Region(id_map, 1), int(id_map.sum())),), id_map)


def test_statistics_of_class_maps() -> None:
    maps = torch.tensor([[[0, 0, 1, -1]], [[1, 1, 1, -1]]])
    found = label_statistics([Batch(torch.zeros(2, 3, 1, 4), class_maps=maps)], LABELS)
    assert found is not None
    assert (found.images, found.ignored, found.segments) == (2, 0.25, None)
    assert found.classes == {"red box": pytest.approx(4 / 6), "background": pytest.approx(2 / 6)}


def test_statistics_of_segments() -> None:
    targets = (
        Targets(torch.tensor([2, 0]), torch.tensor([[0, 0, 1, -1]])),
        Targets(torch.tensor([2]), torch.tensor([[0, -1, -1, -1]])),
    )
    found = label_statistics([Batch(torch.zeros(2, 3, 1, 4), targets)], LABELS)
    assert found is not None
    assert (found.images, found.ignored, found.segments) == (2, 0.5, 1.5)
    assert found.classes == {"green box": 0.75, "background": 0.25}


@pytest.mark.parametrize("family", ["segformer", "mask2former"])
def test_a_good_run_has_no_warning_and_its_loss_falls(family: str, tmp_path: Path) -> None:
    job = job_for(tmp_path, family, learning_rate=3e-3)
    before = copy.deepcopy(job.checkpoint.network.state_dict())
    found = preflight(job)
    assert found.last_loss < found.first_loss
    assert found.warnings == ()
    assert found.labels is not None
    assert found.labels.images == 2
    assert found.seconds > 0
    assert found.memory is not None
    assert found.available is not None
    assert 50e6 < found.memory < found.available
    for key, tensor in job.checkpoint.network.state_dict().items():
        assert torch.equal(tensor, before[key])
    assert not (tmp_path / "run").exists()


def test_labels_that_are_all_ignored_are_refused(tmp_path: Path) -> None:
    job = replace(job_for(tmp_path, "segformer"), data=Labelled(4))
    with pytest.raises(DataError, match=r"no pixel of the first 2 images of drawn boxes has a label.*everymask check"):
        preflight(job)


def test_hardly_any_labels_and_a_single_class_are_told(tmp_path: Path) -> None:
    job = job_for(tmp_path, "segformer", learning_rate=3e-3, augmentation={"scale": [1.0, 1.0]})
    ignored, single = preflight(replace(job, data=Labelled(4, rows=4, label=2))).warnings
    assert ignored.startswith("94% of the pixels have no label")
    assert single.startswith('all labelled pixels are "green box"')


def test_a_loss_that_does_not_fall_is_told(tmp_path: Path) -> None:
    [warning] = preflight(job_for(tmp_path, "segformer", learning_rate=1e-30)).warnings
    assert warning.startswith("the loss does not fall on a single batch")
