"""What tells two networks apart: their code, their settings and their weights."""

import hashlib
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import everymask.engines
import everymask.networks


def fingerprint(network: nn.Module) -> str:
    """A hexadecimal number that is the same, in any process, for networks that compute the same and no others.

    Reads every weight: a gigabyte takes about a second.
    """
    digest = hashlib.sha256(_code())
    for name, module in network.named_modules():
        settings = [f"{key}={_text(value)}" for key, value in sorted(vars(module).items())]
        digest.update(f"{name}: {type(module).__qualname__} {settings}\n".encode())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(_stated(name, tensor))
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def weights_fingerprint(network: nn.Module) -> str:
    """A hexadecimal number that is the same for networks with the same weights, as a checkpoint has them, and no
    others. Whatever code will run them does not matter.

    Reads every weight: a gigabyte takes about a second.
    """
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            digest.update(_stated(name, tensor))
            digest.update(_bytes(tensor))
    return digest.hexdigest()


@cache
def _code() -> bytes:
    """A digest of the source of all networks, and of the engines, which make other things of them."""
    digest = hashlib.sha256()
    for room in (everymask.networks, everymask.engines):
        [folder] = room.__path__
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.digest()


def _text(value: Any) -> str:
    """A module's setting in words; nothing for what is no setting and for what differs between processes."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))})"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__qualname__}{_text([getattr(value, field.name) for field in fields(value)])}"
    return str(getattr(value, "__qualname__", ""))


def _stated(name: str, tensor: Tensor) -> bytes:
    return f"{name}: {tensor.dtype} {tuple(tensor.shape)}\n".encode()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
