"""The schedule of masked attention, which the published recipes give in steps."""

import pytest

from everymask.checkpoints.layouts import eomt
from everymask.errors import OptionError
from everymask.networks.eomt import EoMT
from everymask.training.mask_annealing import anneal, mask_probabilities

# (steps of the run, start and end of each block): Cityscapes semantic, ViT-B; its 107 epochs are 19,902 steps.
CITYSCAPES = (19902, [3317, 8292, 13268], [6634, 11609, 16585])


def test_the_published_steps() -> None:
    steps, starts, ends = CITYSCAPES
    for step in range(0, steps + 1, 97):
        for index, probability in enumerate(mask_probabilities(step, steps, len(starts))):
            progress = min(max((step - starts[index]) / (ends[index] - starts[index]), 0), 1)
            assert probability == pytest.approx((1 - progress) ** 0.9, abs=2e-3)


@pytest.mark.parametrize("blocks", [1, 2, 4, 6])
def test_from_ones_to_zeros_block_after_block(blocks: int) -> None:
    assert mask_probabilities(0, 600, blocks) == (1.0,) * blocks
    assert mask_probabilities(100, 600, blocks) == (1.0,) * blocks
    assert mask_probabilities(500, 600, blocks) == (0.0,) * blocks
    assert mask_probabilities(600, 600, blocks) == (0.0,) * blocks
    for step in range(601):
        probabilities = mask_probabilities(step, 600, blocks)
        assert list(probabilities) == sorted(probabilities)


@pytest.mark.parametrize(("step", "steps", "blocks"), [(-1, 10, 4), (11, 10, 4), (0, 0, 4), (0, 10, 0)])
def test_what_is_no_step_is_refused(step: int, steps: int, blocks: int) -> None:
    with pytest.raises(OptionError, match="give a step from 0 to a positive number of steps"):
        mask_probabilities(step, steps, blocks)


def test_a_network_is_set() -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_blocks": 2, "image_size": 64}
    network, _ = eomt.build({"model_type": "eomt", **sizes}, 3)
    assert isinstance(network, EoMT)
    anneal(network, 250, 1000)
    assert network.mask_probabilities.tolist() == pytest.approx(list(mask_probabilities(250, 1000, 2)))
    anneal(network, 1000, 1000)
    assert network.mask_probabilities.tolist() == [0.0, 0.0]
