"""Both pipelines from one folder, and what counts as the same answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny_checkpoints import TINY, save_tiny

from everymask.compat.transformers import pipeline
from everymask.errors import EverymaskError

Call = Callable[[Any], Any]


def picture(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    """Coarse patches of colour: something for a network to tell apart."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def task_of(name: str) -> str:
    return "depth-estimation" if TINY[name].outputs == ("predicted_depth",) else "image-segmentation"


class Pipelines:
    """Pipelines of the tiny checkpoints, each made once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: dict[str, Any] = {}

    def folder(self, name: str) -> Path:
        folder = self.root / name
        return folder if folder.exists() else save_tiny(name, folder)

    def ours(self, name: str, **options: Any) -> Any:
        return self._make(pipeline, name, options)

    def like_transformers(self, name: str, **options: Any) -> Any:
        """Ours, told to decode the way transformers does."""
        decoding = {"decoding": "transformers"} if task_of(name) == "image-segmentation" else {}
        return self.ours(name, **options, **decoding)

    def theirs(self, name: str, **options: Any) -> Any:
        return self._make(transformers.pipeline, name, options)

    def _make(self, make: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
        key = f"{make.__module__} {name} {options}"
        if key not in self._made:
            self._made[key] = make(task_of(name), **{"model": str(self.folder(name)), "device": "cpu", **options})
        return self._made[key]


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipelines]:
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    yield Pipelines(tmp_path_factory.mktemp("tiny"))
    transformers.utils.logging.enable_progress_bar()
    transformers.logging.set_verbosity(verbosity)


def outcome(call: Call, make: Callable[[], Any]) -> Any:
    """What a call gives, or the error it raises; what comes lazily is fetched."""
    try:
        answer = call(make())
        return answer if isinstance(answer, list | dict) else list(answer)
    except Exception as error:
        return error


def assert_same(ours: Any, theirs: Any) -> None:
    """The same structure, labels, order and errors; scores within 1e-4, masks equal on 99 % of the pixels."""
    if isinstance(theirs, Exception):
        assert isinstance(ours, EverymaskError), ours
        assert isinstance(ours, _builtin(type(theirs))), (ours, theirs)
        return
    assert not isinstance(ours, Exception), ours
    assert type(ours) is type(theirs)
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_same(our, their)
    elif "predicted_depth" in theirs:
        _assert_same_depth(ours, theirs)
    else:
        assert ours.keys() == theirs.keys() == {"score", "label", "mask"}
        assert ours["label"] == theirs["label"]
        assert type(ours["score"]) is type(theirs["score"])
        assert ours["score"] is None or abs(ours["score"] - theirs["score"]) <= 1e-4
        assert equal_pixels(ours["mask"], theirs["mask"]) >= 0.99


def equal_pixels(our: Image.Image, their: Image.Image) -> float:
    """The share of equal pixels in two masks."""
    assert (our.mode, our.size) == (their.mode, their.size) == ("L", their.size)
    ours, theirs = np.asarray(our), np.asarray(their)
    assert set(np.unique(ours)) <= {0, 255}
    return float((ours == theirs).mean())


def _assert_same_depth(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys() == {"predicted_depth", "depth"}
    our, their = ours["predicted_depth"], theirs["predicted_depth"]
    assert (our.dtype, our.shape, our.device) == (their.dtype, their.shape, their.device)
    assert torch.allclose(our, their, atol=1e-4)
    our, their = ours["depth"], theirs["depth"]
    assert (our.mode, our.size) == (their.mode, their.size)
    assert np.abs(np.asarray(our, np.int64) - np.asarray(their)).max() <= 1  # both round downwards


def _builtin(error: type[BaseException]) -> type[BaseException]:
    """The error of Python itself that an error is: UnidentifiedImageError is an OSError."""
    return next(each for each in error.__mro__ if each.__module__ == "builtins")
