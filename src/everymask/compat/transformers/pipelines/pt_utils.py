"""``transformers.pipelines.pt_utils``: one column of a data set."""

from typing import Any, Protocol


class Rows(Protocol):
    """A data set whose rows are dictionaries."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class KeyDataset:
    """The column ``key`` of a data set as a data set: what a pipeline takes its images from."""

    def __init__(self, dataset: Rows, key: str) -> None:
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.key]
