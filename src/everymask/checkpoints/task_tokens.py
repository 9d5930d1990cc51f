"""The tokens of a task's text, which OneFormer takes beside the image."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from everymask.checkpoints.files import MERGES, TOKENIZER, VOCABULARY, read_json
from everymask.errors import CheckpointError
from everymask.segmentation import TASKS, Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

# "the task is panoptic" and the like in the vocabulary of CLIP, which all published checkpoints have.
CLIP_TOKENS: Mapping[Task, tuple[int, ...]] = {
    "panoptic": (49406, 518, 10549, 533, 1072, 24755, 49407),
    "instance": (49406, 518, 10549, 533, 34572, 49407),
    "semantic": (49406, 518, 10549, 533, 29119, 1550, 49407),
}


def read_task_tokens(folder: Path, length: int) -> dict[Task, Tensor]:
    """The tokens of "the task is panoptic" and the like, (length,) int64 for each task, filled up with zeros.

    They come from the tokenizer in ``folder`` (tokenizer.json, or vocab.json and merges.txt); without one, from CLIP's.
    Raises CheckpointError for a tokenizer that cannot be read and for texts longer than ``length``.
    """
    tokens: Mapping[Task, tuple[int, ...]] = CLIP_TOKENS
    tokenizer = read_tokenizer(folder)
    if tokenizer is not None:
        tokens = {task: tuple(tokenizer.encode(f"the task is {task}").ids) for task in TASKS}
    longest = max(map(len, tokens.values()))
    if longest > length:
        raise CheckpointError(
            f"the tasks of {folder} have up to {longest} tokens, but task_seq_len in its config is {length}; "
            "use the published config"
        )
    # As published the rest is 0, not the tokenizer's padding token.
    return {task: torch.tensor([*ids, *[0] * (length - len(ids))]) for task, ids in tokens.items()}


def read_tokenizer(folder: Path) -> "Tokenizer | None":
    """The tokenizer of a checkpoint's folder, without padding and truncation; None where there is none.

    Raises CheckpointError for one that cannot be read.
    """
    whole, vocabulary, merges = folder / TOKENIZER, folder / VOCABULARY, folder / MERGES
    try:
        if whole.exists():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(whole))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            return tokenizer
        if vocabulary.exists() and merges.exists():
            return _clip_tokenizer(read_json(vocabulary), merges.read_text(encoding="utf-8"))
    # The library raises a bare Exception for whatever is wrong with a file.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"the tokenizer in {folder} cannot be read ({reason}); download the checkpoint again, or remove "
            f"{TOKENIZER}, {VOCABULARY} and {MERGES} for CLIP's tokenizer to be used"
        ) from error
    return None


def _clip_tokenizer(vocabulary: dict[str, int], merges: str) -> "Tokenizer":
    """CLIP's tokenizer (Radford et al. 2021, section 2.4): lower-cased byte pair encoding between two marks."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    pairs = [line.split(" ") for line in merges.splitlines() if line and not line.startswith("#version")]
    model = models.BPE(
        vocabulary,
        [(left, right) for left, right in pairs],
        unk_token=END,
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
        fuse_unk=False,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(mark, vocabulary[mark]) for mark in (START, END)]
    )
    return tokenizer
