"""What a network is shown and what it should learn from it."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.datasets.dataset import Truth, TruthSegment
from everymask.errors import DataError, ImageError, OptionError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.networks.outputs import DepthMap, MaskQueries, PixelLogits, PixelsAndDepth
from everymask.preprocessing import Preprocessing, prepare
from everymask.segmentation import DepthKind, Region, Task
from everymask.training.augmentation import Augmentation
from everymask.training.samples import Sample, Samples, SampleSpec, lessons_of
from networks.test_invariants import CASES, Case
from painted_data import COLORS, LABELS, PaintedData

SEGFORMER = Preprocessing.from_config({"image_processor_type": "SegformerImageProcessor", "do_resize": False})
MASK2FORMER = Preprocessing.from_config({"image_processor_type": "Mask2FormerImageProcessor"})
EOMT = Preprocessing.from_config(
    {"image_processor_type": "EomtImageProcessor", "do_pad": True, "size": {"shortest_edge": 64, "longest_edge": 64}}
)
STILL = Augmentation(flip=0.0)


def spec(**changes: object) -> SampleSpec:
    usual = SampleSpec(("masks", "classes"), ("semantic",), SEGFORMER, Size(48, 64), STILL, seed=3)
    return replace(usual, **changes)


def sample(samples: Samples, epoch: int = 0, index: int = 0) -> Sample:
    found = samples[epoch, index]
    assert isinstance(found, Sample)
    return found


def test_an_image_that_fits_is_prepared_as_for_inference() -> None:
    data = PaintedData()
    pixel_values = sample(Samples(data, spec())).pixel_values
    expected = prepare(data.read_image(0), SEGFORMER).pixel_values[0]
    torch.testing.assert_close(pixel_values, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fit", ["inside", "cover"])
@pytest.mark.parametrize("preprocessing", [MASK2FORMER, EOMT], ids=["zeros", "black"])
def test_pixels_classes_and_targets_agree_wherever_they_are(fit: str, preprocessing: Preprocessing) -> None:
    augmentation = Augmentation(scale=(0.5, 2.0), fit=fit, stretch=0.1, focus=0.5)  # type: ignore[arg-type]
    data = PaintedData(size=Size(80, 112), block=16)
    samples = Samples(data, spec(augmentation=augmentation, preprocessing=preprocessing, crop=Size(64, 96)))
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
    padded = compared = 0
    for place in range(10):
        found = sample(samples, place, place % 5)
        assert found.pixel_values.shape == (3, 64, 96)
        assert found.pixel_values.dtype == torch.float32
        assert found.class_map is not None
        assert found.targets is not None
        classes = torch.tensor([*found.targets.labels.tolist(), -1])[found.targets.id_map]
        assert torch.equal(classes, found.class_map)
        pixels = ((found.pixel_values * std + mean) * 255).permute(1, 2, 0)
        colors = torch.from_numpy(COLORS)[found.class_map + 1].float()
        same = (pixels - colors).abs().amax(-1) < 0.5
        outside = torch.ones(64, 96, dtype=torch.bool)
        height, width = ((found.class_map >= 0).any(1 - each).nonzero().max() + 1 for each in (0, 1))
        outside[:height, :width] = False
        # In a block all pixels have the colour of their class; at its borders colours are mixed.
        assert same[:height, :width].float().mean() > 0.55
        compared += int(same.sum())
        padded += int(outside.sum())
        filling = -mean / std if preprocessing.black_padding else torch.zeros(3, 1, 1)
        if int(outside.sum()):
            corner = found.pixel_values[:, -1, -1]
            torch.testing.assert_close(corner, filling[:, 0, 0], rtol=1e-5, atol=1e-5)
            assert int(found.class_map[-1, -1]) == -1
    assert compared > 10_000
    assert padded > 0 or fit == "cover"


def test_pasted_segments_keep_their_pixels_and_classes() -> None:
    data = PaintedData(size=Size(80, 112), block=16)
    mean, std = (torch.tensor(each)[:, None, None] for each in (SEGFORMER.mean, SEGFORMER.std))
    changed = 0
    for epoch in range(8):
        plain, mixed = (
            sample(Samples(data, spec(augmentation=Augmentation(paste=paste), crop=Size(80, 112))), epoch, epoch % 5)
            for paste in (0.0, 1.0)
        )
        assert mixed.class_map is not None
        assert mixed.targets is not None
        assert plain.class_map is not None
        classes = torch.tensor([*mixed.targets.labels.tolist(), -1])[mixed.targets.id_map]
        assert torch.equal(classes, mixed.class_map)
        assert len(set(mixed.targets.labels.tolist())) == len(mixed.targets.labels)  # one segment a class
        pixels = ((mixed.pixel_values * std + mean) * 255).permute(1, 2, 0)
        torch.testing.assert_close(
            pixels, torch.from_numpy(COLORS)[mixed.class_map + 1].float(), rtol=0, atol=0.5, msg="a class's colour"
        )
        changed += int((plain.class_map != mixed.class_map).sum())
    assert changed > 8 * 80 * 112 / 10


def test_pasted_things_are_instances_beside_those_that_are_there() -> None:
    data = PaintedData(size=Size(80, 112), block=16)

    def things(paste: float) -> list[int]:
        augmentation = Augmentation(paste=paste, flip=0.0)
        samples = Samples(data, spec(lessons=("masks",), tasks=("panoptic",), augmentation=augmentation))
        targets = [sample(samples, epoch, 1).targets for epoch in range(4)]
        return [int(label) for each in targets if each is not None for label in each.labels if LABELS.things[label]]

    assert len(things(1.0)) > len(things(0.0)) > 0


def test_samples_depend_on_seed_epoch_and_index_alone() -> None:
    augmentation = Augmentation(scale=(0.5, 2.0), focus=0.5, paste=0.5, contrast=0.5, blur=1.0, noise=0.1)
    first = Samples(PaintedData(), spec(augmentation=augmentation))
    before = sample(first, 2, 1)
    sample(first, 0, 4)
    np.random.default_rng(0)
    torch.rand(3)
    again = sample(Samples(PaintedData(), spec(augmentation=augmentation)), 2, 1)
    assert torch.equal(before.pixel_values, again.pixel_values)
    assert before.class_map is not None
    assert again.class_map is not None
    assert torch.equal(before.class_map, again.class_map)
    for other in (sample(first, 3, 1), sample(Samples(PaintedData(), spec(augmentation=augmentation, seed=4)), 2, 1)):
        assert not torch.equal(before.pixel_values, other.pixel_values)


def test_crops_hold_small_things_where_they_are_sought() -> None:
    class Speck(PaintedData):
        def read_truth(self, index: int) -> Truth:
            id_map = np.ones((400, 400), np.int32)
            id_map[300:303, 17:20] = 2
            parts = (TruthSegment(0, Region(id_map, 1), 159_991), TruthSegment(2, Region(id_map, 2), 9))
            return Truth(Size(400, 400), parts, id_map)

    def found(focus: float) -> int:
        augmentation = Augmentation(scale=(8.0, 8.0), focus=focus)
        samples = Samples(Speck(), spec(augmentation=augmentation, crop=Size(50, 50)))
        return sum(bool((sample(samples, epoch).class_map == 2).any()) for epoch in range(30))  # type: ignore[union-attr]

    assert found(0.0) <= 3
    assert found(1.0) >= 10


@pytest.mark.parametrize(("task", "stuff"), [("panoptic", True), ("instance", False), ("semantic", True)])
def test_targets_are_those_of_the_task(task: Task, stuff: bool) -> None:
    labels = sample(Samples(PaintedData(), spec(lessons=("masks",), tasks=(task,)))).targets.labels.tolist()  # type: ignore[union-attr]
    assert any(not LABELS.things[label] for label in labels) == stuff
    truth = PaintedData().read_truth(0)
    things = [each.label_id for each in truth.segments if LABELS.things[each.label_id] and each.area]
    assert (sorted(label for label in labels if LABELS.things[label]) == sorted(things)) == (task != "semantic")


def test_several_tasks_are_drawn_in_turn() -> None:
    samples = Samples(PaintedData(), spec(lessons=("masks",), tasks=("panoptic", "instance", "semantic")))
    counts = {len(sample(samples, epoch).targets.labels) for epoch in range(20)}  # type: ignore[union-attr]
    assert len(counts) == 3


def test_the_size_is_a_multiple_of_the_divisor() -> None:
    assert spec(preprocessing=MASK2FORMER, crop=Size(33, 64)).size == Size(64, 64)
    assert spec(preprocessing=SEGFORMER, crop=Size(33, 64)).size == Size(33, 64)


class WithDepth(PaintedData):
    """Depth is the class + 2, and 1 where there is none."""

    depth_kind: DepthKind = "metric"

    def read_depth(self, index: int) -> NDArray[np.float32]:
        return self.read_truth(index).class_map().astype(np.float32) + 2


def test_depth_is_cut_like_the_image() -> None:
    augmentation = Augmentation(scale=(0.5, 2.0), fit="inside")
    both = Samples(WithDepth(), spec(lessons=("classes", "depth"), augmentation=augmentation))
    for epoch in range(5):
        found = sample(both, epoch)
        assert found.depth is not None
        assert found.class_map is not None
        known = found.class_map >= 0
        assert torch.equal(found.depth[known], found.class_map[known].float() + 2)
        assert set(found.depth[~known].tolist()) <= {0.0, 1.0}
    alone = sample(Samples(WithDepth(), spec(lessons=("depth",), tasks=("depth",))))
    assert alone.class_map is alone.targets is None


def test_metres_are_turned_into_what_the_network_predicts() -> None:
    class Sparse(WithDepth):
        def read_depth(self, index: int) -> NDArray[np.float32]:
            depth = super().read_depth(index)
            depth[::2] = 0
            return depth

    def depth_of(data: WithDepth, kind: DepthKind) -> NDArray[np.float32]:
        depth = sample(Samples(data, spec(lessons=("depth",), depth_kind=kind))).depth
        assert depth is not None
        return depth.numpy()

    metres, inverse = depth_of(Sparse(), "metric"), depth_of(Sparse(), "relative")
    assert not metres[::2].any()
    assert not inverse[::2].any()
    np.testing.assert_allclose(metres[1::2] * inverse[1::2], 1)
    relative = WithDepth()
    relative.depth_kind = "relative"
    np.testing.assert_array_equal(depth_of(relative, "relative"), relative.read_depth(0))
    with pytest.raises(OptionError, match="no place in the depth of this one: set paste"):
        Samples(WithDepth(), spec(lessons=("classes", "depth"), augmentation=Augmentation(paste=0.1)))
    with pytest.raises(OptionError, match="predicts metres and the depth of painted is relative"):
        depth_of(relative, "metric")


def test_errors_come_in_the_place_of_a_sample() -> None:
    class Small(PaintedData):
        def read_truth(self, index: int) -> Truth:
            return replace(super().read_truth(index), size=Size(20, 30))

    assert isinstance(Samples(PaintedData(damaged=[1]), spec())[0, 1], ImageError)
    error = Samples(Small(), spec())[0, 0]
    assert isinstance(error, DataError)
    assert "30 x 20" in str(error)
    assert "64 x 48" in str(error)


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (PaintedData(0), {}, "no images"),
        (PaintedData(tasks=("semantic",)), {"tasks": ("panoptic",)}, "instances_from: components"),
        (PaintedData(), {"lessons": ("depth",)}, "read_depth"),
        (PaintedData(), {"lessons": ("classes", "depth")}, "read_depth"),
    ],
)
def test_data_that_cannot_teach_is_refused(data: PaintedData, changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Samples(data, spec(**changes))


def test_instances_need_things() -> None:
    data = PaintedData()
    data.labels = LabelSet(LABELS.names, (False,) * 4, LABELS.colors)
    with pytest.raises(OptionError, match="which are things"):
        Samples(data, spec(tasks=("instance",)))
    Samples(data, spec(tasks=("instance",), lessons=("classes",)))


def test_components_teach_instances_where_nobody_told_them_apart() -> None:
    data = PaintedData(tasks=("semantic",))
    apart = sample(Samples(data, spec(lessons=("masks",), tasks=("instance",), instances_from="components")))
    assert apart.targets is not None
    assert apart.targets.labels.tolist()
    assert all(LABELS.things[label] for label in apart.targets.labels.tolist())


def test_memory_does_not_depend_on_the_number_of_segments() -> None:
    class Many(PaintedData):
        def __init__(self, across: int) -> None:
            super().__init__(size=Size(480, 640))
            self.across = across

        def read_truth(self, index: int) -> Truth:
            rows, columns = np.arange(480) * self.across // 480, np.arange(640) * self.across // 640
            ids = (rows[:, None] * self.across + columns + 1).astype(np.int32)
            parts = tuple(TruthSegment(2, Region(ids, each), 1) for each in range(1, self.across**2 + 1))
            return Truth(self.size, parts, ids)

    def peak(across: int) -> int:
        augmentation = Augmentation(scale=(1.0, 1.5), focus=1.0)
        samples = Samples(Many(across), spec(lessons=("masks",), tasks=("panoptic",), augmentation=augmentation))
        tracemalloc.start()
        sample(samples)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(14) < peak(2) + 500_000  # 196 segments and 4; dense masks of bytes would be 60 MB


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_network_learns_is_what_it_gives(case: Case) -> None:
    torch.manual_seed(0)
    network, _ = case.build()
    with torch.no_grad():
        output = network.eval()(torch.randn(1, 3, 64, 64))
    expected = {MaskQueries: ("masks",), PixelLogits: ("classes",), DepthMap: ("depth",)}
    expected[PixelsAndDepth] = ("classes", "depth")
    assert next(lessons for kind, lessons in expected.items() if isinstance(output, kind)) == lessons_of(network)
