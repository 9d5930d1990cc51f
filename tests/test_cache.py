"""The cache folder: where it is, and that it does not grow without end."""

import os
from pathlib import Path

import pytest

from everymask.cache import cache_folder, drop_oldest, private_folder


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EVERYMASK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("kind") == tmp_path / "everymask" / "kind"
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "own"))
    assert cache_folder("kind") == tmp_path / "own" / "kind"
    monkeypatch.delenv("EVERYMASK_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("kind") == Path.home() / ".cache" / "everymask" / "kind"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions are not those of POSIX")
def test_what_is_executed_lies_where_nobody_else_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "new"))
    folder = private_folder("kind")
    assert folder == private_folder("kind") == cache_folder("kind")
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode in (0o720, 0o702):
        folder.chmod(mode)
        with pytest.raises(PermissionError, match="others can write"):
            private_folder("kind")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        private_folder("kind")


def test_what_cannot_be_deleted_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: Path, missing_ok: bool) -> None:
        if path.name == "used":
            raise PermissionError(path)
        os.remove(path)

    for age, name in enumerate(("new", "used")):
        (tmp_path / name).write_bytes(b"0" * 10)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    monkeypatch.setattr(Path, "unlink", refuse)
    drop_oldest(tmp_path, limit=15)
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(b"0" * 10)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    drop_oldest(tmp_path, limit=20)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}
    drop_oldest(tmp_path, limit=20)
    assert len(list(tmp_path.iterdir())) == 2
