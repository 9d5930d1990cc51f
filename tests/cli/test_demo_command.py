"""everymask demo."""

from PIL import Image

from color_model import picture


def test_the_last_line_is_the_path_of_the_picture(everymask_command, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    picture(64, 48).save(tmp_path / "photos" / "street-1.jpg")
    monkeypatch.setattr("everymask.cli.demo.PHOTOS", tmp_path / "photos")
    done = everymask_command("demo")
    assert (done.status, done.err) == (0, "")
    first, last = done.out.splitlines()
    assert first.startswith("street-1.jpg: 2 segments (")
    assert last == "everymask-demo/street-1.overlay.png"
    assert Image.open(tmp_path / last).width >= 64
