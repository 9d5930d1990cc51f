"""Recipes: the published ones, and what a file can change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from everymask.checkpoints.families import FAMILIES
from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.labels import LabelSet, label_set
from everymask.preprocessing import Preprocessing
from everymask.segmentation import Task
from everymask.training.augmentation import Augmentation
from everymask.training.defaults import LARGE_SCALE_JITTER, default_recipe
from everymask.training.recipe import TrainingRecipe, changed, read_recipe

OTHERS = LabelSet(("cat", "dog"), (True, True), (None, None))
MASK2FORMER = Preprocessing.from_config({"image_processor_type": "Mask2FormerImageProcessor"})
SEGFORMER = Preprocessing.from_config({"image_processor_type": "SegformerImageProcessor", "size": 640})
EOMT = Preprocessing.from_config(
    {"image_processor_type": "EomtImageProcessor", "do_pad": True, "size": {"shortest_edge": 640, "longest_edge": 640}}
)


def classes(data: str) -> LabelSet:
    return label_set(data) if data else OTHERS


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@pytest.mark.parametrize("data", ["coco-panoptic", "cityscapes", "camvid", ""])
def test_every_family_has_a_recipe_that_reads_back(model_type: str, data: str) -> None:
    for task in FAMILIES[model_type].tasks({"model_type": model_type}):
        recipe = default_recipe({"model_type": model_type}, task, MASK2FORMER, classes(data))
        assert TrainingRecipe.from_json(recipe.to_json()) == recipe
        assert changed(TrainingRecipe(), recipe.to_dict()) == recipe
        assert recipe.total_steps(367) == 1147  # 50 epochs in batches of 16


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "detr"}, (1e-4, 0.1, 1.0, 1e-4, 0.1)),
        ({"model_type": "maskformer", "backbone_config": {"model_type": "swin"}}, (6e-5, 1.0, 1.0, 0.01, 0.01)),
        ({"model_type": "maskformer", "backbone_config": {"model_type": "resnet"}}, (1e-4, 0.1, 1.0, 1e-4, 0.01)),
        ({"model_type": "mask2former"}, (1e-4, 0.1, 1.0, 0.05, 0.01)),
        ({"model_type": "eomt"}, (1e-4, 1.0, 0.8, 0.05, 0.01)),
        ({"model_type": "segformer"}, (6e-4, 0.1, 1.0, 0.01, None)),
        ({"model_type": "beit"}, (3e-5, 1.0, 0.9, 0.05, None)),
        ({"model_type": "vit_adapter"}, (2e-5, 1.0, 0.9, 0.05, None)),
        ({"model_type": "depth_anything"}, (5e-5, 0.1, 1.0, 0.01, None)),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_published_numbers(config: dict[str, Any], expected: tuple[float | None, ...]) -> None:
    recipe = default_recipe(config, "semantic", MASK2FORMER, OTHERS)
    fields = ("learning_rate", "backbone_multiplier", "layer_decay", "weight_decay", "clip_norm")
    assert tuple(getattr(recipe, name) for name in fields) == expected


@pytest.mark.parametrize(
    ("model_type", "task", "data", "preprocessing", "crop", "scale"),
    [
        ("mask2former", "panoptic", "coco-panoptic", MASK2FORMER, Size(1024, 1024), (0.1, 2.0)),
        ("mask2former", "semantic", "ade20k", MASK2FORMER, Size(512, 512), (0.5, 2.0)),
        ("mask2former", "panoptic", "cityscapes", MASK2FORMER, Size(512, 1024), (1.0, 4.0)),
        ("detr", "panoptic", "coco-panoptic", MASK2FORMER, Size(1024, 1024), (0.6, 1.0)),
        ("mask2former", "instance", "cityscapes-instance", MASK2FORMER, Size(512, 1024), (1.0, 4.0)),
        ("eomt", "panoptic", "coco-panoptic", EOMT, Size(640, 640), (0.1, 2.0)),
        ("segformer", "semantic", "cityscapes", SEGFORMER, Size(640, 640), (0.5, 2.0)),
        ("depth_anything", "depth", "", SEGFORMER, Size(640, 640), (1.0, 1.0)),
    ],
)
def test_sizes_follow_the_network_and_then_the_data(
    model_type: str,
    task: Task,
    data: str,
    preprocessing: Preprocessing,
    crop: Size,
    scale: tuple[float, float],
) -> None:
    recipe = default_recipe({"model_type": model_type}, task, preprocessing, classes(data))
    assert (recipe.crop, recipe.augmentation.scale) == (crop, scale)


def test_each_family_has_its_loss() -> None:
    def loss(config: dict[str, Any], task: Task) -> Any:
        return default_recipe(config, task, SEGFORMER, OTHERS).loss

    assert loss({"model_type": "oneformer"}, "panoptic").masks.contrastive == 0.5
    assert loss({"model_type": "segformer"}, "semantic").pixels is not None
    metric = {"model_type": "depth_anything", "depth_estimation_type": "metric", "max_depth": 20}
    assert loss(metric, "depth").metric_depth is not None
    assert loss({"model_type": "depth_anything"}, "depth").relative_depth is not None


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(OptionError, match="mask2former"):
        default_recipe({"model_type": "bert"}, "semantic", MASK2FORMER, OTHERS)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    base = default_recipe({"model_type": "mask2former"}, "panoptic", MASK2FORMER, classes("coco-panoptic"))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "steps: 500\n"
        "learning_rate: 1e-5\n"  # which YAML takes for a text
        "crop: [256, 320]\n"
        "augmentation: {flip: 0, hue: 0.1}\n"
        "loss: {masks: {weights: {dice: 3}}}\n"
    )
    recipe = read_recipe(path, base)
    masks = base.loss.masks
    assert masks is not None
    assert recipe == replace(
        base,
        steps=500,
        epochs=None,
        learning_rate=1e-5,
        crop=Size(256, 320),
        augmentation=replace(LARGE_SCALE_JITTER, flip=0.0, hue=0.1),
        loss=replace(base.loss, masks=replace(masks, weights=replace(masks.weights, dice=3))),
    )
    path.write_text(recipe.to_json())
    assert read_recipe(path, TrainingRecipe()) == recipe
    path.write_text("")
    assert read_recipe(path, base) == base
    assert changed(recipe, {"epochs": 2}).steps is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1}, "learning_rate"),
        ({"augmentation": {"flop": 1}}, 'no setting "augmentation.flop"'),
        ({"loss": {"mask": {}}}, "mask"),
        ({"batch_size": 2.5}, "batch_size is 2.5; it is a whole number"),
        ({"batch_size": True}, "batch_size is true"),
        ({"learning_rate": "fast"}, 'learning_rate is "fast"'),
        ({"schedule": "linear"}, "poly, cosine, constant"),
        ({"crop": 512}, "list of 2 numbers"),
        ({"crop": [16, 512]}, "at least 32 x 32"),
        ({"augmentation": 3}, "augmentation is 3"),
        ({"steps": 5, "epochs": 5}, "leave the other one out"),
        ({"steps": None, "epochs": None}, "in steps or in epochs"),
        ({"batch_size": 4, "accumulation": 3}, "multiple of accumulation"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"clip_norm": 0}, "clip_norm is 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"augmentation": {"scale": [2, 1]}}, "smaller one first"),
        ([1, 2], "settings by name"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message.replace("[", r"\[")):
        changed(TrainingRecipe(), settings)


@pytest.mark.parametrize("content", [b"steps: [", b"\xff\xfe\x00", b"steps: 0"])
def test_a_bad_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(OptionError, match=r"bad\.yaml"):
        read_recipe(path, TrainingRecipe())
    with pytest.raises(OptionError, match=r"missing\.yaml"):
        read_recipe(tmp_path / "missing.yaml", TrainingRecipe())


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(OptionError, match="no JSON"):
        TrainingRecipe.from_json("steps: 5")
    assert TrainingRecipe.from_json("{}") == TrainingRecipe(augmentation=Augmentation())


def test_a_device_that_would_emulate_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def precision(model_type: str, native: bool) -> str:
        monkeypatch.setattr("everymask.training.defaults.computes_bfloat16", lambda device: native)
        given = ({"model_type": model_type}, "semantic", MASK2FORMER, OTHERS)
        return default_recipe(*given, torch.device("cpu")).precision  # type: ignore[arg-type]

    assert precision("mask2former", native=True) == "bf16-mixed"
    assert precision("mask2former", native=False) == "32-true"
    assert precision("segformer", native=True) == "32-true"
    assert default_recipe({"model_type": "mask2former"}, "semantic", MASK2FORMER, OTHERS).precision == "bf16-mixed"


def test_the_recipes_of_the_bundled_model_can_be_read() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "street"
    start = default_recipe({"model_type": "mask2former"}, "panoptic", MASK2FORMER, label_set("camvid"))
    names = ("recipe.yaml", "finish.yaml", "longer.yaml")
    whole, finish, longer = (read_recipe(folder / name, start) for name in names)
    assert whole.steps > finish.steps > 0
    assert whole.loss.masks == finish.loss.masks
    assert whole.loss.pixels is not None
    assert len(whole.loss.pixels.class_weights or ()) == len(label_set("camvid"))
    assert finish.loss.pixels is None
    assert longer.steps > finish.steps
    assert longer.augmentation.paste > 0
    assert longer.loss.pixels is not None
    assert longer.loss.pixels.dice > 0
