"""The texts that OneFormer learns from."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from everymask.checkpoints.layouts import oneformer
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.networks.oneformer import OneFormer
from everymask.preprocessing import Preprocessing
from everymask.segmentation import TASKS
from everymask.training.augmentation import Augmentation
from everymask.training.batches import batches
from everymask.training.losses import loss_for, predict, published_loss
from everymask.training.recipe import TrainingRecipe
from everymask.training.samples import Samples, SampleSpec
from everymask.training.texts import TaskTexts, read_task_texts
from painted_data import LABELS, PaintedData

WORDS = (
    *("start", "end", "the", "task", "is", "panoptic", "instance", "semantic"),
    *("a", "an", "photo", "with", "road", "sky", "car", "person"),
)
NUMBER = {word: 900 if word == "end" else place + 1 for place, word in enumerate(WORDS)}
QUERIES, CONTEXTS, LENGTH = 8, 3, 12
CONFIG = {
    "num_queries": QUERIES,
    "hidden_dim": 64,
    "conv_dim": 64,
    "mask_dim": 64,
    "num_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 48,
    "decoder_layers": 2,
    "dim_feedforward": 64,
    "task_seq_len": LENGTH,
    "text_encoder_width": 64,
    "text_encoder_n_ctx": CONTEXTS,
    "text_encoder_context_length": LENGTH,
    "text_encoder_num_layers": 1,
    "text_encoder_vocab_size": 1000,
    "backbone_config": {
        "model_type": "swin",
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
    },
}


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel(NUMBER, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, NUMBER[mark]) for mark in ("start", "end")]
    tokenizer.post_processor = processors.TemplateProcessing(single="start $A end", special_tokens=marks)
    tokenizer.save(str(folder / "tokenizer.json"))


def network(*, trains: bool = True) -> OneFormer:
    torch.manual_seed(0)
    built, _ = oneformer.build({**CONFIG, "is_training": trains}, len(LABELS))
    assert isinstance(built, OneFormer)
    return built


def encoded(text: str) -> list[int]:
    ids = [NUMBER["start"], *(NUMBER[word] for word in text.split()), NUMBER["end"]]
    return ids + [0] * (LENGTH - len(ids))


@pytest.fixture
def texts(tmp_path: Path) -> TaskTexts:
    write_tokenizer(tmp_path)
    return read_task_texts(tmp_path, network(), LABELS)


def test_a_text_a_segment_and_fillers_for_the_rest(texts: TaskTexts) -> None:
    task, found = texts.tokens("panoptic", [2, 2, 0])
    assert task.tolist() == encoded("the task is panoptic")
    expected = ["a photo with a road"] + ["a photo with a car"] * 2 + ["an panoptic photo"] * (QUERIES - CONTEXTS - 3)
    assert found.tolist() == [encoded(text) for text in expected]
    assert texts.tokens("semantic", [])[1].tolist() == [encoded("a semantic photo")] * (QUERIES - CONTEXTS)
    assert texts.tokens("instance", [3] * 50)[1].tolist() == [encoded("a photo with a person")] * (QUERIES - CONTEXTS)


def test_fillers_are_those_of_transformers() -> None:
    source = Path(__import__("transformers").__file__).parent / "models/oneformer/image_processing_oneformer.py"
    text = source.read_text(encoding="utf-8")
    for filler in ("an panoptic photo", "an instance photo", "a semantic photo"):
        assert f'["{filler}"] * self.num_text' in text
    assert 'f"a photo with a {cls_name}"' in text


def test_a_batch_teaches_all_tasks_and_has_a_loss(texts: TaskTexts) -> None:
    trained = network().train()
    recipe = TrainingRecipe(batch_size=9, crop=Size(64, 64), loss=published_loss("oneformer"))
    preprocessing = Preprocessing.from_config({"image_processor_type": "OneFormerImageProcessor"})
    spec = SampleSpec(("masks",), TASKS, preprocessing, recipe.crop, Augmentation(), 0, texts=texts)
    batch = next(batches(Samples(PaintedData(), spec), recipe))
    assert batch.task_tokens is not None
    tasks = {tuple(tokens) for tokens in batch.task_tokens.tolist()}
    assert tasks == {tuple(encoded(f"the task is {task}")) for task in ("panoptic", "instance", "semantic")}
    assert batch.text_tokens is not None
    assert batch.text_tokens.shape == (9, QUERIES - CONTEXTS, LENGTH)
    parts = loss_for(trained, recipe.loss)(predict(trained, batch), batch)
    assert set(parts.parts) == {"class", "mask", "dice", "contrastive"}
    assert bool(torch.isfinite(parts.total))


def test_what_training_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"vocab\.json and merges\.txt"):
        read_task_texts(tmp_path, network(), LABELS)
    write_tokenizer(tmp_path)
    with pytest.raises(OptionError, match="is_training"):
        read_task_texts(tmp_path, network(trains=False), LABELS)
    wordy = LABELS.named(["road " * 9, "sky", "car", "person"])
    with pytest.raises(OptionError, match="shorten the name"):
        read_task_texts(tmp_path, network(), wordy)
