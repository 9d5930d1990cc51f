"""A Hugging Face Hub on 127.0.0.1 with just the protocol that downloads need.

with FakeHub() as hub:
    hub.add("owner/name", {"config.json": b"{}"})
    ...  # HF_ENDPOINT=hub.url in a subprocess: huggingface_hub reads it when it is imported
    hub.requests  # [("HEAD", "owner/name", "main", "config.json"), ...]
    hub.models = [{"id": "owner/name", "downloads": 7}]  # what the listing of models answers
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote

RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
API = re.compile(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^/]+))?")


@dataclass
class Repository:
    """``revisions``: from branch, tag or commit to a commit; ``commits``: the files of each commit."""

    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None  # who has none does not even see the repository
    members: tuple[str, ...] | None = None  # the tokens of those who accepted the terms of a gated repository


class FakeHub:
    """The server; ``url`` is its endpoint, ``requests`` all (method, repository, revision, file) it got."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str, str]] = []
        self.models: list[dict[str, Any]] = []  # all that /api/models lists, in this order
        self.queries: list[dict[str, list[str]]] = []  # what it was asked for
        self.broken_status: int | None = None  # answer everything with this status
        self.is_hub = True  # False: files come without the Hub's own headers, as from any web server
        self.cut = 0  # leave out so many bytes at the end of every body
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(
        self,
        name: str,
        files: dict[str, bytes],
        revision: str = "main",
        token: str | None = None,
        members: tuple[str, ...] | None = None,
    ) -> str:
        """Commits files to a branch and gives the commit's hash."""
        repository = self.repositories.setdefault(name, Repository())
        repository.token, repository.members = token, members
        commit = hashlib.sha1(repr((name, revision, sorted(files.items()))).encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.revisions.update({revision: commit, commit: commit})
        return commit

    def downloaded(self) -> list[str]:
        """The files that were downloaded, in order."""
        return [file for method, _, _, file in self.requests if method == "GET"]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            path, _, query = self.path.partition("?")
            resolve, api = RESOLVE.fullmatch(path), API.fullmatch(path)
            if hub.broken_status is not None:
                return self.refuse(hub.broken_status, None)
            if path == "/api/models":
                hub.queries.append(parse_qs(query))
                listing = json.dumps(hub.models).encode()
                return self.send(200, listing, {"Content-Type": "application/json"}, with_body)
            if resolve:
                name, revision, file = (unquote(part) for part in resolve.groups())
            elif api:
                name, revision, file = api[1], unquote(api[2] or "main"), ""
            else:
                return self.refuse(404, None)
            hub.requests.append((self.command, name, revision, file))

            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            repository = hub.repositories.get(name)
            if repository is None or repository.token not in (None, token):
                return self.refuse(404 if token else 401, "RepoNotFound")
            if repository.members is not None and token not in repository.members and file != "":
                return self.refuse(403 if token else 401, "GatedRepo")
            commit = repository.revisions.get(revision)
            if commit is None:
                return self.refuse(404, "RevisionNotFound")
            files = repository.commits[commit]
            if api:
                listing = {"id": name, "sha": commit, "siblings": [{"rfilename": each} for each in sorted(files)]}
                return self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, with_body)
            if file not in files:
                return self.refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return self.send_file(files[file], commit, with_body)

        def send_file(self, content: bytes, commit: str, with_body: bool) -> None:
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
            if hub.is_hub:
                headers["X-Repo-Commit"] = commit
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if not wanted:
                return self.send(200, content, headers, with_body)
            start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return self.send(206, content[start : end + 1], headers, with_body)

        def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body[: len(body) - hub.cut])
                self.close_connection = hub.cut > 0

        def refuse(self, status: int, code: str | None, headers: dict[str, str] | None = None) -> None:
            extra = {} if code is None else {"X-Error-Code": code, "X-Error-Message": code}
            self.send(status, b"", {**extra, **(headers or {})}, with_body=False)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: the test looks at ``requests``."""

    return Handler
