"""What operations return, for tests that bound memory."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """The most numbers, and the most bytes, that a tensor has which an operation inside returns."""

    numbers = bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, Tensor):
                self.numbers, self.bytes = max(self.numbers, each.numel()), max(self.bytes, each.nbytes)
        return result
