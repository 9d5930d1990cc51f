"""Checkpoints get the classes of the data, and keep everything else."""

import json
from pathlib import Path

import pytest
import torch

from everymask.checkpoints.families import FAMILIES
from everymask.errors import CheckpointError, OptionError
from everymask.labels import LabelSet
from everymask.training.adaptation import CLASS_HEADS, adapt, knows_classes, untrained
from small_models import DEPTH_ANYTHING, DEPTH_PROCESSOR, NO_LABELS, save_small
from trainable import CONFIGS, LABELS, PROCESSORS, SOURCE_LABELS, source

every_family = pytest.mark.parametrize("family", CONFIGS)


def test_every_family_has_a_class_head_or_none() -> None:
    assert CLASS_HEADS.keys() == FAMILIES.keys()


@every_family
def test_the_class_head_is_what_depends_on_the_number_of_classes(family: str) -> None:
    build, config = FAMILIES[CONFIGS[family]["model_type"]].build, CONFIGS[family]
    three, five = build(config, 3)[0].state_dict(), build(config, 5)[0].state_dict()
    different = {key for key in three if three[key].shape != five[key].shape}
    assert different == {key for key in three if key.rpartition(".")[0] in CLASS_HEADS[family]}
    assert different


@every_family
def test_other_classes_replace_the_head_and_keep_the_rest(family: str, tmp_path: Path) -> None:
    start = source(tmp_path, family)
    assert not knows_classes(start, LABELS)
    adapted = adapt(start, LABELS, "semantic", seed=0)
    assert adapted.labels == LABELS
    assert adapted.tasks == ("semantic",)
    before, after = start.network.state_dict(), adapted.network.state_dict()
    for key, tensor in before.items():
        if key.rpartition(".")[0] in CLASS_HEADS[family]:
            assert len(after[key]) == len(tensor) + 1
        else:
            assert torch.equal(after[key], tensor), key
    assert {key.partition(".")[0] for key in after.keys() - before.keys()} <= {"text_mapper"}


@every_family
def test_a_fresh_head_depends_on_the_seed_alone(family: str, tmp_path: Path) -> None:
    start = source(tmp_path, family)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, same, other = (adapt(start, LABELS, "semantic", seed).network.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    head = f"{CLASS_HEADS[family][0]}.weight"
    assert torch.equal(first[head], same[head])
    assert not torch.equal(first[head], other[head])


@pytest.mark.parametrize(("family", "deviation"), [("upernet", 0.01), ("beit", 0.01), ("segformer", None)])
def test_a_fresh_head_starts_as_published(family: str, deviation: float | None, tmp_path: Path) -> None:
    """mmsegmentation's classifiers start small and without bias, the others as torch makes layers."""
    many = LabelSet(tuple(f"class {index}" for index in range(300)), (False,) * 300, (None,) * 300)
    network = adapt(source(tmp_path, family), many, "semantic", seed=0).network
    head = network.get_submodule(CLASS_HEADS[family][0])
    expected = deviation or (3 * head.weight[0].numel()) ** -0.5  # of a uniform distribution within fan_in ** -0.5
    assert head.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert bool(head.bias.any()) is (deviation is None)


@pytest.mark.parametrize("family", ["mask2former", "segformer"])
def test_classes_that_the_model_knows_are_kept_in_the_order_of_the_data(family: str, tmp_path: Path) -> None:
    start = source(tmp_path, family)
    wanted = LabelSet(("Car", "sky"), (True, False), (None, None))
    assert knows_classes(start, wanted)
    adapted = adapt(start, wanted, "semantic", seed=0)
    head = f"{CLASS_HEADS[family][0]}.bias"
    rows = [2, 0, 3] if family == "mask2former" else [2, 0]
    assert torch.equal(adapted.network.state_dict()[head], start.network.state_dict()[head][rows])


def test_the_same_classes_change_nothing(tmp_path: Path) -> None:
    start = source(tmp_path, "detr")
    adapted = adapt(start, SOURCE_LABELS, "panoptic", seed=0)
    assert adapted.tasks == ("panoptic", "instance", "semantic")
    for key, tensor in start.network.state_dict().items():
        assert torch.equal(adapted.network.state_dict()[key], tensor)


def test_a_name_that_stands_for_two_classes_is_not_known(tmp_path: Path) -> None:
    twice = LabelSet(("car", "car", "sky"), (True, True, False), (None,) * 3)
    start = source(tmp_path, "segformer", twice)
    assert not knows_classes(start, LabelSet(("car",), (True,), (None,)))


def test_depth_has_no_classes_to_replace(tmp_path: Path) -> None:
    from everymask.checkpoints import load_checkpoint

    start = load_checkpoint(save_small(tmp_path, DEPTH_ANYTHING, DEPTH_PROCESSOR))
    adapted = adapt(start, LABELS, "depth", seed=0)
    assert adapted.labels == NO_LABELS
    assert adapted.depth_kind == "relative"
    for key, tensor in start.network.state_dict().items():
        assert torch.equal(adapted.network.state_dict()[key], tensor)


def test_a_task_the_family_cannot_do_is_refused(tmp_path: Path) -> None:
    start = source(tmp_path, "segformer")
    with pytest.raises(OptionError, match="cannot be trained for the task 'panoptic': choose semantic"):
        adapt(start, LABELS, "panoptic", seed=0)


def test_transformers_subtracts_nothing_from_our_labels(tmp_path: Path) -> None:
    adapted = adapt(source(tmp_path, "segformer"), LABELS, "semantic", seed=0)
    assert adapted.preprocessor["do_reduce_labels"] is False


def test_oneformers_processor_lists_the_new_classes(tmp_path: Path) -> None:
    adapted = adapt(source(tmp_path, "oneformer"), LABELS, "panoptic", seed=0)
    metadata = adapted.preprocessor["metadata"]
    assert metadata["class_names"] == list(LABELS.names)
    assert metadata["thing_ids"] == [1, 2, 3]
    assert metadata["3"] == "blue box"


@every_family
def test_a_config_alone_starts_from_random_weights(family: str, tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({**CONFIGS[family], "id2label": {"0": "whatever"}}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[family]))
    first, other = (adapt(untrained(file), LABELS, "semantic", seed, from_scratch=True) for seed in (0, 1))
    assert first.labels == LABELS
    assert first.license is None
    for key, tensor in first.network.state_dict().items():
        assert torch.isfinite(tensor).all(), key
    states = first.network.state_dict(), other.network.state_dict()
    random = [key for key, tensor in states[0].items() if tensor.dim() > 1 and tensor.unique().numel() > 16]
    assert len(random) > 20
    assert not any(torch.equal(states[0][key], states[1][key]) for key in random)


def test_from_scratch_nothing_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    start = source(tmp_path, "segformer")
    again = adapt(start, SOURCE_LABELS, "semantic", seed=1, from_scratch=True)
    assert again.license is None
    key = "decoder.projections.0.weight"
    assert not torch.equal(again.network.state_dict()[key], start.network.state_dict()[key])


def test_without_a_preprocessor_the_family_says_how_images_are_prepared(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIGS["segformer"]))
    start = untrained(tmp_path)
    assert start.preprocessor == {"image_processor_type": "SegformerImageProcessor"}
    assert start.preprocessing.mean == (0.485, 0.456, 0.406)


def test_a_config_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match='is of model_type "bert"; supported are beit'):
        untrained(file)
