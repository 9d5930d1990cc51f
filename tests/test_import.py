"""What importing everymask costs, and what it offers."""

import subprocess
import sys

import pytest

import everymask
from everymask.cli.demo import PHOTO

HEAVY = ("torch", "numpy", "PIL", "rich", "huggingface_hub", "faster_coco_eval", "safetensors")

UNNEEDED = (
    "transformers",
    "huggingface_hub",
    "faster_coco_eval",
    "cv2",
    "scipy",
    "sympy",
    "tokenizers",
    "torch._dynamo",
    "torch._inductor",
)


def loaded_modules(code):
    """The top-level modules a fresh interpreter has after running ``code``."""
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stderr.split()


def test_importing_everymask_loads_nothing_heavy():
    assert not set(HEAVY) & set(loaded_modules("import everymask"))


def test_the_help_loads_no_torch():
    code = (
        "from everymask.cli import main\n"
        "verbs = ['segment', 'demo', 'models', 'evaluate', 'check', 'train', 'bench', 'quantize']\n"
        "for verb in ([], *([each] for each in verbs)):\n"
        "    try: main([*verb, '--help'])\n"
        "    except SystemExit as end: assert not end.code"
    )
    assert not (set(HEAVY) - {"rich"}) & set(loaded_modules(code))


def test_listing_the_models_loads_no_torch():
    code = "from everymask.cli import main\ntry: main(['models'])\nexcept SystemExit as end: assert not end.code"
    assert "torch" not in loaded_modules(code)


def test_segmenting_loads_no_more_than_it_needs(tmp_path):
    code = (
        "from everymask.cli import main\n"
        f"try: main(['segment', {str(PHOTO)!r}, '--task', 'panoptic', '--output', {str(tmp_path)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        f"print(*(name for name in {UNNEEDED} if name in sys.modules), file=sys.stderr)"
    )
    unneeded = set(loaded_modules(code)) & set(UNNEEDED)
    assert not unneeded
    assert (tmp_path / "high-street.overlay.png").exists()


def test_the_public_names_are_there():
    from everymask.loading import load
    from everymask.segmentation import Segment, Segmentation
    from everymask.segmenter import Failure, Segmenter

    assert (everymask.load, everymask.Segmenter, everymask.Failure) == (load, Segmenter, Failure)
    assert (everymask.Segmentation, everymask.Segment) == (Segmentation, Segment)
    assert all(hasattr(everymask, name) for name in everymask.__all__)
    assert set(everymask.__all__) <= set(dir(everymask))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        everymask.lode  # noqa: B018 - the access is the test


def test_every_error_is_an_everymask_error():
    errors = [getattr(everymask, name) for name in everymask.__all__ if name.endswith("Error")]
    assert len(errors) == 6
    assert all(issubclass(error, everymask.EverymaskError) for error in errors)
