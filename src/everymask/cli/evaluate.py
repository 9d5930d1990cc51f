"""``everymask evaluate``: the figures of a model on annotated data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everymask.cli.options import BatchSize, Device, Dtype, Overlap, Size, Window, read_size, read_window

if TYPE_CHECKING:
    from everymask.labels import LabelSet
    from everymask.metrics.semantic import SemanticScores


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled name, a folder or a Hub id.")],
    data: Annotated[Path, typer.Argument(help="A folder with images/SPLIT/NAME.jpg and labels/SPLIT/NAME.png.")],
    split: Annotated[str, typer.Option(help="The folder inside images/ and labels/.")] = "test",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N images, by name.")] = None,
    batch_size: BatchSize = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    size: Size = "checkpoint",
    window: Window = None,
    overlap: Overlap = None,
) -> None:
    """Measure semantic segmentation: mIoU, aAcc, mAcc and the IoU of each class, over all images together."""
    from everymask.datasets.class_maps import ignored_values, list_class_maps, read_class_map

    annotated = list_class_maps(data, split)[:limit]

    from everymask.cli.progress import image_progress
    from everymask.loading import load
    from everymask.metrics.semantic import ConfusionMatrix
    from everymask.segmenter import Failure

    segmenter = load(
        model, device=device, dtype=dtype, size=read_size(size), window=read_window(window), overlap=overlap
    )
    num_classes = len(segmenter.labels)
    matrix = ConfusionMatrix(num_classes)
    results = segmenter.stream([pair.image for pair in annotated], batch_size=batch_size, task="semantic")
    with image_progress() as progress:
        bar = progress.add_task("evaluating", total=len(annotated))
        for pair, result in zip(annotated, results, strict=True):
            if isinstance(result, Failure):
                raise result.error
            truth = read_class_map(pair.labels, result.size, num_classes)
            matrix.add(result.label_map, truth, ignored_values(num_classes))
            progress.advance(bar)
    scores = matrix.scores()
    _print_classes(scores, segmenter.labels)
    print(f"{segmenter.name}, {split} split, {len(annotated)} images")
    print(f"mIoU {scores.mean_iou:.2%}  aAcc {scores.pixel_accuracy:.2%}  mAcc {scores.mean_accuracy:.2%}")
    if json_file is not None:
        _write_json(json_file, segmenter.name, split, len(annotated), scores, segmenter.labels)


def _print_classes(scores: "SemanticScores", labels: "LabelSet") -> None:
    from rich.table import Table

    from everymask.cli.output import print_table

    table = Table("class", "IoU %", "accuracy %")
    for name, iou, accuracy in zip(labels.names, scores.iou, scores.accuracy, strict=True):
        table.add_row(name, *("-" if value is None else f"{100 * value:.2f}" for value in (iou, accuracy)))
    print_table(table)


def _write_json(path: Path, model: str, split: str, images: int, scores: "SemanticScores", labels: "LabelSet") -> None:
    """Figures in 0..1, null for a class that is in neither truth nor prediction."""
    import json

    from everymask.atomic import ready_folder, write

    figures = {
        "model": model,
        "split": split,
        "images": images,
        "mIoU": scores.mean_iou,
        "aAcc": scores.pixel_accuracy,
        "mAcc": scores.mean_accuracy,
        "classes": [
            {"label": name, "IoU": iou, "accuracy": accuracy}
            for name, iou, accuracy in zip(labels.names, scores.iou, scores.accuracy, strict=True)
        ],
    }
    write(ready_folder(path.parent) / path.name, f"{json.dumps(figures, indent=1)}\n".encode())
