"""How the tensors of a published checkpoint map to ours and back."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of tensor. In every key ``#`` stands for an index and ``*`` for a leaf name such as weight or bias.

    One published and one own key: a renaming. Several published keys: their tensors, concatenated along dimension 0,
    are ours. Several own keys: the published tensor, cut into equal parts along dimension 0, gives ours.
    ``flat``: the published tensor has a dimension of size 1 before all others, and ours has not.
    ``unfolded``: the last dimension holds 2 x 2 neighbours as nn.Unfold gathers them, channel by channel and row by
    row; in ours, neighbour by neighbour and column by column.
    """

    published: tuple[str, ...]
    ours: tuple[str, ...]
    flat: bool = False
    unfolded: bool = False


def rename(published: str, ours: str) -> Rule:
    """One tensor under two names."""
    return Rule((published,), (ours,))


def stack(published: tuple[str, ...], ours: str) -> Rule:
    """Several published tensors that we keep as one."""
    return Rule(published, (ours,))


def split(published: str, ours: tuple[str, ...]) -> Rule:
    """One published tensor that we keep as several."""
    return Rule((published,), ours)


def flatten(published: str, ours: str) -> Rule:
    """One tensor under two names; the published one has a first dimension of size 1 besides."""
    return Rule((published,), (ours,), flat=True)


def unfold(published: str, ours: str) -> Rule:
    """One tensor under two names whose last dimension has neighbours in another order (see ``Rule``)."""
    return Rule((published,), (ours,), unfolded=True)


@dataclass(frozen=True, slots=True)
class Layout:
    """A published layout: the rules for every tensor, and what files hold besides.

    ``leftovers``: keys that nobody needs. ``constants``: tensors that we do not need either, but transformers misses
    when they are not in a file. ``absent``: tensors that we need but a file may lack, as they are meant then.
    ``alternatives``: other layouts in which the same network is published.
    """

    rules: tuple[Rule, ...]
    leftovers: tuple[str, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    absent: Mapping[str, Tensor] = field(default_factory=dict)
    alternatives: tuple["Layout", ...] = ()

    def fitting(self, network: nn.Module, keys: Collection[str]) -> "Layout":
        """Of this layout and its alternatives the one that most of a file's keys belong to."""
        keys = set(keys)
        if not self.alternatives or self.published_shapes(network).keys() <= keys:
            return self
        return max((self, *self.alternatives), key=lambda each: len(each.published_shapes(network).keys() & keys))

    def ignored(self, key: str) -> bool:
        """Whether a published key is known and not needed."""
        return key in self.constants or any(_match(pattern, key) is not None for pattern in self.leftovers)

    def published_shapes(self, network: nn.Module) -> dict[str, tuple[int, ...]]:
        """Every published key the network needs, with its shape."""
        shapes = {}
        for rule, (theirs, _), parts in self._groups(network.state_dict()):
            shape = tuple(parts[0].shape)
            if rule.flat:
                shapes[theirs[0]] = (1, *shape)
                continue
            rows = sum(part.shape[0] for part in parts) // len(theirs) if parts[0].dim() else 0
            for key in theirs:
                shapes[key] = (rows, *shape[1:]) if parts[0].dim() else shape
        return shapes

    def to_ours(self, published: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Our tensors from the published ones; all that ``published_shapes`` names must be there."""
        state: dict[str, Tensor] = {}
        for rule, (theirs, ours), _ in self._groups(network.state_dict()):
            tensors = [published[key][0] if rule.flat else published[key] for key in theirs]
            whole = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
            whole = whole.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3) if rule.unfolded else whole
            state.update(zip(ours, whole.chunk(len(ours)) if len(ours) > 1 else (whole,), strict=True))
        return state

    def to_published(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's tensors under their published names, with the constants: what a checkpoint file holds."""
        state: dict[str, Tensor] = dict(self.constants)
        for rule, (theirs, _), parts in self._groups(network.state_dict()):
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            whole = whole[None] if rule.flat else whole
            whole = whole.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3) if rule.unfolded else whole
            state.update(zip(theirs, whole.chunk(len(theirs)) if len(theirs) > 1 else (whole,), strict=True))
        return {key: tensor.contiguous() for key, tensor in state.items()}

    def _groups(
        self, state: Mapping[str, Tensor]
    ) -> list[tuple[Rule, tuple[tuple[str, ...], tuple[str, ...]], list[Tensor]]]:
        """Each rule at work: the published keys, our keys and our tensors that belong together."""
        groups = []
        covered: set[str] = set()
        for rule in self.rules:
            start, pattern = _literal_start(rule.ours[0]), rule.ours[0]
            for key in state:
                # Most keys differ early: to ask a regular expression about each took half the loading of a small model.
                wildcards = _match(pattern, key) if key.startswith(start) else None
                if wildcards is None or key in covered:
                    continue
                theirs = tuple(_fill(pattern, wildcards) for pattern in rule.published)
                ours = tuple(_fill(pattern, wildcards) for pattern in rule.ours)
                covered.update(ours)
                groups.append((rule, (theirs, ours), [state[each] for each in ours]))
        missing = [key for key in state if key not in covered]
        if missing:
            raise AssertionError(f"no rule of the layout covers {missing[0]!r} and {len(missing) - 1} more")
        return groups


def _match(pattern: str, key: str) -> tuple[str, ...] | None:
    found = _compiled(pattern).fullmatch(key)
    return found.groups() if found else None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\#", r"(\d+)").replace(r"\*", r"(\w+)"))


def _literal_start(pattern: str) -> str:
    """What every key that matches begins with."""
    return re.split("[#*]", pattern, maxsplit=1)[0]


def _fill(pattern: str, wildcards: tuple[str, ...]) -> str:
    values = iter(wildcards)
    return re.sub(r"[#*]", lambda _: next(values), pattern)
