"""Checkpoints that hold differences from gated weights: known as such, completed, or refused with the cure."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from everymask.checkpoints import deltas, load_checkpoint
from everymask.checkpoints.layouts import eomt
from everymask.errors import CheckpointError, OptionError

CONFIG: dict[str, Any] = {
    "model_type": "eomt",
    "backbone": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "image_size": 64,
    "patch_size": 16,
    "num_queries": 5,
    "num_blocks": 2,
    "num_labels": 3,
    # Smaller than the ViT of that name.
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 40,
}
PREFIX = "network.encoder.backbone."


def checkpoint(folder: Path, base: Path) -> torch.nn.Module:
    """Writes the delta and the base that add up to a network, as their owners do, and gives the network."""
    torch.manual_seed(0)
    network, layout = eomt.build(CONFIG, 3)
    for name, parameter in network.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.2)
    network.mask_probabilities.zero_()
    full = layout.alternatives[-1].to_published(network)
    difference, base_weights = {}, {}
    for key, tensor in full.items():
        if not key.startswith(PREFIX):
            difference[key] = tensor
            continue
        difference[key] = torch.randn_like(tensor) * 0.01
        theirs = key.removeprefix(PREFIX).replace("patch_embed.cls", "embeddings.cls")
        theirs = theirs.replace("patch_embed.", "embeddings.").replace("blocks.", "layer.")
        base_weights[theirs] = tensor - difference[key]
    base_weights["embeddings.mask_token"] = torch.zeros(1, 1, 24)
    difference["network.encoder.pixel_mean"] = torch.zeros(1, 3, 1, 1)
    for each in (folder, base):
        each.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    torch.save(difference, folder / "pytorch_model.bin")
    save_file(base_weights, base / "model.safetensors")
    return network.eval()


def test_delta_and_base_are_added(tmp_path: Path) -> None:
    network = checkpoint(tmp_path / "delta", tmp_path / "base")
    loaded = load_checkpoint(tmp_path / "delta", base=tmp_path / "base")
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[key], tensor)
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        output, expected = loaded.network(pixel_values), network(pixel_values)
    torch.testing.assert_close(output.mask_logits, expected.mask_logits, rtol=1e-4, atol=1e-4)


def delta_of_width(dim: int) -> dict[str, Tensor]:
    return {
        PREFIX + "patch_embed.cls_token": torch.zeros(1, 1, dim),
        PREFIX + "blocks.0.norm1.weight": torch.full((dim,), 0.01),
        "network.q.weight": torch.ones(2, dim),
    }


@pytest.mark.parametrize(("dim", "size"), [(384, "s"), (768, "b"), (1024, "l")])
def test_without_the_base_the_error_names_it_and_the_cure(dim: int, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def gated(name: str, **options: Any) -> Path:
        asked.append((name, options))
        raise CheckpointError(f"{name} is gated")

    monkeypatch.setattr(deltas, "find", gated)
    repository = f"facebook/dinov3-vit{size}16-pretrain-lvd1689m"
    message = (
        rf"^eomt-small holds only differences from the weights of {repository}.*is gated.*"
        rf"Accept their terms at https://huggingface.co/{repository} and pass token=.*base=\.\.\.$"
    )
    with pytest.raises(CheckpointError, match=message):
        deltas.complete(delta_of_width(dim), "eomt-small", None, token="t", cache_dir="c")
    assert asked == [(repository, {"token": "t", "cache_dir": "c"})]


def test_a_width_that_nobody_published_needs_a_base(tmp_path: Path) -> None:
    checkpoint(tmp_path / "delta", tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"differences from a DINOv3 of width 24.*give the folder.*base="):
        load_checkpoint(tmp_path / "delta")


def test_a_base_for_complete_weights_is_refused(tmp_path: Path) -> None:
    weights = delta_of_width(384)
    weights[PREFIX + "blocks.0.norm1.weight"] += 0.5
    assert deltas.complete(weights, "full", None) is weights
    with pytest.raises(OptionError, match=r"base='somewhere' has no meaning for full, whose weights are complete"):
        deltas.complete(weights, "full", "somewhere")


def test_only_dinov3_in_the_authors_layout_is_a_delta() -> None:
    delta = delta_of_width(384)
    assert deltas.is_delta(delta)
    assert deltas.is_delta({key: tensor.half() for key, tensor in delta.items()})
    assert not deltas.is_delta({key.removeprefix(PREFIX): tensor for key, tensor in delta.items()})
    # DINOv2's are complete, whatever their norms.
    dinov2 = {key.replace("patch_embed.cls_token", "cls_token"): tensor for key, tensor in delta.items()}
    assert not deltas.is_delta(dinov2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, r"needs layer.0.norm1.weight \(384,\), dino has no such tensor"),
        (torch.zeros(768), r"needs layer.0.norm1.weight \(384,\), dino has it as \(768,\)"),
    ],
)
def test_a_base_of_another_size_is_refused(change: Tensor | None, message: str) -> None:
    base = {"embeddings.cls_token": torch.zeros(1, 1, 384)}
    if change is not None:
        base["layer.0.norm1.weight"] = change
    with pytest.raises(CheckpointError, match=message):
        deltas.add_base(delta_of_width(384), base, "dino")


def test_sums_are_float32_whatever_they_are_stored_in() -> None:
    delta = {key: tensor.bfloat16() for key, tensor in delta_of_width(384).items()}
    base = {"embeddings.cls_token": torch.ones(1, 1, 384), "layer.0.norm1.weight": torch.full((384,), 0.7)}
    full = deltas.add_base(delta, base, "dino")
    scale = full[PREFIX + "blocks.0.norm1.weight"]
    assert scale.dtype == torch.float32
    torch.testing.assert_close(scale, torch.full((384,), 0.7) + torch.tensor(0.01).bfloat16().float())
    assert torch.equal(full["network.q.weight"], delta["network.q.weight"])
