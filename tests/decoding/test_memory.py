"""Invariant 3: decoding 12 megapixels takes at most 300 MB above its inputs, result included.

With 100 queries, or with 150 classes at every pixel; whole or in windows.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import json, sys
import torch
from everymask import native
from everymask.decoding import decode, decode_windows, decoding_options
from everymask.geometry import Geometry, Size
from everymask.labels import LabelSet
from everymask.networks.outputs import MaskQueries, PixelLogits
from everymask.tiling import Tiling

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

torch.set_num_threads(1)  # as fast as two on a busy machine
task, classes, things = sys.argv[1], 150, 80
if task.endswith("by torch"):
    native.COMPILER = "there is none"
    task = task.split()[0]
labels = LabelSet(tuple(map(str, range(classes))), tuple(i < things for i in range(classes)), (None,) * classes)
generator = torch.Generator().manual_seed(0)
coarse = torch.randn(1, 100, 12, 16, generator=generator) * 6 - 4
masks = torch.nn.functional.interpolate(coarse, (256, 336), mode="bicubic", align_corners=False)
class_logits = torch.randn(1, 100, classes + 1, generator=generator)
class_logits[0, torch.arange(100), torch.randint(classes, (100,), generator=generator)] += 12
queries = MaskQueries(class_logits, masks)
options = {
    "panoptic": decoding_options("panoptic", threshold=0, overlap_threshold=0),
    "instance": decoding_options("instance", threshold=0),
    "semantic": decoding_options("semantic"),
}.get(task, decoding_options("semantic"))
geometry = Geometry(Size(3000, 4000), Size(1000, 1333), Size(1024, 1344))
coarse = torch.randn(1, classes, 12, 16, generator=generator) * 6
pixels = torch.nn.functional.interpolate(coarse, (128, 128), mode="bicubic", align_corners=False)
if task == "pixels at the input's size":
    pixels = torch.nn.functional.interpolate(coarse, (512, 512), mode="bicubic", align_corners=False)
tiling = Tiling(Size(512, 512), Size(171, 171))
windows = Geometry(Size(3000, 4000), Size(512, 683), Size(512, 512), tiling.corners(Size(512, 683)))
small = Tiling(Size(256, 256), Size(64, 64))  # 42 windows
many = Geometry(Size(3000, 4000), Size(448, 592), Size(256, 256), small.corners(Size(448, 592)), smooth=True)
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")  # the peak counts from here
before = resident("VmRSS")
if task == "windows":
    result = decode_windows((queries for _ in windows.windows), windows, labels, options, None)
elif task == "pixels in many windows":
    outputs = (PixelLogits(pixels.clone()) for _ in many.windows)
    result = decode_windows(outputs, many, labels, options, None)
elif task.startswith("pixels"):
    result = decode(PixelLogits(pixels), 0, geometry, labels, options, None)
else:
    result = decode(queries, 0, geometry, labels, options, None)
peak = resident("VmHWM")
print(json.dumps({"extra": peak - before, "segments": len(result.segments)}))
"""


TASKS = [
    "panoptic",
    "instance",
    "semantic",
    "panoptic by torch",
    "semantic by torch",
    "windows",
    "pixels",
    "pixels at the input's size",
    "pixels in many windows",
]


@pytest.mark.parametrize("task", TASKS)
def test_twelve_megapixels_take_at_most_300_megabytes(task: str) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of the resident memory can only be reset on Linux")
    run = subprocess.run([sys.executable, "-c", MEASURE, task], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout)
    assert measured["segments"] > 50
    # The id map alone takes 48 MB: less would mean that nothing was measured.
    assert (0 if task == "instance" else 40e6) < measured["extra"] <= 300e6
