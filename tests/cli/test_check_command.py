"""everymask check: the table, the JSON and the exit status."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def data(tmp_path):
    """A plain folder of two classes without a fault."""
    root = tmp_path / "data"
    root.mkdir()
    (root / "classes.txt").write_text("road\ncar\n")
    for number, name in enumerate("abc"):
        rng = np.random.default_rng(number)
        for kind in ("images", "labels"):
            (root / kind).mkdir(exist_ok=True)
        photograph = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((32, 24))
        photograph.save(root / "images" / f"{name}.png")
        labels = np.arange(32)[None].repeat(24, 0) // 16
        Image.fromarray(labels.astype(np.uint8)).save(root / "labels" / f"{name}.png")
    return root


def test_a_clean_set(everymask_command, data):
    done = everymask_command("check", data)
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("data: folder, images: 3; 0 errors, 0 warnings, 0 notes\n")


def test_errors_are_shown_with_their_fix(everymask_command, data):
    (data / "labels" / "b.png").unlink()
    (data / "images" / "c.png").write_bytes(b"")
    done = everymask_command("check", data)
    assert done.status == 1
    for text in ("error", "image-without-labels", "images/b.png", "fix 2: add labels", "empty-file", "images/c.png"):
        assert text in done.out
    assert "2 errors, 0 warnings, 0 notes" in done.out


def test_warnings_leave_the_status_at_0(everymask_command, data):
    (data / "images" / "b.png").write_bytes((data / "images" / "a.png").read_bytes())
    done = everymask_command("check", data)
    assert done.status == 0
    assert "duplicate-images" in done.out
    assert "images/a.png = images/b.png" in done.out


def test_json(everymask_command, data):
    (data / "labels" / "b.png").unlink()
    done = everymask_command("check", data, "--format", "folder", "--json")
    assert done.status == 1
    report = json.loads(done.out)
    assert (report["format"], report["splits"]) == ("folder", {"": 3})
    (found,) = report["findings"]
    assert found == {
        "kind": "image-without-labels",
        "severity": "error",
        "message": "images have no labels",
        "where": ["images/b.png"],
        "count": 1,
        "fix": "add labels of the same name up to the suffix, or remove these images: rm images/b.png",
    }


def test_a_model(everymask_command, data):
    done = everymask_command("check", data, "--model", "colors")
    assert "model-has-other-classes" in done.out
    assert "the model has 4 classes and the data 2" in done.out


def test_no_data_is_one_error_line(everymask_command, tmp_path, data):
    done = everymask_command("check", tmp_path / "nowhere")
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert everymask_command("check", data, "--format", "yolo").status == 2


def test_checking_loads_no_torch(data):
    code = (
        "import sys\nfrom everymask.cli import main\n"
        f"try: main(['check', {str(data)!r}])\nexcept SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
