import torch
from torch import nn

from everymask.training.averaging import AveragedNetwork


def test_the_average_follows_the_weights_slowly_and_forgets_the_start() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged = AveragedNetwork(network, decay=0.9)
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    network[1].num_batches_tracked.fill_(7)
    averaged.update(network)
    first = averaged.network[0].weight.clone()
    assert not torch.equal(first, network[0].weight)
    for _ in range(200):
        averaged.update(network)
    torch.testing.assert_close(averaged.network[0].weight, network[0].weight)
    assert int(averaged.network[1].num_batches_tracked) == 7
    assert not averaged.network[0].weight.requires_grad
    assert network[0].weight.requires_grad
