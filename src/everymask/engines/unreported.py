"""Importing packages that tell their makers over the network that they are used, so that they do not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unreported() -> Iterator[None]:
    """Inside, openvino and nncf are imported as on a build machine: from there, and then on, they send nothing.

    Where nobody declined it, they report every import and what is done with a model. CI=true is what their package
    for that reads, once, when it is first imported.
    """
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
