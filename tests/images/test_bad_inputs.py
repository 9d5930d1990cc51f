"""The bad input table: broken and odd inputs, each with its exact outcome."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from everymask.errors import ImageError
from everymask.images import read_image

RGB = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)


def save(image: Image.Image, fmt: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def photo(fmt: str, **options: Any) -> bytes:
    return save(Image.fromarray(RGB), fmt, **options)


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def bmp_that_claims(width: int, height: int) -> bytes:
    data = bytearray(photo("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def png_with_corrupted_pixels() -> bytes:
    data = bytearray(photo("PNG"))
    middle = data.index(b"IDAT") + 1000
    data[middle : middle + 50] = b"\xff" * 50
    return bytes(data)


def zip_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.txt", "no image")
    return buffer.getvalue()


def palette_image(**options: Any) -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9])
    image.putdata([0, 1, 2])
    return save(image, "PNG", **options)


def animated_gif() -> bytes:
    frames = [Image.new("RGB", (2, 1), colour) for colour in ("red", "lime", "blue")]
    return save(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)


class BrokenFile:
    name = "broken-stream"

    def read(self) -> bytes:
        raise OSError("the cable is out")


def closed_file() -> io.BytesIO:
    file = io.BytesIO(photo("PNG"))
    file.close()
    return file


def file_at_its_end() -> io.BytesIO:
    file = io.BytesIO(photo("PNG"))
    file.read()
    return file


def closed_pillow_image() -> Image.Image:
    image = Image.open(io.BytesIO(photo("PNG")))
    image.close()
    return image


def floats(*values: float) -> np.ndarray:
    return np.array([values])


# name: (what makes the input, a fragment of the ImageError's message)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    # files that are damaged
    "empty file": (lambda: b"", "is empty"),
    "truncated JPEG": (lambda: cut(photo("JPEG")), "is damaged, truncated"),
    "truncated PNG": (lambda: cut(photo("PNG")), "is damaged, truncated"),
    "truncated TIFF": (lambda: cut(photo("TIFF")), "is damaged, truncated"),
    "truncated WebP": (lambda: cut(photo("WEBP")), "is damaged, truncated"),
    "truncated BMP": (lambda: cut(photo("BMP")), "is damaged, truncated"),
    "truncated GIF": (lambda: cut(photo("GIF")), "is damaged, truncated"),
    "only a PNG signature": (lambda: photo("PNG")[:8], "is damaged, truncated"),
    "only a JPEG signature": (lambda: photo("JPEG")[:4], "is damaged, truncated"),
    "PNG with a corrupted chunk": (png_with_corrupted_pixels, "is damaged, truncated"),
    "text after BM": (lambda: b"BMW 2002 turbo, 1973, one careful owner", "is damaged, truncated"),
    # files that are not images, or not of an allowed format
    "text": (lambda: b"this is not a picture", "is not an image of a known format; supported are JPEG, PNG"),
    "HTML": (lambda: b"\n<!DOCTYPE html><html><body>404</body></html>", "is an HTML page"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is SVG or other XML"),
    "SVG with an XML declaration": (lambda: b'<?xml version="1.0"?><svg/>', "is SVG or other XML"),
    "zip": (zip_archive, "is a zip archive"),
    "PDF": (lambda: b"%PDF-1.7 ...", "is a PDF"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC or a video"),
    "PPM, not on the list": (lambda: photo("PPM"), "is not an image of a known format"),
    "ICO, not on the list": (lambda: photo("ICO"), "is not an image of a known format"),
    "JPEG 2000, not on the list": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n", "is not an image of a known format"),
    "RIFF that is not WebP": (lambda: b"RIFF\x10\0\0\0WAVEfmt ", "is not an image of a known format"),
    # too large
    "PNG header that claims 60000 x 60000": (
        lambda: png_that_claims(60000, 60000),
        "60000 x 60000 is 3,600,000,000 pixels, over the limit of 200,000,000",
    ),
    "BMP header that claims 40000 x 40000": (lambda: bmp_that_claims(40000, 40000), "over the limit"),
    "PNG header that claims 0 x 5": (lambda: png_that_claims(0, 5), "is damaged, truncated"),
    "32-bit float TIFF of 0..255": (
        lambda: save(Image.fromarray(np.array([[0, 255]], np.float32)), "TIFF"),
        "holds floats from 0 to 255, expected 0..1; divide",
    ),
    "32-bit integer TIFF beyond 16 bits": (
        lambda: save(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF"),
        "holds integers from 0 to 70000, expected the 16-bit range",
    ),
    # file objects
    "text file object": (lambda: io.StringIO("text"), "gives str, not bytes; open it in binary mode"),
    "closed file object": (closed_file, "could not be read"),
    "file object that fails": (BrokenFile, "the file object broken-stream: could not be read (the cable is out)"),
    "file object at its end": (file_at_its_end, "is empty; pass a file with content, or rewind"),
    # PIL images
    "closed PIL image": (closed_pillow_image, "is damaged, truncated"),
    "PIL image without pixels": (lambda: Image.new("RGB", (0, 5)), "has no pixels"),
    "truncated PIL image": (lambda: Image.open(io.BytesIO(cut(photo("JPEG")))), "is damaged, truncated"),
    # arrays
    "array without rows": (lambda: np.zeros((0, 5, 3), np.uint8), "has no pixels"),
    "array without columns": (lambda: np.zeros((5, 0), np.uint8), "has no pixels"),
    "1-D array": (lambda: np.zeros(5, np.uint8), "of shape (5,) and type uint8 is no image: expected (H, W)"),
    "0-D array": (lambda: np.array(5, np.uint8), "is no image: expected (H, W)"),
    "4-D array": (lambda: np.zeros((1, 5, 5, 3), np.uint8), "is no image: expected (H, W)"),
    "2 channels": (lambda: np.zeros((5, 5, 2), np.uint8), "is no image: expected (H, W)"),
    "5 channels": (lambda: np.zeros((5, 5, 5), np.uint8), "or pick three channels"),
    "(C, H, W) array": (lambda: np.zeros((3, 5, 6), np.uint8), "array.transpose(1, 2, 0) for (C, H, W)"),
    "NaN": (lambda: floats(0.0, np.nan), "expected 0..1; divide 0..255 by 255, clip what overshoots, and replace NaN"),
    "infinity": (lambda: floats(0.0, np.inf), "holds floats from 0 to inf"),
    "float 0..255": (lambda: floats(0.0, 255.0), "holds floats from 0 to 255"),
    "float -1..1": (lambda: floats(-1.0, 1.0), "holds floats from -1 to 1"),
    "int64": (lambda: np.zeros((5, 5), np.int64), "type int64: only uint8, uint16, floats in 0..1 and bool"),
    "uint32": (lambda: np.zeros((5, 5), np.uint32), "type uint32: only uint8"),
    "complex": (lambda: np.zeros((5, 5), np.complex64), "type complex64: only uint8"),
    "objects": (lambda: np.array([[None, "x"]]), "type object: only uint8"),
    # tensors
    "tensor of a batch": (lambda: torch.zeros(1, 3, 5, 5), "looks like a batch; pass its images one by one"),
    "ambiguous tensor": (lambda: torch.zeros(3, 5, 4), "may be (C, H, W) or (H, W, C); pass an array"),
    "tensor without channels": (lambda: torch.zeros(5, 6, 7), "is no image: expected (H, W)"),
    "tensor 0..255": (lambda: torch.full((3, 5, 5), 255.0), "holds floats from 255 to 255"),
    "int64 tensor": (lambda: torch.zeros(5, 5, dtype=torch.int64), "type torch.int64: only uint8"),
    "sparse tensor": (lambda: torch.zeros(5, 5).to_sparse(), "has no numpy form"),
    "meta tensor": (lambda: torch.zeros(5, 5, device="meta"), "has no numpy form"),
    # anything else
    "None": (lambda: None, "cannot read a NoneType as an image; pass a path, URL, bytes"),
    "list": (lambda: [[0, 1], [2, 3]], "cannot read a list as an image"),
    "number": (lambda: 7, "cannot read a int as an image"),
    "data URL": (lambda: "data:image/png;base64," + "A" * 5000, "data: URLs are not read; use file:"),
    "ftp URL": (lambda: "ftp://example.org/a.png", "ftp: URLs are not read"),
    "file URL of another machine": (lambda: "file://server/a.png", "names another machine"),
    "broken file URL": (lambda: "file://[::1", "is no valid URL"),
    "broken http URL": (lambda: "http://[::1", "could not be fetched"),
    "http URL without a host": (lambda: "http:///a.png", "could not be fetched"),
    "path with a null byte": (lambda: "a\0b.png", "could not be opened"),
    "path that is too long": (lambda: "x" * 5000, "could not be opened"),
    "empty path": (lambda: "", "no such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    make, fragment = REFUSED[case]
    with pytest.raises(ImageError) as caught:
        read_image(make())
    assert type(caught.value) is ImageError
    assert fragment in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("case", [case for case, (make, _) in REFUSED.items() if isinstance(make(), bytes)])
def test_refused_the_same_from_a_path_and_named(case: str, tmp_path: Path) -> None:
    make, fragment = REFUSED[case]
    path = tmp_path / "odd.jpg"
    path.write_bytes(make())
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))
    assert fragment in str(caught.value)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    fmt=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]),
    length=st.floats(0, 1),
    position=st.floats(0, 1),
    noise=st.binary(max_size=12),
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken metadata
def test_no_damage_raises_anything_but_image_error(fmt: str, length: float, position: float, noise: bytes) -> None:
    data = bytearray(photo(fmt))
    at = int(position * len(data))
    data[at : at + len(noise)] = noise
    try:
        pixels = read_image(bytes(data[: int(length * len(data))]), max_pixels=10_000)
    except ImageError:
        return
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.jpg: no such file; check the path"):
        read_image(tmp_path / "missing.jpg")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"is a folder; pass the images in it one by one"):
        read_image(tmp_path)


def test_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match=r"is a device or a pipe"):
        read_image(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(photo("PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match=r"locked\.png: permission denied; make the file readable"):
        read_image(path)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ImageError) as caught:
        read_image("ftp://user:secret@example.org/a.png")
    assert "secret" not in str(caught.value)


# name: (what makes the input, the first row of its pixels)
ODD: dict[str, tuple[Callable[[], Any], list[list[int]]]] = {
    "animated GIF: the first frame": (animated_gif, [[255, 0, 0], [255, 0, 0]]),
    "1-bit PNG": (lambda: save(Image.fromarray(np.array([[True, False]])), "PNG"), [[255] * 3, [0] * 3]),
    "palette": (palette_image, [[10, 20, 30], [200, 100, 0], [7, 8, 9]]),
    "palette with a transparent entry": (
        lambda: palette_image(transparency=1),
        [[10, 20, 30], [255, 255, 255], [7, 8, 9]],
    ),
    "palette with transparencies": (
        lambda: palette_image(transparency=bytes([0, 255, 255])),
        [[255, 255, 255], [200, 100, 0], [7, 8, 9]],
    ),
    "RGB PNG with a transparent colour": (
        lambda: save(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
        [[255, 255, 255]],
    ),
    "16-bit PNG": (
        lambda: save(Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)), "PNG"),
        [[0] * 3, [128] * 3, [255] * 3],
    ),
    "32-bit float TIFF of 0..1": (
        lambda: save(Image.fromarray(np.array([[0, 0.2, 1]], np.float32)), "TIFF"),
        [[0] * 3, [51] * 3, [255] * 3],
    ),
    "32-bit integer TIFF of 16-bit values": (
        lambda: save(Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF"),
        [[0] * 3, [255] * 3],
    ),
    "CMYK JPEG": (lambda: save(Image.new("CMYK", (1, 1), (0, 0, 0, 255)), "JPEG"), [[0, 0, 0]]),
    "LA PNG": (
        lambda: save(Image.fromarray(np.array([[[9, 0], [9, 255]]], np.uint8)), "PNG"),
        [[255] * 3, [9] * 3],
    ),
    "PNG named .jpg": (
        lambda: save(Image.new("RGB", (1, 1), (4, 5, 6)), "PNG"),
        [[4, 5, 6]],
    ),
    "one pixel": (lambda: np.array([[77]], np.uint8), [[77, 77, 77]]),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_but_readable(case: str, tmp_path: Path) -> None:
    make, row = ODD[case]
    source = make()
    if isinstance(source, bytes):
        (tmp_path / "odd.jpg").write_bytes(source)  # the name says nothing about the content
        source = tmp_path / "odd.jpg"
    assert read_image(source)[0].tolist() == row
