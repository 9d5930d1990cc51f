"""Saving depth: it reads back, exactly or within half a step, and results that cannot be saved so are refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from everymask.errors import DataError, OptionError
from everymask.formats import depth_npz, depth_png, depth_tiff, json_summary
from everymask.formats.depth_png import KITTI_STEP, choose_scale
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import DepthKind, DepthRange, Segment, Segmentation

NOTHING = LabelSet((), (), ())
KINDS: tuple[DepthKind, ...] = ("metric", "relative")


def depth_result(depth: NDArray[np.float32], kind: DepthKind = "metric") -> Segmentation:
    return Segmentation("depth", Size(*depth.shape), (), None, NOTHING, depth=depth, depth_kind=kind)


def ramp(low: float, high: float) -> NDArray[np.float32]:
    return np.linspace(low, high, 35, dtype=np.float32).reshape(5, 7)


@st.composite
def depths(draw: st.DrawFn) -> NDArray[np.float32]:
    """Noise over ranges wide and narrow, about 0 and far from it, and constant ones."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    start = draw(st.sampled_from([-1e9, -3.0, 0.0, 1e-3, 200.0, 1e9]))
    span = draw(st.sampled_from([0.0, 1e-6, 1.0, 80.0, 255.0, 300.0, 1e6]))
    return (start + span * np.random.default_rng(draw(st.integers(0, 999))).random(shape)).astype(np.float32)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(depths(), st.sampled_from(KINDS))
@example(np.zeros((1, 1), np.float32), "metric")
def test_depth_reads_back(depth: NDArray[np.float32], kind: DepthKind) -> None:
    with TemporaryDirectory() as folder:
        formats = ["depth-png", "depth-tiff", "depth-npz"]
        png, description, tiff, npz = depth_result(depth, kind).save(folder, formats, stem="street")
        assert [path.name for path in (png, description, tiff, npz)] == [
            "street.depth.png",
            "street.depth.json",
            "street.depth.tiff",
            "street.depth.npz",
        ]
        for read, read_kind in (depth_tiff.read(tiff), depth_npz.read(npz)):
            assert read_kind == kind
            assert read.dtype == np.float32
            assert np.array_equal(read, depth)

        read, read_kind = depth_png.read(png)
        step = json.loads(description.read_text())["scale"]
        assert (read_kind, read.dtype, read.shape) == (kind, np.float32, depth.shape)
        error = np.abs(read.astype(np.float64) - depth)
        assert (error <= step / 2 * (1 + 1e-9) + np.spacing(np.abs(depth))).all()


def test_other_programs_read_the_png_by_its_description(tmp_path: Path) -> None:
    depth = ramp(-0.25, 7)
    png, description = depth_result(depth, "relative").save(tmp_path, ["depth-png"])
    document = json.loads(description.read_text())
    assert set(document) == {"file_name", "kind", "unit", "offset", "scale"}
    assert (document["file_name"], document["kind"], document["unit"]) == (png.name, "relative", None)
    with Image.open(png) as picture:
        values = np.asarray(picture)
        assert picture.info["depth_kind"] == "relative"
        assert picture.info["depth_unit"] == ""
        assert float(picture.info["depth_offset"]) == document["offset"] == -0.25
        assert float(picture.info["depth_scale"]) == document["scale"]
    assert (values.min(), values.max()) == (0, 65_535)
    assert document["offset"] + document["scale"] * values == pytest.approx(depth, abs=document["scale"])


def test_metric_depth_is_as_in_kitti_where_it_fits(tmp_path: Path) -> None:
    depth = np.array([[0, 1, 80.5, 255.99]], np.float32)
    png, description = depth_result(depth).save(tmp_path, ["depth-png"])
    with Image.open(png) as picture:
        assert np.asarray(picture).tolist() == [[0, 256, 20_608, 65_533]]
    document = json.loads(description.read_text())
    assert (document["unit"], document["offset"], document["scale"]) == ("m", 0, 1 / 256)


@pytest.mark.parametrize(("low", "high"), [(-0.01, 80), (0, 256), (5, 4000)])
def test_metric_depth_beyond_kitti_has_a_scale_that_fits(low: float, high: float) -> None:
    scale = choose_scale(low, high, "metric")
    assert scale.step != KITTI_STEP
    assert (scale.offset, scale.offset + 65_535 * scale.step) == (low, pytest.approx(high))


def test_constant_depth_has_a_step_that_is_not_zero() -> None:
    assert choose_scale(3, 3, "relative").step == 1


def test_the_tiff_is_floating_point_with_its_kind_in_its_description(tmp_path: Path) -> None:
    (path,) = depth_result(ramp(0, 9)).save(tmp_path, ["depth-tiff"])
    with Image.open(path) as tiff:
        assert (tiff.format, tiff.mode, tiff.size) == ("TIFF", "F", (7, 5))
        assert json.loads(tiff.tag_v2[270]) == {"kind": "metric", "unit": "m"}  # type: ignore[attr-defined]


def test_the_npz_holds_depth_kind_and_unit(tmp_path: Path) -> None:
    for kind, unit in (("metric", "m"), ("relative", "")):
        (path,) = depth_result(ramp(0, 9), kind).save(tmp_path, ["depth-npz"])  # type: ignore[arg-type]
        with np.load(path) as npz:
            assert sorted(npz) == ["depth", "kind", "unit"]
            assert (npz["kind"].item(), npz["unit"].item()) == (kind, unit)


def segment_with(depth: DepthRange | None) -> Segment:
    runs = Runs.from_mask(np.ones((5, 7), np.bool_))
    return Segment(1, "car", 0, 0.5, runs.area, runs.box, True, runs, depth)


def test_the_json_has_the_depth_of_the_image_and_of_every_segment(tmp_path: Path) -> None:
    cars = LabelSet(("car",), (True,), (None,))
    segment = segment_with(DepthRange(2.5, 1.0, 4.25))
    result = Segmentation("instance", Size(5, 7), (segment,), None, cars, depth=ramp(1, 4.25), depth_kind="metric")
    (path,) = result.save(tmp_path, ["json"])
    document = json.loads(path.read_text())
    assert document["depth"] == {"kind": "metric", "unit": "m", "minimum": 1.0, "maximum": 4.25}
    assert document["segments"][0]["depth"] == {"median": 2.5, "minimum": 1.0, "maximum": 4.25}
    assert json_summary.read(path) == (segment,)

    (path,) = depth_result(ramp(0, 9), "relative").save(tmp_path, ["json"])
    document = json.loads(path.read_text())
    assert (document["task"], document["segments"]) == ("depth", [])
    assert document["depth"] == {"kind": "relative", "unit": None, "minimum": 0.0, "maximum": 9.0}


def test_the_json_without_depth_does_not_mention_it(tmp_path: Path) -> None:
    cars = LabelSet(("car",), (True,), (None,))
    result = Segmentation("instance", Size(5, 7), (segment_with(None),), None, cars)
    (path,) = result.save(tmp_path, ["json"])
    assert "depth" not in path.read_text()
    assert json_summary.read(path) == result.segments


@pytest.mark.parametrize("format", ["panoptic-png", "coco", "masks"])
def test_depth_alone_has_no_segments_to_save(format: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="depth-png, depth-tiff, depth-npz, json or overlay"):
        depth_result(ramp(0, 9)).save(tmp_path / "out", ["json", format])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["depth-png", "depth-tiff", "depth-npz"])
def test_without_depth_the_depth_formats_are_refused_with_the_cure(format: str, tmp_path: Path) -> None:
    plain = dataclasses.replace(depth_result(ramp(0, 9)), task="instance", depth=None, depth_kind=None)
    with pytest.raises(OptionError, match=rf"{format} needs depth.*everymask\.load\(name, depth="):
        plain.save(tmp_path / "out", [format])
    assert not (tmp_path / "out").exists()


def test_the_overlay_of_depth_alone_is_its_drawing(tmp_path: Path) -> None:
    result = depth_result(ramp(0, 9))
    (path,) = result.save(tmp_path, ["overlay"])
    with Image.open(path) as png:
        assert np.array_equal(np.asarray(png), np.asarray(result.draw(legend=True)))


@pytest.mark.parametrize("read", [depth_png.read, depth_tiff.read, depth_npz.read])
def test_unreadable_files_are_data_errors(
    read: Callable[[Path], tuple[NDArray[np.float32], DepthKind]], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    values = ramp(0, 9)
    formats = ["depth-png", "depth-tiff", "depth-npz"]
    saved = depth_result(values).save(tmp_path, formats)
    png, _, tiff, npz = (each.read_bytes() for each in saved)
    described = PngImagePlugin.PngInfo()
    for key, value in {"kind": "metric", "offset": "0", "scale": "1"}.items():
        described.add_text(f"depth_{key}", value)

    def write_npy() -> None:
        with open(path, "wb") as file:
            np.save(file, values)

    def write_npz(**arrays: NDArray[np.generic]) -> None:
        with open(path, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    writers: list[Callable[[], object]] = [
        lambda: None,
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"not a file of depths"),
        lambda: Image.fromarray(values.astype(np.uint16)).save(path, "PNG"),
        lambda: Image.new("RGB", (7, 5)).save(path, "PNG", pnginfo=described),
        lambda: path.write_bytes(png.replace(b"IDAT", b"\0DAT")),
        lambda: path.write_bytes(tiff[:-9]),
        lambda: path.write_bytes(npz[:-9]),
        lambda: Image.fromarray(values).save(path, "TIFF"),
        lambda: Image.fromarray(values).save(path, "TIFF", description='{"kind": "absolute"}'),
        lambda: Image.fromarray(values).save(path, "TIFF", description="[]"),
        lambda: Image.fromarray(values.astype(np.uint8)).save(path, "TIFF", description='{"kind": "metric"}'),
        write_npy,
        lambda: write_npz(depth=values),
        lambda: write_npz(depth=values, kind=np.array("absolute")),
        lambda: write_npz(depth=values.astype(np.float64), kind=np.array("metric")),
        lambda: write_npz(depth=np.array([{}]), kind=np.array("metric")),
    ]
    for write in writers:
        write()
        with pytest.raises(DataError, match="save it again"):
            read(path)
