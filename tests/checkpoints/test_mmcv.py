"""Folders as ModelScope and the ViT-Adapter project give them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from everymask.checkpoints import load_checkpoint
from everymask.checkpoints.layouts import vit_adapter
from everymask.checkpoints.mmcv import implied_config
from everymask.checkpoints.save import save_checkpoint
from everymask.checkpoints.weights import read_weights
from everymask.errors import CheckpointError
from everymask.labels import LabelSet, label_set
from parity import relative_error

TINY = Path(__file__).parents[1] / "fixtures" / "vit_adapter" / "tiny-a"
CONFIG: dict[str, Any] = json.loads((TINY / "config.json").read_text())
# What the shapes of the tensors do not tell, and tiny-a has otherwise than the published networks.
UNREADABLE = {
    key: CONFIG[key]
    for key in ("img_size", "decoder_heads", "pixel_decoder_heads", "pixel_decoder_gn_groups", "crop_size", "stride")
}
WINDOW = (96, 128)


class OutOfBounds:
    """Stands for what trained a network: numpy numbers, optimizers and other things that are no tensors."""


def tensors() -> dict[str, Tensor]:
    return load_file(TINY / "model.safetensors")


def modelscope_folder(folder: Path, content: object) -> Path:
    """A folder as ModelScope downloads it; whoever executes its config leaves a trace."""
    folder.mkdir(exist_ok=True)
    (folder / "configuration.json").write_text('{"framework": "pytorch", "task": "image-segmentation"}')
    trap = f"import pathlib\npathlib.Path({str(folder / 'sprung')!r}).touch()\nmodel = dict(img_size=32)\n"
    (folder / "mmcv_config.py").write_text(trap)
    torch.save(content, folder / "pytorch_model.pt")
    return folder


def state(folder: Path, config: dict[str, Any] | None) -> Path:
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def outputs(folder: Path) -> Tensor:
    pixel_values = load_file(TINY / "input.safetensors")["pixel_values"]
    with torch.inference_mode():
        logits: Tensor = load_checkpoint(folder).network(pixel_values).class_logits
    return logits


def expected(residual: bool) -> Tensor:
    name = "expected.safetensors" if residual else "expected_no_identity.safetensors"
    return load_file(TINY / name)["decoder.3.class_logits"]


META = {"mmseg_version": "0.20.2", "CLASSES": ["road"], "PALETTE": [[1, 2, 3]], "seed": 0, "time": None}
FORMS = {
    "bare": lambda state: state,
    "with meta": lambda state: {"meta": META, "state_dict": state, "iter": 80000},
    "of a wrapped module": lambda state: {"state_dict": {"module." + key: each for key, each in state.items()}},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_of_modelscope_loads(form: str, tmp_path: Path) -> None:
    folder = state(modelscope_folder(tmp_path, FORMS[form](tensors())), UNREADABLE)
    assert relative_error(outputs(folder), expected(True)) <= 1e-4
    checkpoint = load_checkpoint(folder)
    assert checkpoint.tasks == ("semantic",)
    assert len(checkpoint.labels) == 7
    assert checkpoint.description is not None
    assert "ModelScope's code" in checkpoint.description
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize("name", ["x.pth", "mask2former_beit_adapter_large.pth.tar"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_the_project_loads_as_the_original_network(name: str, zipped: bool, tmp_path: Path) -> None:
    torch.save({"meta": META, "state_dict": tensors()}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    folder = state(tmp_path, UNREADABLE)
    assert relative_error(outputs(folder), expected(False)) <= 1e-4
    assert "ViT-Adapter project" in (load_checkpoint(folder).description or "")


@pytest.mark.parametrize("residual", [True, False])
def test_a_config_says_which_variant_is_meant(residual: bool, tmp_path: Path) -> None:
    folder = modelscope_folder(tmp_path, tensors())
    state(folder, {**UNREADABLE, "adapter_attn_identity": residual})
    assert relative_error(outputs(folder), expected(residual)) <= 1e-4


def test_the_golden_config_beside_the_weights_is_enough(tmp_path: Path) -> None:
    folder = state(modelscope_folder(tmp_path, tensors()), CONFIG)
    assert relative_error(outputs(folder), expected(True)) <= 1e-4
    assert load_checkpoint(folder).preprocessing.tiling is not None


@pytest.mark.parametrize("residual", [True, False])
def test_what_is_saved_here_loads_and_is_the_same_network(residual: bool, tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "vit_adapter", "adapter_attn_identity": residual}
    labels = LabelSet(tuple("abcdefg"), (True,) * 7, (None,) * 7)
    network, layout = vit_adapter.build(config, 7)
    network.load_state_dict(layout.to_ours(tensors(), network))
    preprocessor = vit_adapter.preprocessor(config)
    save_checkpoint(
        tmp_path, network, layout, config, preprocessor, labels=labels, tasks=("semantic",), license="Apache-2.0"
    )
    assert relative_error(outputs(tmp_path), expected(residual)) <= 1e-4
    assert load_checkpoint(tmp_path).labels == labels
    kept = {key for key in tensors() if "relative_position_index" not in key}
    assert load_file(tmp_path / "model.safetensors").keys() == kept


def small(num_labels: int, **changes: Any) -> dict[str, Tensor]:
    sizes = {"img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 2, "conv_inplane": 4, "feat_channels": 32}
    head = {"pixel_decoder_layers": 1, "pixel_decoder_ffn": 8, "decoder_layers": 1, "decoder_ffn": 8, "num_queries": 3}
    torch.manual_seed(0)
    network, layout = vit_adapter.build({**sizes, **head, **changes}, num_labels)
    return layout.to_published(network)


def test_without_any_config_all_is_read_from_the_shapes(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(modelscope_folder(tmp_path, small(171)))
    assert checkpoint.labels == label_set("coco-stuff")
    assert checkpoint.preprocessing.tiling is not None
    assert checkpoint.preprocessing.tiling.window == (64, 64)
    with torch.inference_mode():
        output = checkpoint.network(torch.randn(1, 3, 64, 64))
    assert output.class_logits.shape == (1, 3, 172)
    assert output.mask_logits.shape == (1, 3, 16, 16)


def test_classes_that_no_data_set_has_are_numbered(tmp_path: Path) -> None:
    assert load_checkpoint(modelscope_folder(tmp_path, small(3))).labels.names == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_window_that_is_no_square_must_be_stated(tmp_path: Path) -> None:
    folder = modelscope_folder(tmp_path, small(3, img_size=[64, 96]))
    with pytest.raises(CheckpointError, match=r'write "img_size": \[height, width\]'):
        load_checkpoint(folder)
    assert load_checkpoint(state(folder, {"img_size": [64, 96]})).network is not None


def test_sizes_that_contradict_the_tensors_are_refused(tmp_path: Path) -> None:
    folder = state(modelscope_folder(tmp_path, small(3)), {"n_points": 2})
    with pytest.raises(CheckpointError, match="the weights do not fit the network"):
        load_checkpoint(folder)


def test_more_than_tensors_and_plain_values_is_refused_with_the_cure(tmp_path: Path) -> None:
    folder = modelscope_folder(tmp_path, {"state_dict": small(3), "meta": {"what": OutOfBounds()}})
    with pytest.raises(CheckpointError, match=r"Nothing in a checkpoint is executed.*save it as model\.safetensors"):
        load_checkpoint(folder)


def test_weights_of_other_networks_are_refused(tmp_path: Path) -> None:
    folder = modelscope_folder(tmp_path, {"state_dict": {"backbone.conv1.weight": torch.zeros(1)}})
    with pytest.raises(CheckpointError, match="no supported network"):
        load_checkpoint(folder)


def test_weights_of_half_a_network_are_refused(tmp_path: Path) -> None:
    half = {key: tensor for key, tensor in small(3).items() if "query_feat" not in key}
    with pytest.raises(CheckpointError, match=r"have no decode_head\.query_feat\.weight"):
        load_checkpoint(modelscope_folder(tmp_path, half))


@pytest.mark.parametrize(
    "key", ["backbone.cls_token", "decode_head.cls_embed.weight", "backbone.blocks.0.attn.relative_position_bias_table"]
)
def test_tensors_of_strange_shapes_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="but other shapes"):
        load_checkpoint(modelscope_folder(tmp_path, {**small(3), key: torch.zeros(())}))


def test_several_files_of_weights_are_refused(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth.tar"):
        torch.save({}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"several files of weights \(a\.pth, b\.pth\.tar\)"):
        read_weights(tmp_path)


def test_weights_in_the_transformers_layout_come_first(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "pytorch_model.bin")
    torch.save(small(3), tmp_path / "pytorch_model.pt")
    assert implied_config(tmp_path) is None
    assert read_weights(tmp_path) == {}


def test_a_folder_without_weights_implies_nothing(tmp_path: Path) -> None:
    assert implied_config(tmp_path) is None
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_checkpoint(tmp_path)
