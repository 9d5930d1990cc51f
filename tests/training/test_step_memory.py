"""A whole training step with many segments takes no memory for their dense masks.

What is sampled of masks grows with the segments that are matched, but not with the image: few points keep it small.
"""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

# Prints the peak of the resident memory in MB after a step on an image of so many boxes.
MEASURE = f"""
import resource, sys, torch
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from everymask.geometry import Size
from everymask.training.batches import batches
from everymask.training.job import make_fabric, samples_of
from everymask.training.step import Trainer
import trainable
torch.set_num_threads(1)

class Grid(trainable.DrawnData):
    def _id_map(self, index):
        import numpy as np
        rows = np.arange(self.size.height) * 20 // self.size.height
        columns = np.arange(self.size.width) * (self.boxes // 20) // self.size.width
        id_map = rows[:, None] * (self.boxes // 20) + columns + 1
        return id_map.astype(np.int32), [1 + each % 3 for each in range(self.boxes)]

side, boxes = int(sys.argv[3]), int(sys.argv[2])
data = Grid(1, size=Size(side, side), boxes=boxes)
changes = dict(crop=[side, side], batch_size=1, augmentation=dict(scale=[1.0, 1.0]))
trainable.CONFIGS["mask2former"]["num_queries"] = 200
job = trainable.job_for(Path(sys.argv[1]), "mask2former", data=data, **changes)
fabric = make_fabric(job)
trainer = Trainer.of(fabric, job.checkpoint.network, job.recipe)
stream = batches(samples_of(job), job.recipe)
first = next(stream)
assert len(first.targets[0].labels) == boxes, len(first.targets[0].labels)
trainer.step(iter([first]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak(folder: Path, boxes: int, side: int) -> float:
    command = [sys.executable, "-c", MEASURE, str(folder), str(boxes), str(side)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return float(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the resident memory in kB")
def test_ten_times_the_segments_take_no_dense_masks(tmp_path: Path) -> None:
    side = 320
    dense = 180 * side**2 * 4 / 2**20  # MB of 180 masks more, once in float32; computing with them takes a multiple
    assert peak(tmp_path / "many", 200, side) - peak(tmp_path / "few", 20, side) < dense
