"""What is saved here loads here and in transformers, and gives the same numbers."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import Mask2FormerForUniversalSegmentation

from everymask.checkpoints import load_checkpoint
from everymask.checkpoints.layouts import mask2former
from everymask.checkpoints.save import save_checkpoint
from everymask.labels import LabelSet

CONFIG = {
    "architectures": ["Mask2FormerForUniversalSegmentation"],
    "model_type": "mask2former",
    "backbone_config": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "num_queries": 5,
    "hidden_dim": 64,
    "feature_size": 64,
    "mask_feature_size": 32,
    "num_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 16,
    "decoder_layers": 3,
    "dim_feedforward": 16,
    "dropout": 0.0,
}
PREPROCESSOR = {"image_processor_type": "Mask2FormerImageProcessor", "size": {"height": 64, "width": 96}}
LABELS = LabelSet(("road", "car"), (False, True), ((1, 2, 3), None))


def saved(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    network, layout = mask2former.build(CONFIG, len(LABELS))
    save_checkpoint(
        folder,
        network,
        layout,
        CONFIG,
        PREPROCESSOR,
        labels=LABELS,
        tasks=("panoptic", "semantic"),
        license="CC0",
        dtype=dtype,
    )
    return network.eval()


def test_transformers_loads_it_whole_and_gives_the_same_logits(tmp_path: Path) -> None:
    network = saved(tmp_path, torch.float32)
    reference, report = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected, output = reference.eval()(pixel_values), network(pixel_values)
    torch.testing.assert_close(output.class_logits, expected.class_queries_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.mask_logits, expected.masks_queries_logits, rtol=1e-4, atol=1e-4)


def test_it_loads_here_with_all_it_says_about_itself(tmp_path: Path) -> None:
    network = saved(tmp_path, torch.float16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {each.dtype for each in stored.values()} == {torch.float16, torch.int64}
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.labels == LABELS
    assert checkpoint.tasks == ("panoptic", "semantic")
    assert checkpoint.license == "CC0"
    for key, tensor in checkpoint.network.state_dict().items():
        expected = network.state_dict()[key]
        assert tensor.dtype == expected.dtype
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
