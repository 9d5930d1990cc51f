"""Which images are kept as the worst, and their files."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from everymask.errors import OptionError
from everymask.evaluation.worst import WorstImage, WorstImages, save_worst


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=12), st.integers(1, 5), st.booleans())
def test_the_worst_scores_stay_and_of_equal_ones_the_earlier(scores, count, errors):
    worst, drawn = WorstImages(count, errors=errors), []
    badness = scores if errors else [-score for score in scores]
    for index, score in enumerate(scores):

        def draw(index=index):
            drawn.append(index)
            return Image.new("RGB", (2, 2), (index, 0, 0))

        worst.offer(str(index), score, draw)
    expected = sorted(range(len(scores)), key=lambda index: (-badness[index], index))[:count]
    kept = worst.kept()
    assert [(image.name, image.score) for image in kept] == [(str(index), scores[index]) for index in expected]
    assert [Image.open(io.BytesIO(image.picture)).getpixel((0, 0))[0] for image in kept] == expected
    # Drawn is only what is among the worst of those so far.
    assert drawn == [i for i, bad in enumerate(badness) if sum(other >= bad for other in badness[:i]) < count]


def test_files_are_named_by_rank_and_replace_those_of_an_earlier_call(tmp_path):
    other = tmp_path / "out" / "mine.png"
    first = [WorstImage(f"city/{name} ä?", 0.1, name.encode()) for name in "ab"]
    paths = save_worst(first, tmp_path / "out")
    assert [path.name for path in paths] == ["worst-001-city-a-ä-.png", "worst-002-city-b-ä-.png"]
    assert paths[1].read_bytes() == b"b"
    other.write_bytes(b"kept")
    save_worst([WorstImage("x" * 300, 0.1, b"c")], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.png", f"worst-001-{'x' * 100}.png"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OptionError, match="out"):
        save_worst([], tmp_path / "out")
