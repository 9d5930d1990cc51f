"""The same calls through transformers' pipeline and ours, from the same folders: the same answers, the same errors."""

import base64
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from official_processors import torchvision
from PIL import Image
from pipeline_answers import Call, Pipelines, assert_same, outcome, picture, pipelines
from torch.utils.data import Dataset
from transformers.pipelines.pt_utils import KeyDataset

from everymask.compat.transformers import pipeline

__all__ = ["pipelines", "torchvision"]  # fixtures

PHOTO = picture()
QUERIES = ("detr", "maskformer", "mask2former", "oneformer", "eomt")
PIXELS = ("segformer", "upernet", "beit", "dpt")
DEPTHS = ("dpt-depth", "depth-anything")


def on_photo(**options: Any) -> Call:
    return lambda pipe: pipe(PHOTO, **options)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class Photos(Dataset[Image.Image]):
    """A data set as torch knows them."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Image.Image:
        return picture(seed=index)


ROWS = [{"image": picture(seed=0), "name": "a"}, {"image": picture(70, 100, 1), "name": "b"}]
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6

# Of each family, by name: every subtask, and every threshold on both sides of what it changes.
FAMILY_CALLS: list[tuple[str, str, dict[str, Any]]] = [
    *((name, "defaults", {}) for name in (*QUERIES, *PIXELS, *DEPTHS)),
    ("eomt-windows", "semantic", {"subtask": "semantic"}),
    *((name, task, {"subtask": task}) for name in QUERIES for task in ("panoptic", "semantic")),
    *((name, "instance", {"subtask": "instance", "threshold": 0.3}) for name in QUERIES if name != "eomt"),
    *((name, "low threshold", {"threshold": 0.3}) for name in QUERIES),
    *((name, "no thresholds", {"threshold": 0, "overlap_mask_area_threshold": 0}) for name in QUERIES),
    *((name, "mask threshold", {"threshold": 0.3, "mask_threshold": 0.25}) for name in QUERIES),
    *((name, "overlap", {"threshold": 0.3, "overlap_mask_area_threshold": 0.8}) for name in QUERIES),
    ("detr", "instance thresholds", {"subtask": "instance", "threshold": 0.3, "mask_threshold": 0.25}),
    ("mask2former", "all above", {"threshold": 1.0}),
    ("mask2former", "beyond", {"threshold": 2}),
    ("mask2former", "below", {"threshold": -1, "overlap_mask_area_threshold": -1}),
    ("segformer", "semantic", {"subtask": "semantic", "threshold": 0.1}),
    # wrong values
    *((name, f"subtask {task}", {"subtask": task}) for name in ("beit", "maskformer") for task in ("stuff", 3)),
    *((name, f"no {task}", {"subtask": task}) for name in ("segformer", "dpt") for task in ("panoptic", "instance")),
    *(("detr", f"{name} is text", {name: "a", "threshold": "a"}) for name in ("threshold", "mask_threshold")),
    ("mask2former", "threshold None", {"threshold": None}),
    ("oneformer", "text", {"subtask": "instance", "mask_threshold": 0.5, "threshold": "a"}),
]


@pytest.mark.parametrize(
    ("name", "options"), [pytest.param(name, options, id=f"{name} {what}") for name, what, options in FAMILY_CALLS]
)
def test_every_family_answers_alike(pipelines: Pipelines, name: str, options: dict[str, Any]) -> None:
    call = on_photo(**options)
    theirs = outcome(call, partial(pipelines.theirs, name))
    assert_same(outcome(call, partial(pipelines.like_transformers, name)), theirs)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of image files, good and bad."""
    folder, content = tmp_path_factory.mktemp("photos"), file_of(PHOTO)
    (folder / "photo.png").write_bytes(content)
    (folder / "sideways.jpg").write_bytes(file_of(PHOTO, "JPEG", exif=SIDEWAYS))
    (folder / "broken.png").write_bytes(content[:200])
    (folder / "text.jpg").write_text("no image")
    return folder


TEXT = base64.b64encode(file_of(PHOTO)).decode()
SEVERAL = [picture(seed=0), picture(seed=1), picture(seed=2)]
INPUTS: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: str(folder / "photo.png"),
    "sideways": lambda folder: str(folder / "sideways.jpg"),
    "base64": lambda folder: TEXT,
    "data URL": lambda folder: f"data:image/png;base64,{TEXT}",
    "grey": lambda folder: PHOTO.convert("L"),
    "palette": lambda folder: PHOTO.convert("P"),
    "opaque": lambda folder: PHOTO.convert("RGBA"),
    "list": lambda folder: SEVERAL,
    "list of one": lambda folder: [PHOTO],
    "mixed list": lambda folder: [str(folder / "photo.png"), PHOTO],
    "generator": lambda folder: (each for each in SEVERAL),
    "empty generator": lambda folder: (each for each in []),
    "data set": lambda folder: Photos(),
    "column": lambda folder: KeyDataset(ROWS, "image"),
    # wrong ones
    "none": lambda folder: None,
    "tuple": lambda folder: tuple(SEVERAL),
    "nested": lambda folder: [SEVERAL],
    "array": lambda folder: np.asarray(PHOTO),
    "tensor": lambda folder: torch.zeros(3, 8, 8),
    "bytes": lambda folder: file_of(PHOTO),
    "Path": lambda folder: folder / "photo.png",
    "map": lambda folder: map(str, SEVERAL),
    "missing": lambda folder: str(folder / "nothing.jpg"),
    "empty text": lambda folder: "",
    "folder": str,
    "broken": lambda folder: str(folder / "broken.png"),
    "text file": lambda folder: str(folder / "text.jpg"),
    "bad one of two": lambda folder: [PHOTO, str(folder / "nothing.jpg")],
    "bad one of a column": lambda folder: KeyDataset([*ROWS, {"image": 3}], "image"),
}


@pytest.mark.parametrize("name", ["segformer", "dpt-depth"])
@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_are_taken_and_refused_alike(pipelines: Pipelines, photos: Path, kind: str, name: str) -> None:
    def call(pipe: Any) -> Any:
        return pipe(INPUTS[kind](photos))

    theirs = outcome(call, partial(pipelines.theirs, name))
    for options in ({}, {"batch_size": 2}):
        assert_same(outcome(call, partial(pipelines.like_transformers, name, **options)), theirs)


CALLS: dict[str, Call] = {
    "images": lambda pipe: pipe(None, images=PHOTO),
    "batch of equal sizes": lambda pipe: pipe(SEVERAL, batch_size=2),
    "data set in batches": lambda pipe: pipe(Photos(), batch_size=2, num_workers=0),
    "timeout": lambda pipe: pipe(PHOTO, timeout=5.0),
    "no batch": lambda pipe: pipe([PHOTO], batch_size=0),
    "no workers": lambda pipe: pipe([PHOTO], num_workers=-1),
    "two images": lambda pipe: pipe(PHOTO, PHOTO),
}


@pytest.mark.parametrize("name", ["segformer", "mask2former", "depth-anything"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_other_arguments_of_a_call(pipelines: Pipelines, call: Call, name: str) -> None:
    ours, theirs = (outcome(call, partial(make, name)) for make in (pipelines.like_transformers, pipelines.theirs))
    if isinstance(theirs, TypeError):  # Python's own, of the signature
        assert isinstance(ours, TypeError)
    else:
        assert_same(ours, theirs)


# What a pipeline is made with; the calls then say nothing, or something else.
MADE_WITH: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "subtask": ("mask2former", {"subtask": "semantic"}, {}),
    "subtask, and another": ("mask2former", {"subtask": "semantic"}, {"subtask": "panoptic"}),
    "subtask, and none": ("mask2former", {"subtask": "semantic"}, {"subtask": None}),
    "thresholds": ("maskformer", {"threshold": 0.3, "overlap_mask_area_threshold": 0.0}, {}),
    "thresholds, and another": ("maskformer", {"threshold": 0.3}, {"threshold": 0.9}),
    "mask threshold": ("maskformer", {"threshold": 0.3, "mask_threshold": 0.25}, {}),
    "wrong subtask": ("detr", {"subtask": "stuff"}, {}),
    "batch size": ("eomt", {"batch_size": 2, "num_workers": 0}, {}),
    "device number": ("segformer", {"device": -1}, {}),
    "torch device": ("segformer", {"device": torch.device("cpu")}, {}),
    "no such device": ("segformer", {"device": 0} if not torch.cuda.is_available() else {"device": "cpu"}, {}),
    "dtype": ("segformer", {"dtype": torch.float32}, {}),
    "name of a dtype": ("segformer", {"dtype": "float32"}, {}),
    "torch_dtype": ("segformer", {"torch_dtype": torch.float32}, {}),
    "dtype in model_kwargs": ("segformer", {"model_kwargs": {"dtype": torch.float32}}, {}),
    "modelcard": ("segformer", {"modelcard": "card"}, {}),
    "framework": ("segformer", {"framework": "pt"}, {}),
    "args_parser": ("segformer", {"args_parser": None}, {}),
    "binary_output": ("segformer", {"binary_output": True}, {}),
    "no code": ("segformer", {"trust_remote_code": False, "use_fast": True}, {}),
    "revision of a folder": ("segformer", {"revision": None, "token": None}, {}),
    "timeout": ("dpt-depth", {"timeout": 5.0}, {}),
    "parameters": ("dpt-depth", {}, {"parameters": {"timeout": 5.0}}),
    "missing model": ("segformer", {"model": "/nowhere/at/all"}, {}),
    "missing processor": ("segformer", {"image_processor": "/nowhere/at/all"}, {}),
}


@pytest.mark.parametrize("what", MADE_WITH)
def test_what_a_pipeline_is_made_with(pipelines: Pipelines, what: str) -> None:
    name, options, changes = MADE_WITH[what]
    call = on_photo(**changes)
    theirs = outcome(call, partial(pipelines.theirs, name, **options))
    assert_same(outcome(call, partial(pipelines.like_transformers, name, **options)), theirs)


def test_the_image_processor_of_another_folder(pipelines: Pipelines, tmp_path: Path) -> None:
    """It changes what the network sees, and so the answer."""
    small = '{"image_processor_type": "SegformerImageProcessor", "size": {"height": 32, "width": 40}}'
    (tmp_path / "preprocessor_config.json").write_text(small)
    call, options = on_photo(), {"image_processor": str(tmp_path)}
    theirs = outcome(call, partial(pipelines.theirs, "segformer", **options))
    assert_same(outcome(call, partial(pipelines.ours, "segformer", **options)), theirs)
    with pytest.raises(AssertionError):
        assert_same(outcome(call, partial(pipelines.ours, "segformer")), theirs)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((), RuntimeError), (("image-segmentatio",), KeyError)],
    ids=["nothing", "unknown task"],
)
def test_what_no_pipeline_is_made_of(arguments: tuple[str, ...], error: type[Exception]) -> None:
    for make in (transformers.pipeline, pipeline):
        with pytest.raises(error):
            make(*arguments)
