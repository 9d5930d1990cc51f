"""The texts that OneFormer learns from: its task, and what is in the image (Jain et al. 2023, sections 3.1 and 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from everymask.checkpoints.task_tokens import read_task_tokens, read_tokenizer
from everymask.errors import OptionError
from everymask.labels import LabelSet
from everymask.networks.oneformer import OneFormer
from everymask.segmentation import TASKS, Task

# "an panoptic photo" is how the published networks read it.
FILLERS: Mapping[Task, str] = {
    "panoptic": "an panoptic photo",
    "instance": "an instance photo",
    "semantic": "a semantic photo",
}


@dataclass(frozen=True)
class TaskTexts:
    """The tokens of all texts that may be needed.

    ``tasks``: of "the task is panoptic" and the like, (T,) int64 each. ``classes`` (C, L) int64: of "a photo with a
    NAME" for every class; ``fillers``: of "an instance photo" and the like, (L,) int64 each, for the places of the
    ``count`` texts of an image that no segment takes.
    """

    tasks: Mapping[Task, Tensor]
    classes: Tensor
    fillers: Mapping[Task, Tensor]
    count: int

    def tokens(self, task: Task, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The task's tokens (T,) and those of an image whose segments have these classes, (count, L).

        A text a segment, by rising class as published (text i is compared with query i), as long as there are places.
        """
        texts = self.fillers[task].repeat(self.count, 1)
        named = sorted(labels)[: self.count]
        texts[: len(named)] = self.classes[named]
        return self.tasks[task], texts


def read_task_texts(folder: Path, network: OneFormer, labels: LabelSet) -> TaskTexts:
    """Tokenises what a network with a text mapper learns from, with the tokenizer in the checkpoint's folder.

    Raises OptionError for a network without text mapper, a folder without tokenizer and names that are too long;
    CheckpointError for a tokenizer that cannot be read.
    """
    if network.text_mapper is None:
        raise OptionError(
            'this OneFormer has no text mapper, which training needs: set "is_training" to true in its config.json'
        )
    tokenizer = read_tokenizer(folder)
    if tokenizer is None:
        raise OptionError(
            f"training OneFormer needs a tokenizer for the names of the classes, and {folder} has none: put the "
            "tokenizer.json, or the vocab.json and merges.txt, of the published checkpoint there"
        )
    length = len(network.text_mapper.positions)

    def encoded(text: str) -> Tensor:
        ids = tokenizer.encode(text).ids
        if len(ids) > length:
            raise OptionError(f'"{text}" has {len(ids)} tokens and the network takes {length}: shorten the name')
        return torch.tensor([*ids, *[0] * (length - len(ids))])

    return TaskTexts(
        tasks=read_task_tokens(folder, network.task_length),
        classes=torch.stack([encoded(f"a photo with a {name}") for name in labels.names]),
        fillers={task: encoded(FILLERS[task]) for task in TASKS},
        count=len(network.query_decoder.query_positions) - len(network.text_mapper.contexts),
    )
