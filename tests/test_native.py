"""Work in threads: every part once, side by side, and errors told."""

from collections.abc import Iterator
from threading import Barrier, get_ident

import pytest
import torch

from everymask.native import in_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("total", "most", "threads"), [(10, 9, 3), (10, 2, 2), (2, 9, 2), (1, 1, 1), (7, 0, 1), (0, 0, 1)]
)
def test_parts_lie_side_by_side(total: int, most: int, threads: int) -> None:
    parts: dict[int, tuple[int, int]] = {}
    together = Barrier(threads)

    def run(first: int, last: int) -> None:
        together.wait(30)
        parts[get_ident()] = first, last

    in_threads(run, total, most)
    assert len(parts) == threads
    assert [place for part in sorted(parts.values()) for place in range(*part)] == list(range(total))


@pytest.mark.parametrize("failing", [0, 2, 4])
def test_an_error_is_raised_when_all_have_ended(failing: int) -> None:
    ended = []

    def run(first: int, last: int) -> None:
        ended.append(first)
        if first == failing:
            raise MemoryError("no memory")

    with pytest.raises(MemoryError, match="no memory"):
        in_threads(run, 6, 3)
    assert sorted(ended) == [0, 2, 4]
