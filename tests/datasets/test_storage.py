"""Files of a data set from folders, archives and URLs: the same names and contents from each."""

import gc
import io
import multiprocessing
import os
import pickle
import shutil
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import fsspec
import numpy as np
import pytest

from everymask.datasets.storage import Storage
from everymask.errors import DataError, MissingExtraError

CONTENTS = {
    "annotations/a.json": b"{}",
    "images/val/b.jpg": b"second",
    "images/val/ä b.jpg": b"third",
    "images-old/c.jpg": b"fourth",
    "readme": bytes(range(256)) * 300,
}
ARCHIVES = {"zip": "zip", "tar": "tar", "gztar": "tar.gz", "bztar": "tar.bz2", "xztar": "tar.xz"}


@pytest.fixture
def folder(tmp_path):
    """A folder "data" with one folder "top" that holds everything, and what operating systems leave behind."""
    litter = {".DS_Store": b"x", "images/val/._b.jpg": b"x", "__MACOSX/images/b.jpg": b"x", "images/Thumbs.db": b"x"}
    for name, content in {**CONTENTS, **litter}.items():
        path = tmp_path / "data" / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "data"


def assert_complete(storage):
    assert storage.names == tuple(sorted(CONTENTS))
    assert {name: storage.read(name) for name in storage.names} == CONTENTS


def test_a_folder(folder):
    storage = Storage.open(folder)
    assert_complete(storage)
    assert storage.root == "top/"
    assert Path(storage.where("images/val/b.jpg")) == folder / "top" / "images" / "val" / "b.jpg"
    assert storage.below("images") == ("images/val/b.jpg", "images/val/ä b.jpg")
    assert storage.folders() == ("annotations", "images", "images-old")
    assert storage.folders("images") == ("val",)
    assert storage.folders("images/val") == ()
    assert "images/val" not in storage
    assert "images/val/b.jpg" in storage


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_stay_packed(folder, kind):
    archive = shutil.make_archive(str(folder.parent / "packed"), kind, folder)
    shutil.rmtree(folder)
    storage = Storage.open(archive)
    assert_complete(storage)
    assert storage.where("readme") == f"{archive}/top/readme"
    assert_complete(pickle.loads(pickle.dumps(storage)))
    assert sorted(path.name for path in folder.parent.iterdir()) == [f"packed.{ARCHIVES[kind]}"]


def test_the_copy_of_a_compressed_tar_goes_with_its_storage(folder, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    storage = Storage.open(shutil.make_archive(str(tmp_path / "packed"), "gztar", folder))
    elsewhere = pickle.loads(pickle.dumps(storage))
    assert_complete(elsewhere)
    assert len(list((tmp_path / "temporary").iterdir())) == 1  # shared
    del elsewhere
    gc.collect()
    assert_complete(storage)
    del storage
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def test_names_of_archives_are_cleaned(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("./images//a.jpg", "./b.txt", "../outside.txt"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("linked.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "b.txt"
        archive.addfile(link)
    storage = Storage.open(tmp_path / "a.tar")
    assert storage.names == ("b.txt", "images/a.jpg", "linked.txt")
    assert storage.read("images/a.jpg") == b"abc"


def test_memory_and_chained_urls(folder):
    archive = shutil.make_archive(str(folder.parent / "packed"), "zip", folder)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/everymask-storage", recursive=True)
    memory.put(archive, "/everymask-packed.zip")
    try:
        assert_complete(Storage.open("memory://everymask-storage"))
        assert_complete(Storage.open("memory://everymask-packed.zip"))
        assert_complete(Storage.open("zip://::memory://everymask-packed.zip"))
        part = Storage.open("zip://top/images::memory://everymask-packed.zip")
        assert part.names == ("b.jpg", "ä b.jpg")
        assert part.read("b.jpg") == b"second"
        assert part.where("b.jpg") == "memory://everymask-packed.zip/top/images/val/b.jpg"
    finally:
        memory.rm("/everymask-storage", recursive=True)
        memory.rm("/everymask-packed.zip")
    assert_complete(Storage.open(folder.as_uri()))
    assert_complete(Storage.open(Path(archive).as_uri()))


class RangeHandler(BaseHTTPRequestHandler):
    """Sends parts of one file, as web servers do."""

    content = b""

    def do_HEAD(self):
        self.answer(b"", len(self.content), 200)

    def do_GET(self):
        start, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = self.content[int(start) : int(end) + 1 if end else None]
        self.answer(part, len(part), 206 if "Range" in self.headers else 200, int(start))

    def answer(self, part, length, status, start=0):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{len(self.content)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


def test_http(folder):
    pytest.importorskip("aiohttp", reason="needs everymask[http]")
    packed = Path(shutil.make_archive(str(folder.parent / "packed"), "zip", folder)).read_bytes()
    handler = type("Handler", (RangeHandler,), {"content": packed})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/packed.zip"
        assert_complete(Storage.open(f"{url}?download=1"))
        assert_complete(Storage.open(f"zip://::{url}"))
        server.shutdown()


def test_links_in_folders_are_followed_and_circles_are_not(folder):
    outside = folder.parent / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "x.png").write_bytes(b"x")
    (folder / "linked").symlink_to(outside)
    (outside / "deep" / "circle").symlink_to(outside)
    storage = Storage.open(folder)
    assert [name for name in storage.names if "linked" in name] == ["linked/deep/x.png"]
    assert storage.read("linked/deep/x.png") == b"x"


def many_files(tmp_path, kind):
    rng = np.random.default_rng(0)
    contents = {f"f{number:02}": rng.bytes(20_000) for number in range(40)}
    (tmp_path / "many").mkdir()
    for name, content in contents.items():
        (tmp_path / "many" / name).write_bytes(content)
    return Storage.open(shutil.make_archive(str(tmp_path / "many"), kind, tmp_path / "many")), contents


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_threads_read_one_archive(tmp_path, kind):
    storage, contents = many_files(tmp_path, kind)
    names = [*contents] * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(storage.read, names)) == [contents[name] for name in names]


def reads_right(storage, contents, sender):
    sender.send(all(storage.read(name) == content for _ in range(5) for name, content in contents.items()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_forked_processes_read_one_archive(tmp_path, kind):
    storage, contents = many_files(tmp_path, kind)
    assert storage.read("f00") == contents["f00"]  # open before the fork
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    workers = [fork.Process(target=reads_right, args=(storage, contents, sender)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [receiver.recv() for _ in workers] == [True] * 3
    for worker in workers:
        worker.join()
    assert storage.read("f07") == contents["f07"]  # a child has not taken the temporary copy with it


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "nowhere", "there is no such folder or file; check the path"),
        (lambda d: write(d / "data.rar", b"Rar!"), "is a file, but no archive: pass the folder"),
        (lambda d: write(d / "data.zip", b"no zip"), r"cannot be opened as a \.zip archive .*: fetch or pack it again"),
        (lambda d: write(d / "data.tar", b"no tar" * 200), r"cannot be opened as a \.tar archive"),
        (lambda d: write(d / "data.tgz", b"no gzip"), r"cannot be opened as a \.tgz archive"),
        (lambda d: d, "holds no files: check the location"),
        (lambda d: "memory://everymask-nothing-here", "check the"),
        (lambda d: "zip://::memory://everymask-nothing.zip", "there is no such file; check the location"),
        (lambda d: "nonsense://data", "cannot be opened .*: check the URL"),
    ],
)
def test_what_is_no_storage_is_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        Storage.open(make(tmp_path))


def test_a_missing_package_is_named():
    if find_spec("ossfs"):
        pytest.skip("ossfs is installed here")
    with pytest.raises(MissingExtraError, match="ossfs"):
        Storage.open("oss://bucket/folder")


def test_unreadable_files(folder):
    storage = Storage.open(folder)
    with pytest.raises(DataError, match=r"images/nothing\.jpg does not exist: check that the data set is complete"):
        storage.read("images/nothing.jpg")
    (folder / "top" / "readme").unlink()
    with pytest.raises(DataError, match=r"readme cannot be read \(No such file or directory\)"):
        storage.read("readme")


def test_a_damaged_member_of_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", b"content " * 100)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[200] ^= 255
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.txt cannot be read from the archive .*: test it with unzip -t"):
        Storage.open(tmp_path / "a.zip").read("a.txt")


def test_passwords_are_not_shown():
    with pytest.raises(DataError) as caught:
        Storage.open("nonsense://me:secret@host/data")
    assert "nonsense://host/data cannot be opened" in str(caught.value)
    assert "secret" not in str(caught.value)
