"""Saving: complete files or none, and wrong options refused with their cure."""

import os
from pathlib import Path

import numpy as np
import pytest

from everymask import atomic
from everymask.atomic import write
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.labels import LabelSet
from everymask.runs import Runs
from everymask.segmentation import Region, Segment, Segmentation


def result_of(*labels: str) -> Segmentation:
    """A panoptic result with a row of pixels per label."""
    id_map = np.arange(1, len(labels) + 1, dtype=np.int32)[:, None].repeat(5, axis=1)
    segments = []
    for id, label in enumerate(labels, 1):
        runs = Runs.from_mask(id_map == id)
        segments.append(Segment(id, label, id - 1, 0.5, runs.area, runs.box, True, Region(id_map, id)))
    label_set = LabelSet(labels, (True,) * len(labels), (None,) * len(labels))
    return Segmentation("panoptic", Size(*id_map.shape), tuple(segments), id_map, label_set)


def test_missing_folders_are_made_and_paths_come_in_the_order_of_the_formats(tmp_path: Path) -> None:
    paths = result_of("car").save(tmp_path / "a" / "b", ["json", "coco", "json"], stem="my photo")
    assert paths == [tmp_path / "a" / "b" / name for name in ("my photo.segments.json", "my photo.coco.json")]
    assert all(path.is_file() for path in paths)
    assert result_of("car").save(str(tmp_path), ["json"]) == [tmp_path / "image.segments.json"]


def test_files_get_the_permissions_that_the_user_asked_for(tmp_path: Path) -> None:
    (path,) = result_of("car").save(tmp_path, ["json"])
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("formats", [["png"], ["coco", "png"], [""], ["COCO"]])
def test_an_unknown_format_is_refused_with_the_known_ones(formats: list[str], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="the formats are overlay, panoptic-png, coco, masks, json"):
        result_of("car").save(tmp_path / "out", formats)
    assert not (tmp_path / "out").exists()


def test_formats_as_one_string_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"formats=\['coco'\]"):
        result_of("car").save(tmp_path, "coco")


@pytest.mark.parametrize("stem", ["", "a/b", "../a", "a\\b", "a\0b"])
def test_a_stem_that_is_no_file_name_is_refused(stem: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot start a file name"):
        result_of("car").save(tmp_path, ["json"], stem=stem)


def test_a_folder_that_cannot_be_made_or_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OptionError, match="choose a folder that can be written"):
            result_of("car").save(folder, ["json"])
    with pytest.raises(OptionError, match="choose a folder that can be written"):
        result_of("car").save(tmp_path, ["json"], stem="x" * 300)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_masks_of_an_earlier_save_are_replaced(tmp_path: Path) -> None:
    result_of("car", "dog", "cat").save(tmp_path, ["masks"])
    (folder,) = result_of("sky").save(tmp_path, ["masks"])
    assert [path.name for path in folder.iterdir()] == ["001-sky.png"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (folder,) = result_of("car").save(tmp_path, ["masks"])
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"notes\.txt.*choose another stem"):
        result_of("sky").save(tmp_path, ["masks"])
    assert sorted(path.name for path in folder.iterdir()) == ["001-car.png", "notes.txt"]
    assert list(tmp_path.iterdir()) == [folder]


class Interrupted(Exception):
    """Stands for whatever ends a process between two lines."""


def half_write(path: Path, data: bytes) -> int:
    """Path.write_bytes on a disk that fails half way."""
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    raise Interrupted


@pytest.mark.parametrize("format", ["json", "masks"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_crash_while_writing_leaves_what_was_there_before(
    format: str, earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {}
    if earlier:
        result_of("car", "dog").save(tmp_path, [format])
        before = contents(tmp_path)
        assert before
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half_write)
        with pytest.raises(Interrupted):
            result_of("sky").save(tmp_path, [format])
    assert contents(tmp_path) == before


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: Path, data: bytes) -> int:
        open(path, "wb").close()
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", no_space)
        with pytest.raises(OptionError, match="No space left on device"):
            result_of("sky").save(tmp_path, ["json", "masks"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_comes_back_when_its_replacement_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write(tmp_path / "image.masks", {"001-car.png": b"old"})
    replace, calls = os.replace, []

    def second_fails(source: Path, destination: Path) -> None:
        calls.append(destination)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        replace(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", second_fails)
        with pytest.raises(OptionError, match="Input/output error"):
            write(target, {"001-dog.png": b"new"})
    assert len(calls) == 3
    assert contents(tmp_path) == {"image.masks/001-car.png": b"old"}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
