"""Strict loading, with a small network and a layout of its own."""

import pytest
import torch
from torch import Tensor, nn

from everymask.checkpoints.layouts.rules import Layout, rename, split
from everymask.checkpoints.strict import load_strictly, no_random_initialisation, own_weights
from everymask.errors import CheckpointError

LAYOUT = Layout(
    rules=(rename("norm.*", "1.*"), split("packed.weight", ("0.weight", "2.weight")), rename("out.#.*", "3.#.*")),
    leftovers=("old.#.index",),
)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 4, bias=False),
        nn.BatchNorm1d(4),
        nn.Linear(4, 4, bias=False),
        nn.ModuleList(nn.Linear(4, 2) for _ in range(8)),
    )


def published() -> dict[str, Tensor]:
    torch.manual_seed(1)
    shapes = LAYOUT.published_shapes(network())
    tensors = {key: torch.randn(shape) for key, shape in shapes.items()}
    return {**tensors, "norm.num_batches_tracked": torch.tensor(9)}


def test_every_tensor_finds_its_place() -> None:
    tensors, filled = published(), network()
    load_strictly(filled, LAYOUT, {**tensors, "old.3.index": torch.zeros(2)})
    assert torch.equal(filled[0].weight, tensors["packed.weight"][:4])
    assert torch.equal(filled[2].weight, tensors["packed.weight"][4:])
    assert torch.equal(filled[3][7].bias, tensors["out.7.bias"])
    assert filled[1].num_batches_tracked == 9
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in filled.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(dtype: torch.dtype) -> None:
    tensors = {key: t.to(dtype) if t.is_floating_point() else t for key, t in published().items()}
    filled = network()
    load_strictly(filled, LAYOUT, tensors)
    assert {parameter.dtype for parameter in filled.parameters()} == {torch.float32}
    assert filled[1].num_batches_tracked.dtype == torch.int64
    assert torch.equal(filled[3][0].weight, tensors["out.0.weight"].float())


def test_what_is_loaded_is_a_copy() -> None:
    tensors, filled = published(), network()
    load_strictly(filled, LAYOUT, tensors)
    before = filled[0].weight.detach().clone()
    tensors["packed.weight"].zero_()
    assert torch.equal(filled[0].weight, before)


def storages(network: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}


def test_what_is_shared_is_no_copy_until_it_is_owned() -> None:
    tensors, filled = published(), network()
    load_strictly(filled, LAYOUT, tensors, share=True)
    given = {tensor.untyped_storage().data_ptr() for tensor in tensors.values() if tensor.is_floating_point()}
    assert given <= storages(filled)
    before = {key: tensor.clone() for key, tensor in filled.state_dict().items()}
    own_weights(filled)
    assert not {tensor.untyped_storage().data_ptr() for tensor in tensors.values()} & storages(filled)
    assert all(torch.equal(tensor, before[key]) for key, tensor in filled.state_dict().items())
    assert all(parameter.requires_grad for parameter in filled.parameters())


def test_what_an_engine_laid_out_stays_as_it_is() -> None:
    convolution = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    before = convolution.weight.detach()
    own_weights(convolution)
    assert convolution.weight.data_ptr() != before.data_ptr()
    assert convolution.weight.stride() == before.stride()
    assert torch.equal(convolution.weight, before)


def test_converting_what_is_shared_copies_it() -> None:
    tensors, filled = published(), network()
    load_strictly(filled, LAYOUT, tensors, share=True)
    filled.to(torch.bfloat16)
    assert not {tensor.untyped_storage().data_ptr() for tensor in tensors.values()} & storages(filled)


def test_only_float32_is_shared() -> None:
    tensors = {key: t.half() if t.is_floating_point() else t for key, t in published().items()}
    filled = network()
    load_strictly(filled, LAYOUT, tensors, share=True)
    assert not {tensor.untyped_storage().data_ptr() for tensor in tensors.values()} & storages(filled)


def test_every_fault_is_told_with_the_first_ten_keys_in_their_published_names() -> None:
    tensors, filled = published(), network()
    for index in range(6):
        del tensors[f"out.{index}.weight"], tensors[f"out.{index}.bias"]
    tensors["packed.weight"] = torch.zeros(8, 3)
    tensors["extra"] = tensors["old.x.index"] = torch.zeros(1)
    before = {key: tensor.clone() for key, tensor in filled.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_strictly(filled, LAYOUT, tensors)
    message = str(caught.value)
    assert "12 missing: out.0.weight, out.0.bias, out.1.weight" in message
    assert "out.4.bias and 2 more; " in message
    assert "out.5" not in message
    assert "2 unexpected: extra, old.x.index; " in message
    assert "1 of another shape: packed.weight (8, 3) instead of (8, 4))" in message
    assert all(torch.equal(tensor, before[key]) for key, tensor in filled.state_dict().items())


def test_quantised_weights_are_refused() -> None:
    tensors = published()
    tensors["out.0.weight"] = tensors["out.0.weight"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"3\.0\.weight\); quantised checkpoints are not supported"):
        load_strictly(network(), LAYOUT, tensors)


def test_building_to_load_draws_no_random_numbers_for_the_layers_of_torch() -> None:
    with no_random_initialisation():
        state = torch.get_rng_state()
        built = nn.ModuleList([nn.Linear(300, 300), nn.Conv2d(3, 8, 3), nn.Embedding(5, 4)])
        nn.init.kaiming_normal_(built[1].weight, mode="fan_out")
        nn.init.xavier_uniform_(built[0].weight)
        nn.init.trunc_normal_(built[2].weight, std=0.02)
        assert torch.equal(torch.get_rng_state(), state)
        norm = nn.BatchNorm2d(3)
    assert [tuple(parameter.shape) for parameter in built[0].parameters()] == [(300, 300), (300,)]
    assert torch.equal(norm.weight, torch.ones(3))
    assert torch.equal(norm.running_var, torch.ones(3))
    assert nn.Linear(300, 300).weight.std() > 0.01  # outside, initialisation is as ever


def test_initialisation_that_samples_until_the_values_fit_comes_to_an_end() -> None:
    garbage = nn.Parameter(torch.full((50, 50), 1e6))
    with no_random_initialisation():
        nn.init.trunc_normal_(garbage, std=0.02)
    assert garbage.abs().max() <= 2


def test_building_to_load_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with no_random_initialisation():
        torch.randn(5)
    assert torch.equal(torch.rand(4), expected)
