"""What read_image makes of good images: the same pixels from every source, every mode and format by its stated rule."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ImageError
from everymask.images import read_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[:, :, 0]


def encoded(image: Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


SOURCES: dict[str, Callable[[NDArray[np.uint8], Path], Any]] = {
    "str path": lambda rgb, folder: str(folder / "image.png"),
    "Path": lambda rgb, folder: folder / "image.png",
    "file URL": lambda rgb, folder: (folder / "image.png").as_uri(),
    "bytes": lambda rgb, folder: encoded(Image.fromarray(rgb)),
    "bytearray": lambda rgb, folder: bytearray(encoded(Image.fromarray(rgb))),
    "memoryview": lambda rgb, folder: memoryview(encoded(Image.fromarray(rgb))),
    "file object": lambda rgb, folder: io.BytesIO(encoded(Image.fromarray(rgb))),
    "PIL image": lambda rgb, folder: Image.fromarray(rgb),
    "PIL image, not loaded": lambda rgb, folder: Image.open(io.BytesIO(encoded(Image.fromarray(rgb)))),
    "uint8 array": lambda rgb, folder: rgb,
    "uint8 array, strided": lambda rgb, folder: np.asfortranarray(rgb[::-1])[::-1],
    "uint16 array": lambda rgb, folder: rgb.astype(np.uint16) * 257,
    "uint16 array, big-endian": lambda rgb, folder: (rgb.astype(np.uint16) * 256).astype(">u2"),
    "float16 array": lambda rgb, folder: (rgb / 255).astype(np.float16),
    "float64 array": lambda rgb, folder: rgb / 255,
    "uint8 array with alpha 255": lambda rgb, folder: np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
    "tensor (H, W, C)": lambda rgb, folder: torch.from_numpy(rgb.copy()),
    "tensor (C, H, W)": lambda rgb, folder: torch.from_numpy(rgb.copy()).permute(2, 0, 1),
    "float tensor": lambda rgb, folder: torch.from_numpy(rgb / 255).float().requires_grad_(),
    "uint16 tensor": lambda rgb, folder: torch.from_numpy(rgb.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_pixels(source: str, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(encoded(Image.fromarray(RGB)))
    pixels = read_image(SOURCES[source](RGB, tmp_path))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, RGB)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    height=st.integers(5, 40), width=st.integers(5, 40), channels=st.sampled_from([1, 3, 4]), seed=st.integers(0, 99)
)
def test_file_array_and_tensor_agree(height: int, width: int, channels: int, seed: int) -> None:
    shape = (height, width) if channels == 1 else (height, width, channels)
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    from_file = read_image(encoded(Image.fromarray(array)))
    assert np.array_equal(read_image(array), from_file)
    assert np.array_equal(read_image(Image.fromarray(array)), from_file)
    assert np.array_equal(read_image((array / 255).astype(np.float32)), from_file)
    tensor = torch.from_numpy(array)
    assert np.array_equal(read_image(tensor), from_file)
    if channels > 1:
        assert np.array_equal(read_image(tensor.permute(2, 0, 1)), from_file)


def test_the_result_is_not_the_callers_array() -> None:
    for source in (RGB.copy(), torch.from_numpy(RGB.copy())):
        pixels = read_image(source)
        source[:] = 0
        assert np.array_equal(pixels, RGB)


def test_16_bit_files_and_arrays_agree() -> None:
    array = np.arange(0, 65536, 13, np.uint16).reshape(2, -1)
    assert np.array_equal(read_image(encoded(Image.fromarray(array))), read_image(array))
    assert np.array_equal(read_image(array)[..., 2], array // 256)


def test_grey_and_single_channel_are_repeated() -> None:
    expected = np.dstack([GREY] * 3)
    assert np.array_equal(read_image(GREY), expected)
    assert np.array_equal(read_image(GREY[:, :, None]), expected)
    assert np.array_equal(read_image(torch.from_numpy(GREY.copy())[None]), expected)


def test_bool_is_black_and_white() -> None:
    assert np.array_equal(read_image(GREY > 99), read_image(Image.fromarray(GREY > 99)))
    assert set(np.unique(read_image(GREY > 99))) == {0, 255}


def test_bfloat16_tensor() -> None:
    assert np.array_equal(read_image(torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.bfloat16))[0, :, 0], [0, 128, 255])


MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]


@pytest.mark.parametrize("mode", MODES)
def test_every_pillow_mode_of_a_white_image_is_white(mode: str) -> None:
    white = {"CMYK": 0, "YCbCr": (255, 128, 128), "HSV": (0, 0, 255), "LAB": (255, 128, 128)}
    if mode in ("La", "RGBa"):
        image = Image.new(mode[:-1] + "A", (4, 3), "white").convert(mode)
    elif mode in ("P", "PA"):
        image = Image.new("RGB", (4, 3), "white").convert("P").convert(mode)
    else:
        image = Image.new(mode, (4, 3), white.get(mode, "white"))
    pixels = read_image(image)
    assert pixels.shape == (3, 4, 3)
    assert pixels.min() >= 254  # LAB comes back as 254


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16)), [0, 0, 1, 255]),
        (Image.fromarray(np.array([[0, 255, 256, 65535]], np.int32)), [0, 0, 1, 255]),
        (Image.fromarray(np.array([[0.0, 0.499, 0.5, 1.0]], np.float32)), [0, 127, 128, 255]),
        (Image.fromarray(np.array([[[0, 255], [0, 0], [100, 128]]], np.uint8)), [0, 255, 177]),
    ],
    ids=["I;16", "I", "F", "LA"],
)
def test_rules_for_deep_and_transparent_modes(image: Image.Image, expected: list[int]) -> None:
    assert read_image(image)[0, :, 0].tolist() == expected


def test_transparent_colour_of_a_16_bit_png_is_white() -> None:
    image = Image.fromarray(np.array([[0, 1000, 65535]], np.uint16))
    assert read_image(encoded(image, transparency=1000))[0, :, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(
    ("fmt", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True}), ("GIF", {})],
)
def test_lossless_formats_are_exact(fmt: str, options: dict[str, Any]) -> None:
    image = Image.fromarray(GREY)  # grey: exact in a GIF's palette too
    assert np.array_equal(read_image(encoded(image, fmt, **options)), np.dstack([GREY] * 3))


@pytest.mark.parametrize("fmt", ["JPEG", "AVIF"])
def test_lossy_formats_equal_pillow(fmt: str) -> None:
    if fmt == "AVIF":
        pytest.importorskip("PIL.AvifImagePlugin", reason="this Pillow has no AVIF")
    data = encoded(Image.fromarray(RGB), fmt)
    assert np.array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


# Where the pixel at the top left of the file belongs in the upright image.
TURNED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(fmt: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = read_image(encoded(Image.fromarray(RGB), fmt))
    turned = encoded(Image.fromarray(RGB), fmt, exif=exif)
    expected = TURNED[orientation](plain)
    assert np.array_equal(read_image(turned), expected)
    with Image.open(io.BytesIO(turned)) as image:
        assert np.array_equal(read_image(image), expected)


def test_damaged_exif_does_not_lose_the_picture() -> None:
    data = encoded(Image.fromarray(RGB), exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    with pytest.warns(UserWarning, match="Corrupt EXIF"):  # Pillow says so
        assert np.array_equal(read_image(data), RGB)


def test_a_multi_picture_jpeg_is_its_first_picture() -> None:
    first, second = Image.fromarray(RGB), Image.new("RGB", (7, 5))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.array_equal(read_image(data), read_image(encoded(first, "JPEG")))


def test_a_file_object_is_read_from_where_it_stands_and_left_open() -> None:
    file = io.BytesIO(b"prefix" + encoded(Image.fromarray(RGB)))
    file.seek(6)
    assert np.array_equal(read_image(file), RGB)
    assert not file.closed


@pytest.mark.parametrize("source", ["file", "PIL image", "array", "tensor"])
def test_the_pixel_limit_is_inclusive_and_settable(source: str) -> None:
    given = {
        "file": encoded(Image.fromarray(RGB)),
        "PIL image": Image.fromarray(RGB),
        "array": RGB,
        "tensor": torch.from_numpy(RGB.copy()),
    }[source]
    assert read_image(given, max_pixels=35).shape == (5, 7, 3)
    with pytest.raises(ImageError, match=r"7 x 5 is 35 pixels, over the limit of 34; .* raise max_pixels"):
        read_image(given, max_pixels=34)


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_is_neither_met_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    for fmt in ("PNG", "JPEG", "BMP"):
        assert read_image(encoded(Image.fromarray(RGB), fmt)).shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 4
    with pytest.raises(ImageError, match=r"too large for Pillow .* convert the image to PNG"):
        read_image(encoded(Image.fromarray(RGB), "TIFF"))


def test_reading_imports_no_torch() -> None:
    program = (
        "import sys, numpy; from everymask.images import read_image; "
        "read_image(numpy.zeros((2, 2))); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
