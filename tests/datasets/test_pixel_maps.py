"""From numbers in PNGs to segments, and the data set around them."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from annotated import expected, photo, pieces, png, storage_of
from everymask.datasets import folder
from everymask.datasets.pixel_maps import Meaning, truth_of
from everymask.errors import DataError, ImageError

MEANINGS = {
    0: None,
    1: Meaning(4),
    2: Meaning(4),  # the same: one segment
    3: Meaning(4, instance=1),
    4: Meaning(4, instance=2),
    5: Meaning(4, is_crowd=True),
    6: Meaning(0),
}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 6)))
def test_pixels_that_mean_the_same_are_one_segment(numbers):
    truth = truth_of(numbers, MEANINGS.__getitem__)
    meant = {each for each in MEANINGS.values() if each}
    masks = [
        (each.label_id, each.is_crowd, np.isin(numbers, [number for number, what in MEANINGS.items() if what == each]))
        for each in meant
    ]
    assert pieces(truth) == expected(masks)
    assert (truth.id_map[numbers == 0] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_an_image_of_many_bands_equals_one_of_few(dtype):
    numbers = np.random.default_rng(0).integers(0, 7, (5000, 700)).astype(dtype)  # more than 2^20 pixels
    truth = truth_of(numbers, MEANINGS.__getitem__)
    assert len(truth.segments) == 5
    for segment in truth.segments:
        of_segment = np.unique(numbers[truth.id_map == segment.pixels.id])
        assert len({MEANINGS[int(number)] for number in of_segment}) == 1
    assert sum(segment.area for segment in truth.segments) == (numbers > 0).sum()


def test_memory_does_not_grow_with_the_number_of_segments():
    def peak(segments):
        numbers = (np.arange(1000 * 1000) % segments).reshape(1000, 1000).astype(np.uint16)
        tracemalloc.start()
        truth = truth_of(numbers, lambda number: Meaning(0, number))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(truth.segments) == segments
        return used

    few, many = peak(2), peak(2000)
    assert many < few + 2_000_000  # a kilobyte for each: no mask of 1,000,000 pixels


def plain_folder(**files):
    base = {"images/a.jpg": photo(4, 6), "labels/a.png": png(np.zeros((4, 6), np.uint8)), "classes.txt": b"road\ncar\n"}
    return storage_of(base | {name.replace("__", "/").replace("_", "."): content for name, content in files.items()})


def turned(orientation, form="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return photo(4, 6, form, exif=exif)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_have_the_size_of_the_upright_image(form, orientation):
    storage = plain_folder(images__a_jpg=turned(orientation, form))
    data = folder.read(storage)
    height, width, _ = data.read_image(0).shape
    assert (height, width) == ((6, 4) if orientation > 4 else (4, 6))
    if orientation < 5:
        assert data.read_truth(0).size == (4, 6)
    else:
        with pytest.raises(
            DataError, match=r"data/labels/a.png is 6 x 4 pixels and its image, turned upright as its EXIF"
        ):
            data.read_truth(0)


def test_another_size_than_the_image_is_refused():
    data = folder.read(plain_folder(labels__a_png=png(np.zeros((2, 3), np.uint8))))
    with pytest.raises(
        DataError, match=r"data/labels/a.png is 3 x 2 pixels and its image 6 x 4: labels must have the size"
    ):
        data.read_truth(0)


def test_damaged_files_are_named():
    data = folder.read(plain_folder(images__a_jpg=b"no picture"))
    with pytest.raises(ImageError, match=r"data/images/a.jpg: is not an image"):
        data.read_image(0)
    data = folder.read(plain_folder(labels__a_png=b"no picture"))
    with pytest.raises(DataError, match=r"data/labels/a.png cannot be read as a PNG"):
        data.read_truth(0)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_are_read_as_stored(bits):
    """Pillow spreads grey of less than 8 bits over 0..255; as labels the numbers count that were written."""
    import struct
    import zlib

    values = np.arange(2**bits, dtype=np.uint8)
    packed = np.packbits(((values[:, None] >> np.arange(bits - 1, -1, -1)) & 1).ravel()).tobytes()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + packed)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    names = "".join(f"class {value}\n" for value in values).encode()
    storage = plain_folder(images__a_jpg=photo(1, 2**bits), labels__a_png=content, classes_txt=names)
    assert folder.read(storage).read_truth(0).class_map().tolist() == [values.tolist()]


def test_a_data_set_can_be_sent_to_another_process():
    data = pickle.loads(pickle.dumps(folder.read(plain_folder())))
    assert data.names == ["a"]
    assert data.source(0) == "data/images/a.jpg"
    assert data.read_image(0).shape == (4, 6, 3)
    assert [segment.label_id for segment in data.read_truth(0).segments] == [0]
