"""From arguments to images, and from images to the names of their results."""

import pytest

from color_model import picture
from everymask.cli.inputs import find_inputs, result_stems
from everymask.errors import OptionError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "inner/c.png"):
        picture().save(tmp_path / "photos" / name, format="PNG")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sources"),
    [
        (["photos/b.png"], ["photos/b.png"]),
        (["photos"], ["photos/a.JPG", "photos/b.png"]),
        (["photos/*"], ["photos/a.JPG", "photos/b.png"]),
        (["photos/**/*.png"], ["photos/b.png", "photos/inner/c.png"]),
        (["photos/b.png", "photos"], ["photos/b.png", "photos/a.JPG"]),
        (["https://example.org/x?y=*", "photos/b.png"], ["https://example.org/x?y=*", "photos/b.png"]),
        (["photos/notes.txt"], ["photos/notes.txt"]),  # a file named outright is tried, whatever its suffix
    ],
)
@pytest.mark.usefixtures("photos")
def test_files_folders_globs_and_urls(arguments, sources):
    found = find_inputs(arguments)
    assert list(found.sources) == sources
    assert found.missing == ()


@pytest.mark.usefixtures("photos")
def test_a_file_with_glob_characters_in_its_name_is_itself(tmp_path):
    picture().save(tmp_path / "a[1].png")
    assert find_inputs(["a[1].png"]).sources == ("a[1].png",)


@pytest.mark.usefixtures("photos")
def test_what_is_missing_does_not_stop_the_rest():
    found = find_inputs(["nope.jpg", "photos/b.png", "*.gif", "empty"])
    assert found.sources == ("photos/b.png",)
    assert [reason.split(" (")[0] for reason in found.missing] == [
        "nope.jpg does not exist",
        "*.gif matches no image file",
        "empty holds no image files",
    ]


@pytest.mark.usefixtures("photos")
def test_nothing_at_all_is_wrong_usage():
    with pytest.raises(OptionError, match=r"no input found: nope\.jpg does not exist; empty holds no image files"):
        find_inputs(["nope.jpg", "empty"])


@pytest.mark.parametrize(
    ("sources", "stems"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["x/a.jpg", "y/a.jpg", "z/a.png"], ["a", "a-2", "a-3"]),
        (["a.jpg", "a-2.jpg", "b/a.jpg"], ["a", "a-2", "a-3"]),
        (["A.jpg", "b/a.jpg"], ["A", "a-2"]),
        (["a.b.jpg"], ["a.b"]),
        (
            ["https://example.org/p/cat.jpg?size=9&x=/y", "https://example.org/", "file:///p/c%20d.png"],
            ["cat", "image", "c d"],
        ),
        (["https://example.org/..%2F..%2Fetc%2Fpasswd.jpg"], ["passwd"]),
        (["https://example.org/.."], ["image"]),
    ],
)
def test_no_two_results_have_one_name(sources, stems):
    assert list(result_stems(sources)) == stems
