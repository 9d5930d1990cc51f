"""How EoMT learns to do without masked attention (Kerssies et al. 2025, section 3.3)."""

from everymask.errors import OptionError
from everymask.networks.eomt import EoMT

POWER = 0.9  # of the polynomial decay


def mask_probabilities(step: int, steps: int, blocks: int) -> tuple[float, ...]:
    """How often a query is held to its mask in each of the last ``blocks`` blocks at ``step`` of ``steps``.

    As in the published recipes each probability falls from 1 to 0 within a sixth of the steps. The first block's
    begins to fall after one sixth, the last block's after four, the others' at even distances between.

    Raises OptionError for a step that is none.
    """
    if not 0 <= step <= steps or steps < 1 or blocks < 1:
        raise OptionError(
            f"there is no step {step} of {steps} for {blocks} blocks; give a step from 0 to a positive number of steps"
        )
    progress = 6 * step / steps  # in sixths
    starts = [1 + 3 * index / max(blocks - 1, 1) for index in range(blocks)]
    return tuple((1 - min(max(progress - start, 0.0), 1.0)) ** POWER for start in starts)


def anneal(network: EoMT, step: int, steps: int) -> None:
    """Sets the probabilities of a network, also of one whose weights are an average, for ``step`` of ``steps``."""
    network.set_mask_probabilities(mask_probabilities(step, steps, len(network.mask_probabilities)))
