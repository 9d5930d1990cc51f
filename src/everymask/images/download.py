"""The body behind an http or https URL, within limits."""

import http.client
import time
from urllib.parse import quote, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from everymask.errors import ImageError

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
CHUNK = 1 << 16


def download(url: str, *, name: str, timeout: float, max_bytes: int) -> bytes:
    """The body of ``url``; ``name`` is what errors call it.

    ``timeout``: seconds for the whole download, redirects included. ``max_bytes``: the most bytes the body may have.
    Up to 5 redirects are followed, each of them to http or https only. Proxies come from the environment.

    Raises ImageError for any other scheme, a status that is not 2xx, a timeout, a body that is too long or cut short,
    and whatever else goes wrong on the network.
    """
    deadline = time.monotonic() + timeout
    opener = _opener()
    for _ in range(1 + MAX_REDIRECTS):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _timed_out(name, timeout)
        try:
            scheme = urlsplit(url).scheme
            if scheme not in ("http", "https"):
                raise ImageError(f"{name}: redirects to a {scheme}: address; use a URL that stays on http or https")
            request = Request(_quoted(url), headers={"User-Agent": "everymask"})
            with opener.open(request, timeout=remaining) as response:
                location = response.headers.get("Location")
                if response.status in REDIRECTS and location:
                    url = urljoin(url, location)
                    continue
                if not 200 <= response.status < 300:
                    raise ImageError(
                        f"{name}: the server answered {response.status} {response.reason}; check the address, or "
                        "download the file and pass its path"
                    )
                return _read_body(response, name, deadline, timeout, max_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
                raise _timed_out(name, timeout) from error
            raise ImageError(
                f"{name}: could not be fetched ({error}); check the address and the network, or download the file and "
                "pass its path"
            ) from error
    raise ImageError(f"{name}: more than {MAX_REDIRECTS} redirects; use the address that they lead to")


def _opener() -> OpenerDirector:
    """An opener that speaks http and https and nothing else, and returns every answer, redirects and errors too."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    return opener


def _read_body(response: http.client.HTTPResponse, name: str, deadline: float, timeout: float, max_bytes: int) -> bytes:
    announced = response.length  # from Content-Length; None where the server does not say
    if announced is not None and announced > max_bytes:
        raise _too_long(name, max_bytes)
    body = bytearray()
    # read1 returns after one receive: a server that sends a byte a second meets the deadline all the same.
    while chunk := response.read1(CHUNK):
        body += chunk
        if len(body) > max_bytes:
            raise _too_long(name, max_bytes)
        if time.monotonic() > deadline:
            raise _timed_out(name, timeout)
    if announced is not None and len(body) < announced:
        raise ImageError(
            f"{name}: the connection ended after {len(body):,} of {announced:,} bytes; try again, or download the file "
            "and pass its path"
        )
    return bytes(body)


def _quoted(url: str) -> str:
    """The URL with spaces and other characters that http does not carry percent-encoded, as browsers do."""
    parts = urlsplit(url)
    path, query = (quote(part, safe="%/:=&?+!$,;'@()*[]~") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _timed_out(name: str, timeout: float) -> ImageError:
    return ImageError(f"{name}: no complete answer within {timeout:g} s; raise timeout, or download the file first")


def _too_long(name: str, max_bytes: int) -> ImageError:
    return ImageError(f"{name}: larger than the limit of {max_bytes:,} bytes for a download; raise max_bytes")
