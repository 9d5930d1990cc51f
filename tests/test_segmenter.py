"""The Segmenter and its stream, with a network that segments by colour."""

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import everymask
from color_model import LABELS, color_checkpoint, picture
from eager import eager_segmenter
from everymask.devices import choose_device, choose_dtype
from everymask.errors import ImageError, OptionError
from everymask.geometry import Size
from everymask.segmenter import Failure

CPU = torch.device("cpu")


def color_segmenter(**changes):
    return eager_segmenter(color_checkpoint(**changes))


def labels_of(result):
    return sorted((segment.label, segment.area) for segment in result.segments)


def test_load_brings_the_checkpoint_onto_the_device(monkeypatch):
    asked = {}

    def load_checkpoint(name, **options):
        asked.update(options, name=name)
        return color_checkpoint()

    monkeypatch.setattr("everymask.loading.load_checkpoint", load_checkpoint)
    model = everymask.load(
        "colors", revision="v1", device="cpu", dtype="bfloat16", commercial=True, token="t", cache_dir="c"
    )
    assert asked == {
        "name": "colors",
        "revision": "v1",
        "commercial": True,
        "base": None,
        "token": "t",
        "cache_dir": "c",
        "share": True,
    }
    assert (model.name, model.tasks, model.labels, model.license) == (
        "colors",
        ("panoptic", "instance", "semantic"),
        LABELS,
        "CC0 1.0",
    )
    assert model.network.gain.dtype == torch.bfloat16
    assert not model.network.training
    assert labels_of(model(picture())) == [("blue", 48), ("red", 48)]


def test_a_wrong_device_or_dtype_is_refused_before_the_checkpoint_is_looked_for(monkeypatch):
    def load_checkpoint(name, **options):
        raise AssertionError("looked for")

    monkeypatch.setattr("everymask.loading.load_checkpoint", load_checkpoint)
    with pytest.raises(OptionError, match="unknown device 'tpu'"):
        everymask.load("colors", device="tpu")
    with pytest.raises(OptionError, match=r"float16.*refused on the CPU.*bfloat16"):
        everymask.load("colors", device="cpu", dtype="float16")


def test_the_default_task_is_the_first_the_model_can_do():
    assert color_segmenter()(picture()).task == "panoptic"
    assert color_segmenter(tasks=("instance", "semantic"))(picture()).task == "instance"


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("panoptic", [("blue", 48), ("red", 48)]),
        ("instance", [("red", 48)]),  # blue is stuff
        ("semantic", [("blue", 48), ("red", 48)]),
    ],
)
def test_every_task_finds_the_colors(task, expected):
    result = color_segmenter()(picture(), task=task)
    assert result.task == task
    assert result.size == Size(8, 12)
    assert labels_of(result) == expected
    assert (result.image == np.asarray(picture())).all()
    red = next(segment for segment in result.segments if segment.label == "red")
    assert red.mask[:, :6].all()
    assert not red.mask[:, 6:].any()


def test_a_task_the_model_cannot_do_is_refused():
    with pytest.raises(OptionError, match="colors cannot do the task 'panoptic': choose instance or semantic"):
        color_segmenter(tasks=("instance", "semantic"))(picture(), task="panoptic")
    with pytest.raises(OptionError, match="'depth': choose panoptic or instance or semantic"):
        color_segmenter()(picture(), task="depth")


def test_options_reach_the_decoding():
    model = color_segmenter()
    assert model(picture(), threshold=0.99999).segments == ()
    dimmed = picture(left=(160, 0, 0))  # mask probability 0.93
    assert labels_of(model(dimmed, task="instance", threshold=0.5)) == [("red", 48)]
    assert labels_of(model(dimmed, task="instance", threshold=0.5, mask_threshold=0.95)) == []
    explained = model(picture(), explain=True)
    assert {dropped.label for dropped in explained.dropped} == {"green", "dark"}
    assert model(picture()).dropped is None
    with pytest.raises(OptionError, match="threshold"):
        model(picture(), threshold=1.5)
    with pytest.raises(OptionError, match="overlap_threshold"):
        model(picture(), task="semantic", overlap_threshold=0.5)


def test_a_bad_image_raises_from_a_call(tmp_path):
    with pytest.raises(ImageError):
        color_segmenter()(tmp_path / "missing.jpg")


def test_prepare_gives_what_the_network_takes():
    model = color_segmenter(pad_to=Size(16, 16))
    prepared = model.prepare(picture())
    assert prepared.pixel_values.shape == (1, 3, 16, 16)
    assert prepared.pixel_values.dtype == torch.float32
    assert prepared.geometry.original == Size(8, 12)
    with torch.inference_mode():
        assert model.network(prepared.pixel_values).mask_logits.shape == (1, 4, 16, 16)


class TestStream:
    def test_results_come_in_order_and_a_bad_source_is_a_failure(self, tmp_path):
        missing = tmp_path / "missing.jpg"
        sources = [picture(left="red"), missing, picture(left="lime"), b"no image", picture(left="black")]
        results = list(color_segmenter().stream(sources, batch_size=2))
        assert [type(result).__name__ for result in results] == [
            "Segmentation",
            "Failure",
            "Segmentation",
            "Failure",
            "Segmentation",
        ]
        assert [labels_of(results[index])[-1][0] for index in (0, 2, 4)] == ["red", "green", "dark"]
        assert (results[1].source, results[3].source) == (missing, b"no image")
        assert all(isinstance(results[index].error, ImageError) for index in (1, 3))

    def test_only_images_of_one_network_size_share_a_batch(self):
        model = color_segmenter()
        widths = [10, 20, 10, 20, 10, 30]
        results = list(model.stream([picture(width) for width in widths], batch_size=2))
        assert [result.size.width for result in results] == widths
        assert sorted(model.network.batches) == [
            (1, 3, 8, 10),
            (1, 3, 8, 30),
            (2, 3, 8, 10),
            (2, 3, 8, 20),
        ]

    def test_images_padded_to_one_size_share_a_batch(self):
        model = color_segmenter(pad_to=Size(32, 32))
        results = list(model.stream([picture(width) for width in (10, 20, 32)], batch_size=8))
        assert model.network.batches == [(3, 3, 32, 32)]
        assert [labels_of(result) for result in results] == [[("blue", 4 * w), ("red", 4 * w)] for w in (10, 20, 32)]

    def test_sources_are_taken_only_a_few_ahead(self):
        taken = itertools.count()

        def sources():
            while True:
                yield picture(10 + next(taken) % 3)

        model = color_segmenter()
        stream = model.stream(sources(), batch_size=1)
        assert next(taken) == 0  # nothing is read before the first result is asked for
        next(stream)
        assert next(taken) == 1 + 1 + 2  # the one above, the one given back, two ahead
        next(stream)
        assert next(taken) == 1 + 1 + 2 + 2
        stream.close()

    @pytest.mark.parametrize("batch_size", [1, 2, 5])
    def test_memory_is_bounded_by_five_batches(self, batch_size):
        taken = 0

        def sources():  # no two of one size: no batch ever fills
            nonlocal taken
            for taken in range(1, 60):
                yield picture(4 + taken)

        for given_back, _ in enumerate(color_segmenter().stream(sources(), batch_size=batch_size)):
            assert taken - given_back <= 4 * batch_size + max(2, batch_size)

    def test_an_error_of_the_sources_comes_after_the_results_before_it(self):
        def sources():
            yield picture()
            yield picture()
            raise ValueError("the source broke")

        stream = color_segmenter().stream(sources(), batch_size=1)
        assert [labels_of(next(stream)) for _ in range(2)] == [[("blue", 48), ("red", 48)]] * 2
        with pytest.raises(ValueError, match="the source broke"):
            next(stream)

    def test_a_buffer_that_its_owner_fills_anew_is_read_before_that(self):
        frame = np.zeros((8, 12, 3), np.uint8)

        def sources():
            for channel in range(3):
                frame[:] = 0
                frame[:, :, channel] = 255
                yield frame

        results = list(color_segmenter().stream(sources(), batch_size=2, task="semantic"))
        assert [labels_of(result) for result in results] == [[("red", 96)], [("green", 96)], [("blue", 96)]]

    def test_a_stream_that_is_closed_early_leaves_no_thread(self, tmp_path):
        picture().save(tmp_path / "picture.png")
        before = set(threading.enumerate())
        stream = color_segmenter().stream([tmp_path / "picture.png"] * 50)
        next(stream)
        assert set(threading.enumerate()) > before
        stream.close()
        assert set(threading.enumerate()) == before
        assert len(list(color_segmenter().stream([tmp_path / "picture.png"] * 5))) == 5
        assert set(threading.enumerate()) == before

    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(
        st.lists(st.tuples(st.sampled_from([6, 9, 12]), st.sampled_from(["red", "lime", "black", "bad"])), max_size=14),
        st.integers(1, 5),
        st.sampled_from(["panoptic", "instance", "semantic"]),
    )
    def test_no_result_depends_on_its_companions(self, images, batch_size, task):
        model = color_segmenter()
        sources = [b"bad" if color == "bad" else picture(width, left=color) for width, color in images]
        results = list(model.stream(iter(sources), batch_size=batch_size, task=task))
        assert len(results) == len(sources)
        for source, result in zip(sources, results, strict=True):
            if source == b"bad":
                assert isinstance(result, Failure)
                continue
            alone = model(source, task=task)
            assert [(s.label, s.score, s.area, s.box) for s in result.segments] == [
                (s.label, s.score, s.area, s.box) for s in alone.segments
            ]
            assert (result.label_map == alone.label_map).all()

    @pytest.mark.parametrize(
        ("sources", "options", "message"),
        [
            ("cats.jpg", {}, "takes an iterable of images: wrap"),
            (b"...", {}, "takes an iterable of images"),
            (picture(), {}, "takes an iterable of images"),
            ([], {"batch_size": 0}, "batch_size is 0"),
            ([], {"task": "depth"}, "cannot do the task"),
            ([], {"threshold": -0.1}, "threshold"),
        ],
    )
    def test_wrong_usage_raises_at_the_call(self, sources, options, message):
        with pytest.raises(OptionError, match=message):
            color_segmenter().stream(sources, **options)

    def test_an_empty_stream_is_empty(self):
        assert list(color_segmenter().stream([])) == []


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cpu:0", "CPU", None])
def test_unknown_devices_are_refused(device):
    with pytest.raises(OptionError, match=r"unknown device .*choose auto, cpu, cuda, cuda:N or mps"):
        choose_device(device)


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU == choose_device("cpu")


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OptionError, match=r"'mps' is not available.*use device 'cpu'"):
        choose_device("mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(OptionError, match=r"'cuda' is not available.*use device 'cpu'"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(OptionError, match="the last one here is 'cuda:1'"):
        choose_device("cuda:2")


def test_dtypes():
    assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    assert choose_dtype("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(OptionError, match="unknown dtype 'int4': choose auto, float32, bfloat16, float16, int8"):
        choose_dtype("int4", CPU)
