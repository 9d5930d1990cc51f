"""From an annotated image to what a network is shown and what it should learn from it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from everymask.datasets.dataset import DataSet, DepthDataSet
from everymask.errors import DataError, EverymaskError, OptionError
from everymask.geometry import Size
from everymask.networks.beit import BeitSegmentation
from everymask.networks.depth_anything import DepthAnything
from everymask.networks.dpt import DPT
from everymask.networks.segformer import SegFormer
from everymask.networks.upernet import UPerNet
from everymask.preprocessing import Preprocessing
from everymask.preprocessing.resizing import next_multiple
from everymask.segmentation import DepthKind, Task
from everymask.training.augmentation import (
    Augmentation,
    Number,
    View,
    draw_view,
    random_pixel,
    recolored,
    view_of_image,
    view_of_map,
)
from everymask.training.instances import targets_of
from everymask.training.pasting import Scene, pasted
from everymask.training.segments import InstancesFrom, Segments, segments_of
from everymask.training.targets import Targets
from everymask.training.texts import TaskTexts

Lesson = Literal["masks", "classes", "depth"]
"""What a network learns: segments as a set of masks, the class of every pixel, or the depth of every pixel."""


@dataclass(frozen=True)
class SampleSpec:
    """What samples are made of.

    ``lessons``: what the network learns (see ``lessons_of``). ``tasks``: what its segments are; from several, each
    sample draws one, as OneFormer learns them (section 3.1). Of ``preprocessing`` rescaling, normalisation, divisor and
    the colour of the padding are used. ``crop``: the size of all samples, rounded up to multiples of the divisor.
    ``texts``: what a network that is told its task needs besides. ``depth_kind``: what the network predicts, for which
    annotated metres are turned into inverse depths; None where it learns no depth.
    """

    lessons: tuple[Lesson, ...]
    tasks: tuple[Task, ...]
    preprocessing: Preprocessing
    crop: Size
    augmentation: Augmentation
    seed: int
    instances_from: InstancesFrom = "annotations"
    texts: TaskTexts | None = None
    depth_kind: DepthKind | None = None

    @property
    def size(self) -> Size:
        """The height and width of a sample's pixel values."""
        divisor = max(self.preprocessing.size_divisor, self.preprocessing.pad_divisor, 1)
        return next_multiple(self.crop, divisor)


@dataclass(frozen=True, slots=True)
class Sample:
    """One training image: ``pixel_values`` (3, H, W) float32, and what ``Batch`` says of the others, for one image."""

    pixel_values: Tensor
    targets: Targets | None
    class_map: Tensor | None
    depth: Tensor | None
    task_tokens: Tensor | None
    text_tokens: Tensor | None


def lessons_of(network: nn.Module) -> tuple[Lesson, ...]:
    """What a network of any family learns; two things for a DPT with two heads."""
    if isinstance(network, DPT):
        classes: tuple[Lesson, ...] = ("classes",) if network.class_head is not None else ()
        return (*classes, "depth") if network.depth_head is not None else classes
    if isinstance(network, DepthAnything):
        return ("depth",)
    if isinstance(network, (SegFormer, UPerNet, BeitSegmentation)):
        return ("classes",)
    return ("masks",)


class Samples(Dataset[Sample | EverymaskError]):
    """The samples of a data set. Where one cannot be made, the error is in its place.

    What a sample is depends on the seed, the epoch and the index of the image alone, whatever process makes it and
    whatever was made before. Raises OptionError where the data cannot teach what is asked.
    """

    def __init__(self, dataset: DataSet, spec: SampleSpec) -> None:
        check_teaches(dataset, spec)
        self.dataset = dataset
        self.spec = spec

    def __len__(self) -> int:
        return len(self.dataset.names)

    def __getitem__(self, place: tuple[int, int]) -> Sample | EverymaskError:
        """The sample made of an image in an epoch: ``place`` is (epoch, index), both from 0."""
        try:
            return self._sample(*place)
        except EverymaskError as error:
            # A worker process that raises it would send it with a trace of its own in the message.
            return error

    def _sample(self, epoch: int, index: int) -> Sample:
        spec = self.spec
        rng = np.random.default_rng([spec.seed, epoch, index])
        task = spec.tasks[int(rng.integers(len(spec.tasks)))]
        scene = self._scene(index, task, rng)
        if spec.augmentation.paste and rng.random() < spec.augmentation.paste:
            other = self._scene(int(rng.integers(len(self.dataset.names))), task, rng)
            scene = pasted(scene, other, self._merged(task), rng)
        targets = class_map = None
        if scene.segments is not None:
            id_map = _padded(scene.segments.id_map, spec.size, -1)
            if "masks" in spec.lessons:
                targets = targets_of(id_map, list(scene.segments.classes))
            if "classes" in spec.lessons:
                classes = np.array([*scene.segments.classes, -1], np.int64)  # the id -1 reads the last entry
                class_map = torch.from_numpy(classes[id_map])
        depth = None if scene.depth is None else torch.from_numpy(_padded(scene.depth, spec.size, 0))
        tokens = texts = None
        if spec.texts is not None:
            tokens, texts = spec.texts.tokens(task, [] if targets is None else targets.labels.tolist())
        return Sample(normalized(scene.pixels, spec), targets, class_map, depth, tokens, texts)

    def _scene(self, index: int, task: Task, rng: np.random.Generator) -> Scene:
        """A random view of an image, and of what is known of it."""
        augmentation = self.spec.augmentation
        image = self.dataset.read_image(index)  # (height, width, 3)
        size = Size(*image.shape[:2])
        segments = self._segments(index, size, task)
        focused = segments is not None and rng.random() < augmentation.focus
        pixel = random_pixel(segments.id_map, len(segments.classes), rng) if segments and focused else None
        view = draw_view(augmentation, size, self.spec.size, rng, pixel)
        pixels = recolored(view_of_image(image, view), augmentation, rng)  # (h, w, 3)
        if segments is not None:
            segments = Segments(view_of_map(segments.id_map, view), segments.classes)
        return Scene(pixels, segments, self._depth(index, size, view) if "depth" in self.spec.lessons else None)

    def _merged(self, task: Task) -> frozenset[int]:
        """The classes of which an image has one segment at most."""
        things = self.dataset.labels.things if "masks" in self.spec.lessons and task != "semantic" else ()
        return frozenset(range(len(self.dataset.labels))) - {index for index, thing in enumerate(things) if thing}

    def _segments(self, index: int, size: Size, task: Task) -> Segments | None:
        if self.spec.lessons == ("depth",):
            return None
        truth = self.dataset.read_truth(index)
        self._check_size("annotation", index, truth.size, size)
        wanted: Task = task if "masks" in self.spec.lessons else "semantic"
        return segments_of(truth, self.dataset.labels, wanted, self.spec.instances_from)

    def _depth(self, index: int, size: Size, view: View) -> NDArray[np.float32]:
        assert isinstance(self.dataset, DepthDataSet)
        depth = self.dataset.read_depth(index)
        self._check_size("depth", index, Size(*depth.shape), size)
        seen = view_of_map(depth, view)  # (h, w)
        if self.dataset.depth_kind == "metric" and self.spec.depth_kind == "relative":
            seen = np.divide(1, seen, out=np.zeros_like(seen), where=seen > 0)
        return seen

    def _check_size(self, what: str, index: int, found: Size, size: Size) -> None:
        if found != size:
            raise DataError(
                f"the {what} of {self.dataset.names[index]} is {found.width} x {found.height} pixels and the image "
                f"{size.width} x {size.height}: give both the same size (`everymask check` finds all such images)"
            )


def check_teaches(dataset: DataSet, spec: SampleSpec) -> None:
    """Raises OptionError where a data set cannot teach what ``spec`` asks for."""
    if not dataset.names:
        raise OptionError(f"{dataset.name} has no images: choose another split")
    if "depth" in spec.lessons and not isinstance(dataset, DepthDataSet):
        raise OptionError(
            f"{dataset.name} says nothing of depth, which this network learns: train one that segments alone, or give "
            "data with depth (the folder depth beside images; in Python, what has read_depth as a DepthDataSet)"
        )
    kind = dataset.depth_kind if "depth" in spec.lessons and isinstance(dataset, DepthDataSet) else None
    if kind == "relative" and spec.depth_kind == "metric":
        raise OptionError(
            f"this network predicts metres and the depth of {dataset.name} is relative, without a unit: train a "
            "network of relative depth, or give data in metres"
        )
    if "depth" in spec.lessons and spec.augmentation.paste:
        raise OptionError(
            "segments that are pasted from another image have no place in the depth of this one: set paste of the "
            "recipe's augmentation to 0"
        )
    apart = set(spec.tasks) & {"panoptic", "instance"}
    if "masks" not in spec.lessons or not apart:
        return
    if not any(dataset.labels.things):
        raise OptionError(
            f"{dataset.name} has no things, of which instances could be told apart: train for the task semantic, or "
            "say in the data set's list of classes which are things"
        )
    lacking = [] if "panoptic" in dataset.tasks else sorted(apart - set(dataset.tasks))
    if lacking and spec.instances_from == "annotations":
        raise OptionError(
            f"the annotations of {dataset.name} are {' and '.join(dataset.tasks)}, not {' and '.join(lacking)}: train "
            "for another task, or take connected parts of things as their instances (instances_from: components)"
        )


def normalized(pixels: NDArray[np.float32], spec: SampleSpec) -> Tensor:
    """Pixels (h, w, 3) in 0..255 as the network takes them: (3, H, W) float32 with (H, W) == ``spec.size``.

    The padding, at the bottom and right, is what the network meets at inference: zeros, or black.
    """
    preprocessing = spec.preprocessing
    scale = np.float32(preprocessing.rescale_factor) / np.array(preprocessing.std, np.float32)
    shift = np.array(preprocessing.mean, np.float32) / np.array(preprocessing.std, np.float32)
    height, width = pixels.shape[:2]
    values = torch.zeros(3, *spec.size)
    if preprocessing.black_padding:
        values -= torch.from_numpy(shift)[:, None, None]
    values[:, :height, :width] = torch.from_numpy((pixels * scale - shift).transpose(2, 0, 1))
    return values


def _padded(values: NDArray[Number], size: Size, filling: int) -> NDArray[Number]:
    """A map (h, w) filled up at the bottom and right to ``size``; always a fresh array, which torch may keep."""
    padded = np.full(size, filling, values.dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    return padded
