"""From names to folders."""

from pathlib import Path

import pytest

from everymask.checkpoints import find as find_module
from everymask.checkpoints import hub
from everymask.checkpoints.find import bundled_names, find
from everymask.errors import CheckpointError, OptionError


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled models with "lane" and "street", and one that is none."""
    folder = tmp_path / "bundled"
    for name in ("street", "lane"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").touch()
    (folder / "empty").mkdir()
    monkeypatch.setattr(find_module, "BUNDLED", folder)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str | None]]]:
    """What the Hub was asked for; it answers with a folder that does not matter."""
    calls: list[tuple[str, dict[str, str | None]]] = []

    def download(name: str, **options: str | None) -> Path:
        calls.append((name, options))
        return Path("downloaded")

    monkeypatch.setattr(hub, "download", download)
    return calls


def test_a_bundled_name_comes_before_a_folder(bundled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "street").mkdir()
    assert bundled_names() == ("lane", "street")
    assert find("street") == bundled / "street"
    assert find("./street") == Path("street")
    assert find(Path("street")) == Path("street")


@pytest.mark.usefixtures("bundled")
def test_a_folder_comes_before_the_hub(
    asked: list[tuple[str, dict[str, str | None]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("owner/name", revision="v1", token="t", cache_dir="c") == Path("downloaded")
    assert asked == [("owner/name", {"revision": "v1", "token": "t", "cache_dir": "c"})]
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert find("owner/name") == Path("owner/name")
    assert len(asked) == 1


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find("~/models") == tmp_path / "models"


@pytest.mark.usefixtures("bundled")
@pytest.mark.parametrize(
    "name",
    [
        "stret",
        "",
        "./owner/name",
        "a/b/c",
        "../b",
        "/no/where",
        "a b/c",
        "owner/",
        "~no-user/x",
        "x" * 9999,
        "\0",
        Path("x/y"),
    ],
)
def test_what_is_not_there_gets_an_error_that_lists_the_bundled_models(
    name: str | Path, asked: list[tuple[str, dict[str, str | None]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path / "bundled" / "empty")
    with pytest.raises(CheckpointError, match=r"neither an existing folder nor a bundled model \(lane, street\)"):
        find(name)
    assert not asked


def test_a_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        find(tmp_path / "model.safetensors")


@pytest.mark.usefixtures("bundled")
def test_only_the_hub_has_revisions(tmp_path: Path) -> None:
    for name in ("street", tmp_path):
        with pytest.raises(OptionError, match="revision='v1' has no meaning"):
            find(name, revision="v1")
