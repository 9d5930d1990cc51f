"""The tokens of a task: from the checkpoint's tokenizer, the same as transformers', or CLIP's."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_checkpoint import SMALL_CONFIG, SMALL_PREPROCESSOR
from transformers import CLIPTokenizer

import everymask
from everymask.checkpoints.layouts import oneformer
from everymask.checkpoints.task_tokens import read_task_tokens
from everymask.errors import CheckpointError
from everymask.segmentation import TASKS

# As computed from the vocabulary in the OneFormer repository.
PUBLISHED = {
    "semantic": [49406, 518, 10549, 533, 29119, 1550, 49407],
    "instance": [49406, 518, 10549, 533, 34572, 49407],
    "panoptic": [49406, 518, 10549, 533, 1072, 24755, 49407],
}
# The words in it that the tasks are made of, in an order in which building one breaks up no other.
WORDS = {
    "pan": 1072,
    "optic</w>": 24755,
    "instance</w>": 34572,
    "sem": 29119,
    "antic</w>": 1550,
    "task</w>": 10549,
    "the</w>": 518,
    "is</w>": 533,
}


def write_tokenizer(folder: Path) -> None:
    """vocab.json and merges.txt, with CLIP's numbers for what the tasks need."""
    vocabulary = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    merges: list[str] = []
    for token, number in WORDS.items():
        letters = list(token.removesuffix("</w>"))
        letters[-1] += "</w>" if token.endswith("</w>") else ""
        while len(letters) > 1:
            merges.append(f"{letters[0]} {letters[1]}")
            letters[:2] = ["".join(letters[:2])]
            vocabulary.setdefault(letters[0], 2000 + len(vocabulary))
        vocabulary[token] = number
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary.setdefault(letter, len(vocabulary))
        vocabulary.setdefault(letter + "</w>", len(vocabulary))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n")


def padded(ids: list[int], length: int) -> list[int]:
    return ids + [0] * (length - len(ids))


def as_lists(tokens: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    assert all(each.dtype == torch.int64 for each in tokens.values())
    return {task: each.tolist() for task, each in tokens.items()}


def expected(length: int) -> dict[str, list[int]]:
    return {task: padded(ids, length) for task, ids in PUBLISHED.items()}


def test_without_a_tokenizer_the_tokens_are_those_of_clip(tmp_path: Path) -> None:
    assert as_lists(read_task_tokens(tmp_path, 77)) == expected(77)


def test_vocabulary_and_merges_give_the_published_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    assert as_lists(read_task_tokens(tmp_path, 77)) == expected(77)
    assert as_lists(read_task_tokens(tmp_path, 9)) == expected(9)


def test_the_whole_tokenizer_in_one_file_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write_tokenizer(tmp_path / "parts")
    reference = CLIPTokenizer.from_pretrained(tmp_path / "parts")
    reference(["a"], padding="max_length", max_length=20, truncation=True)  # what it was last asked is saved, too
    (tmp_path / "whole").mkdir()
    reference.backend_tokenizer.save(str(tmp_path / "whole" / "tokenizer.json"))
    assert as_lists(read_task_tokens(tmp_path / "whole", 77)) == expected(77)


def test_another_vocabulary_gives_what_transformers_gives(tmp_path: Path) -> None:
    """Other numbers, no "pan" and no "sem": these are spelt. Padding is 0 after the mask, not the padding token."""
    write_tokenizer(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    renumbered = {token: number + 7 for token, number in vocabulary.items()}
    (tmp_path / "vocab.json").write_text(json.dumps(renumbered))
    merges = [line for line in (tmp_path / "merges.txt").read_text().splitlines() if line not in ("p a", "s e")]
    (tmp_path / "merges.txt").write_text("\n".join(merges))
    reference = CLIPTokenizer.from_pretrained(tmp_path)
    tokens = read_task_tokens(tmp_path, 40)
    for task in TASKS:
        encoded = reference(f"the task is {task}", padding="max_length", max_length=40, truncation=True)
        ids, mask = torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"])
        assert torch.equal(tokens[task], ids * mask)
    assert len(tokens["panoptic"].nonzero()) > len(PUBLISHED["panoptic"])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("vocab.json", "{"),
        ("vocab.json", "{}"),
        ("vocab.json", '{"a": "b"}'),
        ("merges.txt", "#version: 0.2\na b c\n"),
        ("merges.txt", "x y\n\n"),
        ("tokenizer.json", "{}"),
    ],
)
def test_a_damaged_tokenizer_is_refused(file: str, content: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=r"the tokenizer in .* cannot be read .*; download the checkpoint again"):
        read_task_tokens(tmp_path, 77)


def test_a_task_that_the_network_has_no_room_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="up to 7 tokens, but task_seq_len in its config is 6"):
        read_task_tokens(tmp_path, 6)


def test_the_segmenter_tells_the_network_its_task(tmp_path: Path) -> None:
    width = SMALL_CONFIG["hidden_dim"]
    names = {str(index): f"class {index}" for index in range(3)}
    config = {**SMALL_CONFIG, "model_type": "oneformer", "conv_dim": width, "mask_dim": width, "id2label": names}
    torch.manual_seed(0)
    network, layout = oneformer.build(config, 3)
    save_file(layout.to_published(network), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = {**SMALL_PREPROCESSOR, "image_processor_type": "OneFormerImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))

    model = everymask.load(tmp_path, device="cpu", dtype="float32")
    assert model.tasks == TASKS
    assert as_lists(model.task_tokens) == expected(77)
    told = []
    model.network.register_forward_pre_hook(
        lambda _, args, kwargs: told.append((args[0].shape[0], kwargs["task_tokens"].tolist())), with_kwargs=True
    )
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    assert [model(image, task=task).task for task in TASKS] == list(TASKS)
    assert told == [(1, [expected(77)[task]]) for task in TASKS]

    told.clear()
    assert len(list(model.stream([image] * 3, batch_size=3, task="semantic"))) == 3
    assert told == [(3, [expected(77)["semantic"]] * 3)]
