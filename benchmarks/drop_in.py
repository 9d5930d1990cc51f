"""The same script before and after changing its import from transformers to everymask.compat.transformers.

    python benchmarks/drop_in.py segformer mask2former      # without names all families
    python benchmarks/drop_in.py eomt --images 1 --repeats 1

Each run is a process of its own: it imports ``pipeline``, loads a folder and segments photographs of 640 x 480; all of
this is what people wait for. The weights are random and the same for all; the threshold is set such that ten queries
are kept. Runs take turns, one of each before what counts, so that files and compiled kernels are in their caches.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import transformers
from peer_models import MODELS, PeerModel, save, threshold_of
from PIL import Image

from everymask.engines.engine import Inputs
from everymask.loading import load

PHOTOS = sorted((Path(__file__).parents[1] / "src" / "everymask" / "bundled" / "photos").glob("*.jpg"))
IMPORTS = {
    "transformers": "from transformers import pipeline",
    "everymask": "from everymask.compat.transformers import pipeline",
}
SCRIPT = """
segmenter = pipeline("image-segmentation", model=FOLDER, device="cpu")
for photo in PHOTOS:
    start = time.perf_counter()
    segmenter(photo, **OPTIONS)
    seconds.append(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Run:
    """Seconds of one process: from start to end, and the median of its photographs but the first."""

    whole: float
    further: float


def run(subject: str, folder: Path, photos: list[str], options: dict[str, object], threads: int) -> Run:
    """One process; the import is all that differs between the subjects."""
    values = f"import json, time\nFOLDER, PHOTOS, OPTIONS, seconds = {str(folder)!r}, {photos!r}, {options!r}, []"
    script = "\n".join((IMPORTS[subject], values, SCRIPT, "print(json.dumps(seconds))"))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    whole = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{subject} failed:\n{done.stderr}")
    return Run(whole, statistics.median(json.loads(done.stdout)[1:]))


def compare(model: PeerModel, folder: Path, arguments: argparse.Namespace) -> dict[str, Run]:
    """The medians of every subject's runs."""
    save(model, folder)
    photos = []
    for number in range(1 + arguments.images):
        photos.append(str(folder / f"photo-{number}.png"))
        Image.open(PHOTOS[number % len(PHOTOS)]).convert("RGB").resize((640, 480)).save(photos[-1])
    options: dict[str, object] = {"subtask": model.task}
    if model.task == "panoptic":
        options |= {"threshold": _threshold(folder, photos[0]), "overlap_mask_area_threshold": 0.8}
    runs: dict[str, list[Run]] = {subject: [] for subject in IMPORTS}
    for _ in range(1 + arguments.repeats):
        for subject, of_subject in runs.items():
            of_subject.append(run(subject, folder, photos, options, arguments.threads))
    return {subject: _median(of_subject[1:]) for subject, of_subject in runs.items()}


def _median(runs: list[Run]) -> Run:
    return Run(statistics.median(each.whole for each in runs), statistics.median(each.further for each in runs))


def _threshold(folder: Path, photo: str) -> float:
    segmenter = load(folder, device="cpu", dtype="float32")
    tokens = None if segmenter.task_tokens is None else segmenter.task_tokens["panoptic"][None]
    return threshold_of(segmenter.engine(Inputs(segmenter.prepare(photo).pixel_values, tokens)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(MODELS)}; all without a name")
    parser.add_argument("--images", type=int, default=3, help="further photographs after the first")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(MODELS)
    if unknown:
        parser.error(f"unknown networks {', '.join(sorted(unknown))}: choose from {', '.join(MODELS)}")
    if arguments.images < 1 or arguments.repeats < 1:
        parser.error("--images and --repeats are at least 1")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"| import, load, {1 + arguments.images} photographs | transformers | everymask | ratio ", end="")
    print("| a further photograph: transformers | everymask | ratio |")
    print("| --- " * 7 + "|")
    for name in arguments.networks or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            found = compare(MODELS[name], Path(folder), arguments)
        theirs, ours = found["transformers"], found["everymask"]
        whole = f"{theirs.whole:.1f} s | {ours.whole:.1f} s | {theirs.whole / ours.whole:.1f}x"
        further = f"{theirs.further:.2f} s | {ours.further:.2f} s | {theirs.further / ours.further:.1f}x"
        print(f"| {MODELS[name].title} | {whole} | {further} |", flush=True)


if __name__ == "__main__":
    main()
