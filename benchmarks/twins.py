"""What benchmarks of networks share: the same network twice, transformers' and ours, and the time that a call takes."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.strict import load_strictly, no_random_initialisation


def same_network(theirs: nn.Module, num_labels: int) -> nn.Module:
    """Ours with their weights, by way of the file they write."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        with no_random_initialisation():
            network, layout = FAMILIES[config["model_type"]].build(config, num_labels)
        load_strictly(network, layout, load_file(Path(folder) / "model.safetensors"))
    return network.eval()


def seconds(function: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
