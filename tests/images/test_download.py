"""URLs: good answers, and every way a server can misbehave."""

import io
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from everymask.errors import ImageError
from everymask.images import read_image

RGB = np.random.default_rng(2).integers(0, 256, (8, 9, 3), np.uint8)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    done = threading.Event()  # set when the tests are over: nobody waits for a server that stalls

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        body = png()
        if path in ("/image", "/caf%C3%A9%20au%20lait.png"):
            self.answer(200, body, {"Content-Length": str(len(body))})
        elif path == "/unannounced":
            self.answer(200, body)
        elif path == "/redirect":
            self.answer(302, b"", {"Location": query})
        elif path == "/loop":
            self.answer(301, b"", {"Location": "/loop"})
        elif path == "/no-location":
            self.answer(302, b"")
        elif path == "/html":
            self.answer(200, b"<html>please log in</html>")
        elif path == "/cut":
            self.answer(200, body[:20], {"Content-Length": str(len(body))})
        elif path == "/huge":
            self.answer(200, b"", {"Content-Length": "99999999999"})
        elif path == "/silent":
            self.done.wait(10)
        elif path == "/dribble":
            self.answer(200, b"")
            while not self.done.wait(0.05):
                self.wfile.write(b"x")
        elif path == "/garbage":
            self.wfile.write(b"not http at all\r\n\r\n")
        else:
            self.answer(404, b"nothing here")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are the point of these tests


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with QuietServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        Handler.done.set()
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize(
    "path",
    ["/image", "/unannounced", "/image#fragment", "/café au lait.png", "/redirect?/redirect?/image"],
)
def test_a_url_is_read(server: str, path: str) -> None:
    assert np.array_equal(read_image(server + path), RGB)
    assert np.array_equal(read_image(server.replace("http", "HTTP") + path), RGB)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", r"/missing: the server answered 404 Not Found; check the address"),
        ("/no-location", r"the server answered 302 Found"),
        ("/loop", r"more than 5 redirects"),
        ("/redirect?file:///etc/passwd", r"redirects to a file: address; use a URL that stays on http or https"),
        ("/redirect?ftp://example.org/a.png", r"redirects to a ftp: address"),
        ("/redirect?data:image/png;base64,AAAA", r"redirects to a data: address"),
        ("/redirect?http://[::1", r"could not be fetched"),
        ("/html", r"/html: is an HTML page"),
        ("/cut", r"the connection ended after 20 of \d+ bytes; try again"),
        ("/garbage", r"could not be fetched"),
        ("/huge", r"larger than the limit of 500,000,000 bytes for a download; raise max_bytes"),
    ],
)
def test_bad_answers(server: str, path: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(server + path)


@pytest.mark.parametrize("path", ["/image", "/unannounced"])
def test_the_byte_limit_is_inclusive_and_settable(server: str, path: str) -> None:
    size = len(png())
    assert np.array_equal(read_image(server + path, max_bytes=size), RGB)
    with pytest.raises(ImageError, match=r"larger than the limit of .* raise max_bytes"):
        read_image(server + path, max_bytes=size - 1)


@pytest.mark.parametrize("path", ["/silent", "/dribble", "/redirect?/silent"])
def test_a_slow_server_meets_the_timeout(server: str, path: str) -> None:
    with pytest.raises(ImageError, match=r"no complete answer within 0.3 s; raise timeout"):
        read_image(server + path, timeout=0.3)


def test_the_pixel_limit_holds_for_urls(server: str) -> None:
    with pytest.raises(ImageError, match=r"over the limit of 71"):
        read_image(server + "/image", max_pixels=71)


def test_connection_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(ImageError, match=r"could not be fetched .*refused.*; check the address and the network"):
            read_image(f"http://127.0.0.1:{unused.getsockname()[1]}/a.png")
