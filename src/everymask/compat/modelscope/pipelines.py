"""``pipeline``, as ``modelscope.pipelines`` has it."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from everymask.checkpoints.files import MODELSCOPE_CONFIG, read_json
from everymask.checkpoints.find import HUB_ID, MODELSCOPE, find
from everymask.compat.modelscope.inputs import as_source, is_one_image
from everymask.compat.modelscope.outputs import as_modelscope
from everymask.compat.modelscope.utils.constant import Tasks
from everymask.errors import CheckpointError, OptionError
from everymask.loading import load
from everymask.segmentation import Segmentation, Task
from everymask.segmenter import Failure, Segmenter

PIPELINES: dict[str, Task] = {
    "image-semantic-segmentation": "semantic",
    "image-panoptic-segmentation": "panoptic",
    "image-panoptic-segmentation-easycv": "panoptic",
}
"""How the pipelines that ModelScope's configurations name read a network."""


def pipeline(
    task: str | None = None,
    model: str | Path | Segmenter | None = None,
    preprocessor: None = None,
    config_file: None = None,
    pipeline_name: str | None = None,
    framework: str | None = None,
    device: str | None = None,
    model_revision: str | None = None,
    ignore_file_pattern: str | list[str] | None = None,
    trust_remote_code: bool = False,
) -> "SegmentationPipeline":
    """A model of ModelScope's, ready to segment as its own ``pipeline`` does; the network computes in float32.

    ``task`` must be ``Tasks.image_segmentation``. ``model`` is a repository of ModelScope ("owner/name", downloaded by
    ModelScope's package), a folder, the name of a bundled model, or a model that ``everymask.load`` has loaded, where
    device, number type and engine may be chosen. The model's configuration.json says whether it is read semantically
    or panoptically, ``pipeline_name`` goes before it; without both it is the first of panoptic and semantic that the
    model can do. ``device`` is "cpu", "gpu" or "cuda" (the default; the CPU where there is none), "gpu:N" or "cuda:N".
    ``model_revision`` is a branch or tag of the repository; for anything else it has no effect, in ModelScope neither.

    ``framework`` may be "pytorch". ``ignore_file_pattern`` and ``trust_remote_code`` are accepted without effect: only
    weights and configurations are downloaded, and nothing that comes with them is ever executed.

    Raises OptionError for another task and for values that have no meaning here, CheckpointError where the model cannot
    be found or read or is made for another pipeline, and MissingExtraError where ModelScope's package is needed.
    """
    if task != Tasks.image_segmentation:
        raise OptionError(f"the task {task!r} is not here: {Tasks.image_segmentation!r} is, Tasks.image_segmentation")
    if framework not in (None, "pytorch"):
        raise OptionError(f"framework={framework!r} is not here: networks are PyTorch's; leave it out")
    for name, value in (("preprocessor", preprocessor), ("config_file", config_file)):
        if value is not None:
            raise OptionError(f"{name} has no meaning here: the model's own files say how images are prepared")
    if pipeline_name is not None and pipeline_name not in PIPELINES:
        raise OptionError(f"the pipeline {pipeline_name!r} is not here: choose {' or '.join(PIPELINES)}")
    if isinstance(model, Segmenter):
        if device is not None:
            raise OptionError(f"device={device!r} comes too late for a model that is loaded: give it to everymask.load")
        return SegmentationPipeline(model, _task(model, pipeline_name))
    if not isinstance(model, str | os.PathLike):
        raise OptionError(f"model is {model!r}: name a repository of ModelScope or a folder, one for a pipeline")
    torch_device = _torch_device(device)
    name = os.fspath(model)
    if HUB_ID.fullmatch(name) and not os.path.exists(name):
        name = MODELSCOPE + name
    folder = find(name, revision=model_revision if name.startswith(MODELSCOPE) else None)
    reading = pipeline_name or _configured(folder)
    loaded = load(folder, device=torch_device, dtype="float32")
    return SegmentationPipeline(loaded, _task(loaded, reading))


class SegmentationPipeline:
    """A loaded model, called as ModelScope's pipelines are. ``model`` is everymask's own, ``task`` how it is read."""

    def __init__(self, model: Segmenter, task: Task) -> None:
        self.model = model
        self.task = task

    def __call__(self, input: Any, batch_size: int | None = None) -> Any:
        """Segments an image, a list of images, or a data set.

        An image is a path, a URL, a PIL image, an array (blue, green, red, as OpenCV reads them, or grey), the bytes of
        a file, or a row of a data set: a mapping with an image under "image", or under a name that ends so. One image
        gives the dictionary that ``as_modelscope`` describes, a list a list of them, any other iterable an iterator,
        which reads the images as results are asked for. Of several images up to ``batch_size`` of one size share a pass
        through the network, which changes no result. Raises ImageError for the first image that cannot be read.
        """
        if is_one_image(input):
            return as_modelscope(self.model(as_source(input), task=self.task))
        results = self.model.stream(map(as_source, input), batch_size=batch_size or 1, task=self.task)
        translated = _translated(results)
        return list(translated) if isinstance(input, list) else translated


def _translated(results: Iterable[Segmentation | Failure]) -> Iterator[dict[str, Any]]:
    for result in results:
        if isinstance(result, Failure):
            raise result.error
        yield as_modelscope(result)


def _configured(folder: Path) -> str | None:
    """The pipeline that configuration.json names, if any. Raises CheckpointError where it is none of ``PIPELINES``."""
    path = folder / MODELSCOPE_CONFIG
    if not path.exists():
        return None
    configured = read_json(path).get("pipeline")
    name = configured.get("type") if isinstance(configured, dict) else None
    if name is not None and name not in PIPELINES:
        raise CheckpointError(
            f"{path} is for the pipeline {name!r}; models for {', '.join(PIPELINES)} are segmented here"
        )
    return name


def _task(model: Segmenter, pipeline_name: str | None) -> Task:
    """How a model is read. Raises OptionError where it cannot be read so."""
    wanted: tuple[Task, ...] = ("panoptic", "semantic") if pipeline_name is None else (PIPELINES[pipeline_name],)
    found = next((task for task in wanted if task in model.tasks), None)
    if found is None:
        raise OptionError(
            f"{model.name} does {' and '.join(model.tasks)}, not {' or '.join(wanted)}: choose a model for segmentation"
        )
    return found


def _torch_device(device: str | None) -> str:
    """ModelScope's name of a device as ``load`` takes it; a GPU without a number is one only where there is one."""
    name = "gpu" if device is None else device.lower()
    found = re.fullmatch(r"(cpu|gpu|cuda)(?::(\d+))?", name)
    if found is None:
        raise OptionError(f"device {device!r} is unknown: choose cpu, gpu, cuda, gpu:N or cuda:N")
    if found[1] == "cpu":
        return "cpu"
    return "auto" if found[2] is None else f"cuda:{found[2]}"
