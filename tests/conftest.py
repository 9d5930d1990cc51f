"""What holds for all tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that was compiled before is found, and nothing is left on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERYMASK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
