"""Small perceptrons applied to every token."""

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, dim -> hidden -> dim."""

    def __init__(self, dim: int, hidden: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.activation = activation()
        self.contract = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        out: Tensor = self.contract(self.activation(self.expand(tokens)))
        return out


class GatedFeedForward(nn.Module):
    """A feed-forward block whose hidden units are multiplied by activated gates (Shazeer 2020, equation 6)."""

    def __init__(self, dim: int, hidden: int, activation: type[nn.Module] = nn.SiLU) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden)
        self.activation = activation()
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        out: Tensor = self.contract(self.activation(self.gate(tokens)) * self.expand(tokens))
        return out


class MLP(nn.Sequential):
    """``layers`` linear layers, activations between them: the head that turns queries into mask embeddings."""

    def __init__(self, dim: int, hidden: int, out: int, layers: int = 3, activation: type[nn.Module] = nn.ReLU) -> None:
        modules: list[nn.Module] = []
        for index in range(layers):
            last = index == layers - 1
            modules.append(nn.Linear(dim if index == 0 else hidden, out if last else hidden))
            if not last:
                modules.append(activation())
        super().__init__(*modules)
