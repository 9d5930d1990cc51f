"""Downloading from ModelScope through its package: what it is asked for, and what it makes of it."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from everymask.checkpoints.find import find
from everymask.errors import CheckpointError, MissingExtraError

NAME = "modelscope:damo/cv_vitadapter_semantic-segmentation_cocostuff164k"
FILES = {
    "configuration.json": b"{}",
    "pytorch_model.pt": b"weights" * 100,
    "mmcv_config.py": b"raise SystemExit",
    "README.md": b"# A model",
}
STAND_IN = """
import json, pathlib
CALLS = []

def snapshot_download(model_id, revision=None, cache_dir=None, allow_patterns=None, token=None):
    CALLS.append(dict(model_id=model_id, revision=revision, cache_dir=cache_dir, allow=allow_patterns, token=token))
    if model_id == "damo/missing":
        raise ValueError("not on ModelScope")
    return "/downloaded"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What ``snapshot_download`` of a package that stands in for ModelScope's is asked for."""
    hub = tmp_path / "modelscope" / "hub"
    hub.mkdir(parents=True)
    (hub.parent / "__init__.py").touch()
    (hub / "__init__.py").touch()
    (hub / "snapshot_download.py").write_text(STAND_IN)
    for name in [each for each in sys.modules if each.partition(".")[0] == "modelscope"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    from modelscope.hub.snapshot_download import CALLS

    yield CALLS
    for name in [each for each in sys.modules if each.partition(".")[0] == "modelscope"]:
        del sys.modules[name]


def test_the_package_is_asked_for_weights_and_configs_only(calls: list[dict[str, Any]]) -> None:
    assert find(NAME) == Path("/downloaded")
    assert find("modelscope:damo/x", revision="v1", token="t", cache_dir=Path("c")) == Path("/downloaded")
    first, second = calls
    assert first["model_id"] == "damo/cv_vitadapter_semantic-segmentation_cocostuff164k"
    assert (first["revision"], first["cache_dir"], first["token"]) == (None, None, None)
    assert {"configuration.json", "pytorch_model.pt"} <= set(first["allow"])
    assert not any(pattern.endswith(".py") or pattern == "*" for pattern in first["allow"])
    assert (second["revision"], second["cache_dir"], second["token"]) == ("v1", "c", "t")


def test_whatever_goes_wrong_is_told_with_the_cure(calls: list[dict[str, Any]]) -> None:
    with pytest.raises(CheckpointError, match=r"damo/missing could not be.*not on ModelScope.*or give a local folder"):
        find("modelscope:damo/missing")


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope.hub.snapshot_download", None)
    with pytest.raises(MissingExtraError, match="pip install modelscope"):
        find(NAME)


@pytest.mark.parametrize("name", ["modelscope:", "modelscope:damo", "modelscope:a/b/c", "modelscope:../b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="nor modelscope:owner/name"):
        find(name)


class Hub(BaseHTTPRequestHandler):
    """As much of ModelScope's API as its package asks for; it has one repository, damo/model."""

    fetched: list[str]

    def do_GET(self) -> None:
        address = urlparse(self.path)
        if not address.path.startswith("/api/v1/models/damo/model/"):
            self._send(404, b'{"Code": 404, "Message": "not found", "Success": false}')
        elif address.path.endswith("/repo/files"):
            files = [{"Name": name, "Path": name, "Type": "blob", "Size": len(each)} for name, each in FILES.items()]
            self._send(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": files}}).encode())
        else:
            [name] = parse_qs(address.query)["FilePath"]
            self.fetched.append(name)
            self._send(200, FILES[name])

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A ModelScope on this machine, which the real package takes for the real one."""
    handler = type("OneHub", (Hub,), {"fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(find_spec("modelscope") is None, reason="needs the package modelscope")
def test_the_real_package_downloads_what_is_needed_once(hub: type[Hub], tmp_path: Path) -> None:
    for _ in range(2):
        folder = find("modelscope:damo/model", cache_dir=tmp_path)
        found = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
        assert found == {name: FILES[name] for name in ("configuration.json", "pytorch_model.pt")}
    assert sorted(hub.fetched) == ["configuration.json", "pytorch_model.pt"]
    with pytest.raises(CheckpointError, match="damo/other could not be downloaded"):
        find("modelscope:damo/other", cache_dir=tmp_path)
