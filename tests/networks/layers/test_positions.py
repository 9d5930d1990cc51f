import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from everymask.networks.layers.positions import sine_positions


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 3), (25, 34)])
def test_sine_positions_equal_transformers(height: int, width: int) -> None:
    reference = Mask2FormerSinePositionEmbedding(num_position_features=32, normalize=True)
    expected = reference(torch.Size([1, 64, height, width]), torch.device("cpu"), torch.float32)
    ours = sine_positions(height, width, 64).T.view(1, 64, height, width)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
