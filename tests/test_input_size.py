"""The choice of the size at which images go into a network."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import everymask
from color_model import color_checkpoint, picture
from everymask.checkpoints.catalogue import PublishedSize, catalogue
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.input_size import check_size, with_size
from everymask.preprocessing import FitOneSide, FixedSize, Preprocessing, ShortestEdge, WithinEdges
from everymask.tiling import Tiling
from shared import SHARED, needs_shared

AS_FILE = Preprocessing.from_config(
    {"image_processor_type": "Mask2FormerImageProcessor", "size": {"height": 384, "width": 384}, "size_divisor": 32}
)
COCO = PublishedSize(800, 1333, 32)


def test_checkpoint_changes_nothing():
    assert with_size(AS_FILE, "checkpoint", COCO, "m") is AS_FILE


def test_published_is_the_size_of_the_paper():
    changed = with_size(AS_FILE, "published", COCO, "m")
    assert changed == replace(AS_FILE, resize=ShortestEdge(800, 1333), size_divisor=32)
    assert changed.geometry(Size(480, 640)).resized == Size(800, 1088)
    unlimited = with_size(AS_FILE, "published", PublishedSize(512, None, 0), "m")
    assert unlimited.geometry(Size(100, 1000)).resized == Size(512, 5120)


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        (ShortestEdge(800, 1333), 400, ShortestEdge(400, 666)),  # the limit is scaled with the shortest edge
        (ShortestEdge(512, 2048), 640, ShortestEdge(640, 2560)),
        (ShortestEdge(512, None), 640, ShortestEdge(640, None)),
        (FixedSize(Size(384, 384)), 800, ShortestEdge(800, 1333)),  # there is none: 800 / 1333
        (None, 600, ShortestEdge(600, 1000)),
        (WithinEdges(896, 3584), 448, WithinEdges(448, 1792)),  # rounds as before
        (FitOneSide(Size(518, 518), 14), 252, ShortestEdge(252, None)),
    ],
)
def test_a_number_is_the_shortest_edge(rule, size, expected):
    file = replace(AS_FILE, resize=rule)
    assert with_size(file, size, None, "m") == replace(file, resize=expected)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), size=st.integers(32, 2000))
def test_the_input_has_about_the_size_that_was_asked_for(height, width, size):
    resized = with_size(AS_FILE, size, None, "m").geometry(Size(height, width)).resized
    assert all(side % 32 == 0 for side in resized)
    assert min(resized) < size + 32
    assert max(resized) < size * 1333 / 800 + 33


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    size=st.integers(32, 700),
    multiple=st.sampled_from([14, 32]),
    keep=st.booleans(),
)
def test_multiples_that_the_file_wants_remain(height, width, size, multiple, keep):
    file = {"size": 384, "ensure_multiple_of": multiple, "keep_aspect_ratio": keep}
    preprocessing = Preprocessing.from_config({"image_processor_type": "DPTImageProcessor", **file})
    resized = with_size(preprocessing, size, None, "m").geometry(Size(height, width)).resized
    assert all(side % multiple == 0 for side in resized)
    assert min(resized) < size + multiple
    if keep:
        assert min(resized) >= size
    assert with_size(preprocessing, "checkpoint", None, "m") is preprocessing


def test_padding_to_multiples_goes_with_every_size():
    file = {"do_resize": False, "do_pad": True, "size_divisor": 14}
    preprocessing = Preprocessing.from_config({"image_processor_type": "DPTImageProcessor", **file})
    geometry = with_size(preprocessing, 200, None, "m").geometry(Size(300, 400))
    assert (geometry.resized, geometry.padded, geometry.offset) == ((200, 266), (210, 266), (5, 0))


def test_windows_are_no_larger_than_an_image_at_another_size():
    file = {"size": {"shortest_edge": 896, "longest_edge": 3584}, "window": [896, 896], "stride": [512, 512]}
    preprocessing = Preprocessing.from_config({"image_processor_type": "ViTAdapterImageProcessor", **file})
    assert with_size(preprocessing, "published", PublishedSize(896, 3584, 32), "m") is preprocessing
    geometry = with_size(preprocessing, 448, None, "m").geometry(Size(300, 400))
    assert (geometry.resized, geometry.padded, geometry.windows) == ((448, 608), (448, 608), ((0, 0),))


@pytest.mark.parametrize("size", ["Published", "", "800", "1e3", 31, 0, -800, 800.0, True, None])
def test_wrong_sizes_are_refused(size):
    with pytest.raises(OptionError, match=r"size is .*choose 'checkpoint'.*'published'.*shortest edge in pixels"):
        check_size(size)


def test_published_needs_a_known_size():
    with pytest.raises(OptionError, match="at which size mine was measured is not known here; use size='checkpoint'"):
        with_size(AS_FILE, "published", None, "mine")


def test_a_network_of_one_size_keeps_it():
    letterbox = replace(AS_FILE, resize=ShortestEdge(640, 640), size_divisor=0, pad_to=Size(640, 640))
    assert with_size(letterbox, "published", PublishedSize(640, 640, 0), "m") is letterbox
    with pytest.raises(OptionError, match="m takes images of 640 x 640 pixels only; use size='checkpoint'"):
        with_size(letterbox, 800, None, "m")


@needs_shared
def test_every_catalogued_checkpoint_can_have_its_published_size():
    for entry in catalogue():
        path = SHARED / "checkpoints" / "configs" / f"{entry.name.replace('/', '--')}.preprocessor.json"
        published = entry.published_size
        if path.exists() and published is not None:
            preprocessing = Preprocessing.from_config(json.loads(path.read_text()))
            sized = with_size(preprocessing, "published", published, entry.name)
            assert (sized.resize.shortest, sized.resize.longest, sized.size_divisor) == (
                published.shortest,
                published.longest,
                published.divisor,
            )
            if published.window is None:
                assert sized.tiling == preprocessing.tiling
            else:
                window, stride = Size(published.window, published.window), Size(published.stride, published.stride)
                assert sized.tiling == Tiling(window, stride, smooth=False)


def test_load_takes_a_size_and_masks_keep_the_size_of_the_image(monkeypatch):
    checkpoint = replace(color_checkpoint(), published_size=PublishedSize(48, 100, 0))
    monkeypatch.setattr("everymask.loading.load_checkpoint", lambda name, **options: checkpoint)
    for size, expected in (("checkpoint", (8, 12)), ("published", (48, 72)), (64, (64, 96))):
        model = everymask.load("colors", device="cpu", size=size, dtype="float32")
        assert tuple(model.prepare(picture(12, 8)).pixel_values.shape[-2:]) == expected
        result = model(picture(12, 8))
        assert result.size == (8, 12)
        assert sorted((each.label, each.area) for each in result.segments) == [("blue", 48), ("red", 48)]


def test_a_wrong_size_is_refused_before_the_checkpoint_is_looked_for(monkeypatch):
    def load_checkpoint(name, **options):
        raise AssertionError("looked for")

    monkeypatch.setattr("everymask.loading.load_checkpoint", load_checkpoint)
    with pytest.raises(OptionError, match="size is 'huge'"):
        everymask.load("colors", device="cpu", size="huge")
