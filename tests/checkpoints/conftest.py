"""Where the golden checkpoints are."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden checkpoints and public configs beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared, the golden checkpoints and public configs beside the repository")
    return SHARED
