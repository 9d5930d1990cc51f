"""everymask demo: the real model, the real photograph."""

from pathlib import Path

import pytest
from PIL import Image

from everymask.cli import main


def test_the_last_line_is_the_path_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(["demo"])
    assert done.value.code == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("high-street.jpg: ")
    assert " road" in first
    assert " car" in first
    assert last == "everymask-demo/high-street.overlay.png"
    with Image.open(tmp_path / last) as picture:
        assert picture.width >= 480
