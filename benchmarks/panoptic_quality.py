"""Panoptic quality of random 640 x 480 pairs against PNG files that are written and counted as panopticapi does.

    python benchmarks/panoptic_quality.py [--pairs N]

Both get the same id maps, one pair after the other in one process, and must come to the same PQ. The peer's steps are
written here after panopticapi's: the prediction becomes a PNG of colours and an entry of a JSON file; prediction and
truth are read back, colours become ids, and numpy.unique counts the prediction's ids and those of both together. The
truth's PNG is there before. The second row of everymask reads that PNG too, as evaluating a data set does.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from everymask.datasets.dataset import Truth, TruthSegment
from everymask.geometry import Size
from everymask.labels import label_set
from everymask.metrics.panoptic import PanopticQuality
from everymask.segmentation import Region, Segment, Segmentation

SIZE = Size(480, 640)
OBJECTS = 30
LABELS = label_set("coco-panoptic")
CODES = np.array([1, 256, 65536])


@dataclass(frozen=True, slots=True)
class Pair:
    """Id maps (H, W) int32 with 0 for void, and the classes of the ids 1, 2 ..."""

    predicted: NDArray[np.int32]
    predicted_classes: list[int]
    true: NDArray[np.int32]
    true_classes: list[int]


def make_pair(rng: np.random.Generator) -> Pair:
    """Ellipses before two pieces of stuff, 5 % void; the prediction is shifted, and a tenth of its classes wrong."""
    picture = Image.new("I", (SIZE.width, SIZE.height), 1)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, int(rng.integers(100, 300)), SIZE.width, SIZE.height), fill=2)
    for id in range(3, OBJECTS + 1):
        x, y, radius = rng.uniform(0, SIZE.width), rng.uniform(0, SIZE.height), rng.uniform(8, 90)
        flat = rng.uniform(0.3, 1) * radius
        draw.ellipse((x - radius, y - flat, x + radius, y + flat), fill=id)
    draw.rectangle((0, 0, SIZE.width // 20, SIZE.height), fill=0)
    drawn = np.asarray(picture)
    present = np.unique(drawn)
    true = np.searchsorted(present, drawn).astype(np.int32)  # the ids that can be seen, from 1
    true_classes = rng.integers(0, len(LABELS), len(present) - 1).tolist()
    predicted_classes = [c if rng.random() < 0.9 else int(rng.integers(0, len(LABELS))) for c in true_classes]
    predicted = np.ascontiguousarray(np.roll(true, rng.integers(-4, 5, 2), (0, 1)))
    return Pair(predicted, predicted_classes, true, true_classes)


def save_png(id_map: NDArray[np.int32], path: Path) -> None:
    colors = (id_map[..., None] // CODES % 256).astype(np.uint8)  # (H, W, 3)
    Image.fromarray(colors).save(path)


def read_png(path: Path) -> NDArray[np.int32]:
    colors = np.asarray(Image.open(path), np.int32)  # (H, W, 3)
    return colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]


def to_prediction(pair: Pair) -> Segmentation:
    """What decoding gives; areas and boxes are not read here."""
    segments = tuple(
        Segment(id, LABELS.names[label], label, 1.0, 0, (0, 0, 0, 0), LABELS.things[label], Region(pair.predicted, id))
        for id, label in enumerate(pair.predicted_classes, 1)
    )
    return Segmentation("panoptic", SIZE, segments, pair.predicted, LABELS)


def to_truth(id_map: NDArray[np.int32], classes: list[int]) -> Truth:
    segments = tuple(TruthSegment(label, Region(id_map, id), 0) for id, label in enumerate(classes, 1))
    return Truth(SIZE, segments, id_map)


class Peer:
    """panopticapi's way: files, then counting. Crowds are left out, the pairs have none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.iou = np.zeros(len(LABELS))
        self.tp, self.fp, self.fn = (np.zeros(len(LABELS), int) for _ in range(3))

    def write(self, pair: Pair) -> None:
        save_png(pair.predicted, self.folder / "prediction.png")
        segments = [{"id": id, "category_id": label} for id, label in enumerate(pair.predicted_classes, 1)]
        entry = {"image_id": 1, "file_name": "prediction.png", "segments_info": segments}
        (self.folder / "prediction.json").write_text(json.dumps({"annotations": [entry]}))

    def count(self, true_classes: list[int], true_area: list[int]) -> None:
        true = read_png(self.folder / "truth.png")
        predicted = read_png(self.folder / "prediction.png")
        entry = json.loads((self.folder / "prediction.json").read_text())["annotations"][0]
        class_of = {segment["id"]: segment["category_id"] for segment in entry["segments_info"]}
        true_class_of = dict(enumerate(true_classes, 1))
        area = dict(zip(*(column.tolist() for column in np.unique(predicted, return_counts=True)), strict=True))
        codes, counts = np.unique(true.astype(np.uint64) * 2**24 + predicted.astype(np.uint64), return_counts=True)
        shared = {divmod(code, 2**24): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}
        matched_true, matched = set(), set()
        for (true_id, id), both in shared.items():
            if true_id not in true_class_of or id not in class_of or true_class_of[true_id] != class_of[id]:
                continue
            iou = both / (area[id] + true_area[true_id] - both - shared.get((0, id), 0))
            if iou > 0.5:
                self.tp[class_of[id]] += 1
                self.iou[class_of[id]] += iou
                matched_true.add(true_id)
                matched.add(id)
        for true_id in true_class_of.keys() - matched_true:
            self.fn[true_class_of[true_id]] += 1
        for id in class_of.keys() - matched:
            if not shared.get((0, id), 0) / area[id] > 0.5:
                self.fp[class_of[id]] += 1

    def quality(self) -> float:
        occurs = self.tp + self.fp + self.fn > 0
        return float((self.iou / np.maximum(self.tp + 0.5 * self.fp + 0.5 * self.fn, 0.5))[occurs].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    pairs = parser.parse_args().pairs
    rng = np.random.default_rng(0)
    ours, ours_from_file = PanopticQuality(LABELS), PanopticQuality(LABELS)
    seconds = dict.fromkeys(("memory", "truth read", "write", "count"), 0.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer = Peer(folder)
        for _ in range(pairs):
            pair = make_pair(rng)
            save_png(pair.true, folder / "truth.png")
            true_area = np.bincount(pair.true.ravel()).tolist()  # a truth's JSON file has them
            prediction, truth = to_prediction(pair), to_truth(pair.true, pair.true_classes)
            start = time.perf_counter()
            ours.add(prediction, truth)
            memory = time.perf_counter()
            ours_from_file.add(prediction, to_truth(read_png(folder / "truth.png"), pair.true_classes))
            from_file = time.perf_counter()
            peer.write(pair)
            written = time.perf_counter()
            peer.count(pair.true_classes, true_area)
            counted = time.perf_counter()
            for key, step in (
                ("memory", memory - start),
                ("truth read", from_file - memory),
                ("write", written - from_file),
                ("count", counted - written),
            ):
                seconds[key] += step
    quality = ours.scores().all.pq
    assert abs(quality - peer.quality()) < 1e-12
    assert ours_from_file.scores() == ours.scores()
    peer_seconds = seconds["write"] + seconds["count"]
    print(f"{pairs} pairs of {SIZE.width} x {SIZE.height}, PQ {quality:.6f} by both")
    print("| | time | ratio |\n| --- | --- | --- |")
    for name, key in (("everymask, in memory", "memory"), ("everymask, truth read from PNG", "truth read")):
        print(f"| {name} | {seconds[key]:.2f} s | {peer_seconds / seconds[key]:.1f}x |")
    print(
        f"| PNGs written ({seconds['write']:.2f} s) and counted ({seconds['count']:.2f} s) | {peer_seconds:.2f} s | |"
    )


if __name__ == "__main__":
    main()
