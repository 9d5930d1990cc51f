"""Image files and Pillow images as RGB pixels."""

import io
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from everymask.errors import ImageError
from everymask.images.arrays import high_byte, unit_floats

FORMATS = "JPEG, PNG, WebP, TIFF, BMP, GIF and AVIF"
HEADER_BYTES = 32

ORIENTATION_TAG = 0x0112
# EXIF 2.32, section 4.6.4 A: where row 0 and column 0 of the file belong; value 1 is upright.
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TRANSPOSING = (5, 6, 7, 8)  # those that swap height and width
PNG_ORIENTATION = (b"eXIf", b"exif", b"xmp")  # one of these is in every PNG whose orientation Pillow can find


def decode_file(file: IO[bytes], name: str, max_pixels: int) -> NDArray[np.uint8]:
    """The image that a seekable binary file holds from its start, (H, W, 3) uint8 RGB; of several, the first.

    Raises ImageError where the content is empty, not of an allowed format, over ``max_pixels``, damaged or truncated.
    """
    with _open(file, name) as image:
        return decode_pillow(image, name, max_pixels)


def upright_size(content: bytes, name: str, max_pixels: int) -> tuple[int, int]:
    """The (height, width) of what ``decode_file`` makes of a file's content; of most files only the header is read.

    Raises ImageError where the content is empty, not of an allowed format, over ``max_pixels``, or its header damaged.
    """
    with _open(io.BytesIO(content), name) as image:
        check_pixels(image.height, image.width, name, max_pixels)
        # Asked for its orientation, Pillow decodes the whole of a PNG that has none: it may come after the pixels.
        if isinstance(image, PngImagePlugin.PngImageFile) and not any(word in content for word in PNG_ORIENTATION):
            return image.height, image.width
        if _orientation(image) not in TRANSPOSING:
            return image.height, image.width
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # whether its size is upright depends on Pillow
            height, width, _ = decode_pillow(image, name, max_pixels).shape
            return height, width
        return image.width, image.height


def _open(file: IO[bytes], name: str) -> Image.Image:
    """The image, its pixels not decoded yet."""
    header = file.read(HEADER_BYTES)
    file.seek(0)
    reader = _reader(header, name)
    try:
        return reader(file)
    except Exception as error:  # Pillow's readers raise whatever their parsing stumbles over
        raise _undecodable(name, error) from error


def decode_pillow(image: Image.Image, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """A Pillow image, loaded or not yet, (H, W, 3) uint8 RGB, turned upright if it carries an EXIF orientation.

    ``image`` itself is not turned or converted. Modes: 1, L, RGB and their like as they look; anything with
    transparency composited on white; CMYK, YCbCr, HSV and LAB by Pillow's conversion, without colour profiles; I;16 by
    its high byte; I as 16-bit values; F as floats in 0..1.

    Raises ImageError where the pixels are too many, damaged or truncated, or do not fit the range of the mode.
    """
    check_pixels(image.height, image.width, name, max_pixels)
    try:
        image.load()
        rgb = _to_rgb(image, name)
        # After loading: Pillow turns TIFFs itself then, and removes their tag.
        turn = ORIENTATIONS.get(_orientation(image))
        return np.array(rgb if turn is None else rgb.transpose(turn))
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, zlib.error, KeyError ...
        raise _undecodable(name, error) from error


def check_pixels(height: int, width: int, name: str, max_pixels: int) -> None:
    """Raises ImageError unless the size is positive and has at most ``max_pixels`` pixels."""
    if height < 1 or width < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height}); pass an image of at least 1 x 1")
    if height * width > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} is {height * width:,} pixels, over the limit of {max_pixels:,}; "
            "shrink or cut the image, or raise max_pixels"
        )


def _reader(header: bytes, name: str) -> type[ImageFile.ImageFile]:
    """The Pillow reader for a file that begins with ``header``.

    This instead of Image.open, whose own pixel limit is a global of the process that is not ours to change.
    """
    if not header:
        raise ImageError(f"{name}: is empty; pass a file with content, or rewind the file object")
    if header.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile  # also phones' multi-picture files (MPO), of which it reads the first
    if header.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if header.startswith(b"RIFF") and header[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if header.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TiffImagePlugin.TiffImageFile
    if header.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if header.startswith((b"GIF87a", b"GIF89a")):
        return GifImagePlugin.GifImageFile
    if header[4:8] == b"ftyp" and any(brand in header[8:] for brand in (b"avif", b"avis")):
        return _avif_reader(name)
    raise ImageError(f"{name}: {_guess(header)}; supported are {FORMATS}: convert it to one of them")


def _avif_reader(name: str) -> type[ImageFile.ImageFile]:
    try:
        from PIL import AvifImagePlugin
    except ImportError as error:
        raise ImageError(f"{name}: this Pillow cannot read AVIF; upgrade Pillow to 11.3 or convert to PNG") from error
    return AvifImagePlugin.AvifImageFile


def _guess(header: bytes) -> str:
    """What a file that is not of an allowed format seems to be."""
    text = header.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, not an image"
    if text.startswith((b"<svg", b"<?xml")):
        return "is SVG or other XML, not pixels"
    if header.startswith(b"PK"):
        return "is a zip archive, not an image"
    if header.startswith(b"%PDF"):
        return "is a PDF, not an image"
    if header[4:8] == b"ftyp":
        return "is HEIC or a video, not an image that can be read here"
    return "is not an image of a known format"


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A loaded image in mode RGB; see ``decode_pillow`` for the rules."""
    if image.mode.startswith("I;16"):
        array = np.asarray(image)
        grey = high_byte(array)
        if "transparency" in image.info:
            grey[array == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "I":
        # Pillow keeps some 16-bit files in 32 bits.
        values = np.asarray(image)  # (H, W) int32
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{name} holds integers from {values.min()} to {values.max()}, expected the 16-bit range 0..65535; "
                "scale them to it"
            )
        return Image.fromarray(high_byte(values)).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(unit_floats(np.asarray(image), name)).convert("RGB")
    if image.has_transparency_data:
        return on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """An image with transparency, composited on white, in mode RGB."""
    if image.mode == "La":
        image = image.convert("LA")  # Pillow knows no direct way
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _orientation(image: Image.Image) -> Any:
    """The EXIF orientation, 1 to 8; 1 without one, or where EXIF cannot be read: no reason to lose a picture."""
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # a parser of arbitrary bytes: struct.error, SyntaxError, ValueError, KeyError ...
        return 1


def _undecodable(name: str, error: Exception) -> ImageError:
    if isinstance(error, Image.DecompressionBombError):
        # TIFF, WebP and GIF meet Pillow's own limit inside its decoders.
        return ImageError(f"{name}: too large for Pillow ({error}); convert the image to PNG, or cut it into tiles")
    return ImageError(
        f"{name}: is damaged, truncated or of an unknown variant ({error}); get a fresh copy or re-save it"
    )
