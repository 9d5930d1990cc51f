"""What importing the compatible names costs, and that they are there."""

import pytest

import everymask.compat.transformers as compat
from test_import import HEAVY, loaded_modules


def test_importing_loads_nothing_heavy() -> None:
    assert not {*HEAVY, "transformers"} & set(loaded_modules("import everymask.compat.transformers"))


def test_a_pipeline_needs_no_transformers() -> None:
    code = (
        "from PIL import Image\n"
        "from everymask.compat.transformers import pipeline\n"
        "pipeline('image-segmentation', model='street')(Image.new('RGB', (64, 48)))"
    )
    assert "transformers" not in loaded_modules(code)


def test_the_names_are_there() -> None:
    from everymask.compat.transformers.pipelines import pipeline

    assert compat.pipeline is pipeline
    assert all(callable(getattr(compat, name)) for name in compat.__all__)
    assert set(compat.__all__) <= set(dir(compat))
    with pytest.raises(AttributeError, match="no attribute 'pipe'"):
        compat.pipe  # noqa: B018 - the access is the test
