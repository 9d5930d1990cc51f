"""What one training step is given: images of one size and what is wanted of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from everymask.training.targets import Targets


@dataclass(frozen=True, slots=True)
class Batch:
    """B training images of one size, with the truth that the network's family learns from.

    ``pixel_values`` (B, 3, H, W) float32, prepared as the network wants them. Of the others, those that the family
    does not learn from are None:

    - ``targets``: B ``Targets`` (labels (N,), id_map (H, W), -1 where no segment is), for mask classification;
    - ``class_maps`` (B, H, W) int64, -1 where a pixel is ignored, for per-pixel classification;
    - ``depth`` (B, H, W) float32, in what the network predicts (inverse depth up to scale and shift, or metres); zero,
      negative or not finite where it is unknown;
    - ``task_tokens`` (B, T) int64: OneFormer's task input, the tokens of "the task is panoptic";
    - ``text_tokens`` (B, K, T) int64: OneFormer's K texts of each image, which its contrastive term compares queries
      with.
    """

    pixel_values: Tensor
    targets: tuple[Targets, ...] | None = None
    class_maps: Tensor | None = None
    depth: Tensor | None = None
    task_tokens: Tensor | None = None
    text_tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixel_values)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return Batch(
            self.pixel_values.to(device, non_blocking=True),
            None if self.targets is None else tuple(each.to(device) for each in self.targets),
            moved(self.class_maps),
            moved(self.depth),
            moved(self.task_tokens),
            moved(self.text_tokens),
        )
