"""The bilinear resize of OpenCV: bit for bit the same where OpenCV is installed, and what is known without it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.geometry import Size
from everymask.preprocessing.opencv import resize_like_opencv

sides = st.integers(1, 150)


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels), np.uint8)


def resize_with_opencv(image: np.ndarray, size: Size) -> np.ndarray:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    resized: np.ndarray = cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    return resized


@settings(derandomize=True, deadline=None, max_examples=200)
@given(height=sides, width=sides, new_height=sides, new_width=sides)
def test_equal_to_opencv(height: int, width: int, new_height: int, new_width: int) -> None:
    image, size = picture(height, width), Size(new_height, new_width)
    assert np.array_equal(resize_like_opencv(image, size), resize_with_opencv(image, size))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(height=sides, width=sides, down=st.integers(1, 4), across=st.integers(1, 4), grow=st.booleans())
def test_whole_factors_equal_opencv(height: int, width: int, down: int, across: int, grow: bool) -> None:
    """Among them the half both ways, which OpenCV computes as a mean."""
    small, large = Size(height, width), Size(height * down, width * across)
    image, size = (picture(*small), large) if grow else (picture(*large), small)
    assert np.array_equal(resize_like_opencv(image, size), resize_with_opencv(image, size))


@pytest.mark.parametrize("size", [Size(896, 1195), Size(896, 1216), Size(864, 3584)])
def test_photographs_equal_opencv(size: Size) -> None:
    image = picture(1200, 1601)
    assert np.array_equal(resize_like_opencv(image, size), resize_with_opencv(image, size))


def test_black_and_white_keep_both() -> None:
    image = np.zeros((6, 9, 3), np.uint8)
    image[:, 4:] = 255
    for size in (Size(3, 5), Size(6, 18), Size(31, 44), Size(1, 2)):
        resized = resize_like_opencv(image, size)
        assert resized.shape == (*size, 3)
        assert (resized[:, 0] == 0).all()
        assert (resized[:, -1] == 255).all()


def test_a_half_is_the_rounded_mean_of_four() -> None:
    image = np.array([[0, 1, 10, 11], [0, 1, 10, 12], [200, 201, 255, 255], [202, 203, 255, 255]], np.uint8)[..., None]
    assert resize_like_opencv(image, Size(2, 2))[..., 0].tolist() == [[1, 11], [202, 255]]


def test_the_right_size_is_left_alone() -> None:
    image = picture(7, 5)
    assert resize_like_opencv(image, Size(7, 5)) is image
