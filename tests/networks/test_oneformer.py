"""OneFormer gives the published implementation's numbers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import DinatConfig, OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.dinat import modeling_dinat

from everymask.checkpoints.layouts import oneformer
from everymask.checkpoints.layouts.rules import Layout
from everymask.checkpoints.strict import load_strictly
from everymask.errors import CheckpointError
from everymask.labels import match_labels
from everymask.networks.oneformer import OneFormer
from everymask.training.contrastive import contrastive_loss
from parity import randomise, relative_error, shapes
from shared import SHARED, needs_shared

CONFIGS = sorted(
    path.name for path in (SHARED / "checkpoints" / "configs").glob("*--oneformer_*.json") if "pre" not in path.name
)
STAGES = ["stage1", "stage2", "stage3", "stage4"]
PANOPTIC = torch.tensor([[49406, 518, 10549, 533, 1072, 24755, 49407, *[0] * 70]])
SWIN = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES)
WITH_TEXT = {
    "hidden_dim": 64,
    "conv_dim": 64,
    "mask_dim": 64,
    "num_attention_heads": 4,
    "num_queries": 7,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 24,
    "decoder_layers": 3,
    "dim_feedforward": 40,
    "num_labels": 3,
    "is_training": True,
    "dropout": 0.0,  # transformers drops out wherever is_training is set, in evaluation, too
    "text_encoder_width": 64,
    "text_encoder_num_layers": 2,
    "text_encoder_vocab_size": 100,
    "text_encoder_context_length": 12,
    "text_encoder_n_ctx": 3,
}


@torch.no_grad()
def build(config: dict[str, Any]) -> tuple[OneFormer, Layout]:
    network, layout = oneformer.build(config, len(config.get("id2label", "ab")))  # transformers leaves out the default
    assert isinstance(network, OneFormer)
    return network, layout


def load(folder: Path) -> OneFormer:
    network, layout = build(json.loads((folder / "config.json").read_text()))
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.eval()


@needs_shared
@pytest.mark.parametrize("name", ["oneformer_swin", "oneformer_dinat"])
def test_golden_checkpoints_give_their_numbers(name: str) -> None:
    folder = SHARED / "golden" / "transformers-4.57" / name
    expected = load_file(folder / "expected.safetensors")
    with torch.inference_mode():
        output = load(folder)(expected["pixel_values"], expected["task_inputs"])
    assert relative_error(output.class_logits, expected["class_logits"]) <= 1e-4
    assert relative_error(output.mask_logits, expected["mask_logits"]) <= 1e-4


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    backbone=st.builds(
        lambda width, window, qkv_bias: SwinConfig(
            embed_dim=8 * width,
            depths=[1, 2, 1, 1],
            num_heads=[1, 2, 2, 4],
            window_size=window,
            qkv_bias=qkv_bias,
            out_features=STAGES,
        ),
        width=st.integers(1, 2),
        window=st.integers(2, 8),
        qkv_bias=st.booleans(),
    ),
    sizes=st.fixed_dictionaries(
        {
            "num_queries": st.integers(2, 9),
            "num_attention_heads": st.sampled_from([1, 4]),
            "encoder_layers": st.integers(1, 2),
            "encoder_feedforward_dim": st.just(24),
            "query_dec_layers": st.integers(1, 3),
            "decoder_layers": st.integers(2, 5),
            "dim_feedforward": st.just(40),
            "task_seq_len": st.sampled_from([9, 77]),
            "num_labels": st.integers(1, 6),
        }
    ),
    dim=st.sampled_from([64, 96]),
    batch=st.integers(1, 3),
    height=st.integers(32, 130),
    width=st.integers(32, 130),
)
def test_random_configurations_equal_transformers(
    backbone: Any, sizes: dict[str, int], dim: int, batch: int, height: int, width: int, tmp_path: Path
) -> None:
    """Random weights, sizes that are no multiple of the window or of 32, another task for each image."""
    config = OneFormerConfig(backbone_config=backbone, hidden_dim=dim, conv_dim=dim, mask_dim=dim, **sizes)
    torch.manual_seed(height * width)
    reference = OneFormerForUniversalSegmentation(config).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    network = load(tmp_path)
    pixel_values = torch.randn(batch, 3, height, width)
    tokens = torch.randint(0, 49408, (batch, sizes["task_seq_len"]))
    with torch.inference_mode():
        expected = reference(pixel_values, tokens)
        output = network(pixel_values, tokens)
    assert relative_error(output.class_logits, expected.class_queries_logits) <= 1e-4
    assert relative_error(output.mask_logits, expected.masks_queries_logits) <= 1e-4
    assert relative_error(output.queries, expected.transformer_decoder_contrastive_queries) <= 1e-4


def trained(tmp_path: Path) -> OneFormerForUniversalSegmentation:
    """A small network with a text mapper, saved by transformers in ``tmp_path``."""
    torch.manual_seed(0)
    reference = OneFormerForUniversalSegmentation(OneFormerConfig(backbone_config=SWIN, **WITH_TEXT)).eval()
    randomise(reference)
    reference.save_pretrained(tmp_path)
    return reference


def texts(batch: int) -> Tensor:
    """Tokens of 4 texts an image; the end, 99, is at another place in each."""
    tokens = torch.randint(1, 98, (batch, 4, 12))
    ends = torch.randint(1, 12, (batch, 4, 1))
    place = torch.arange(12)
    return torch.where(place == ends, 99, tokens) * (place <= ends)


def test_the_text_mapper_and_its_loss_equal_transformers(tmp_path: Path) -> None:
    reference = trained(tmp_path)
    network = load(tmp_path)
    assert network.text_mapper is not None
    pixel_values, text_tokens = torch.randn(3, 3, 64, 50), texts(3)
    with torch.inference_mode():
        expected = reference(pixel_values, PANOPTIC.expand(3, -1), text_inputs=text_tokens)
        text_queries = network.text_mapper(text_tokens)
        output = network(pixel_values, PANOPTIC.expand(3, -1))
        loss = contrastive_loss(output.queries, text_queries, network.text_mapper.logit_scale)
        criterion = reference.criterion
        expected_loss = criterion.loss_contrastive(
            expected.transformer_decoder_contrastive_queries, expected.text_queries
        )["loss_contrastive"]
    assert text_queries.shape == output.queries.shape == (3, 7, 64)
    assert relative_error(text_queries, expected.text_queries) <= 1e-4
    assert abs(loss - expected_loss) <= 1e-4 * expected_loss


def test_the_contrastive_loss_trains_the_text_mapper(tmp_path: Path) -> None:
    trained(tmp_path)
    network = load(tmp_path).train()
    assert network.text_mapper is not None
    queries = network(torch.randn(2, 3, 64, 64), PANOPTIC.expand(2, -1)).queries
    contrastive_loss(queries, network.text_mapper(texts(2)), network.text_mapper.logit_scale).backward()
    silent = [name for name, each in network.text_mapper.named_parameters() if not each.grad.abs().sum() > 0]
    assert silent == []
    assert network.task_encoder.expand.weight.grad.abs().sum() > 0


def test_a_text_mapper_in_a_file_is_left_out_where_the_config_does_not_train(tmp_path: Path) -> None:
    """Other files than the Hub's hold one; ``is_training`` decides, as in transformers."""
    trained(tmp_path)
    published = load_file(tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    with_text, layout = build(config)
    assert layout.published_shapes(with_text).keys() >= {key for key in published if "text_mapper" in key}

    network, layout = build({**config, "is_training": False})
    assert network.text_mapper is None
    load_strictly(network, layout, published)
    without = {key: tensor for key, tensor in published.items() if "text_mapper" not in key}
    assert len(without) < len(published)
    load_strictly(network, layout, without)
    with pytest.raises(CheckpointError, match=r"missing: model\.text_mapper\.text_encoder"):
        load_strictly(with_text, build(config)[1], without)


@pytest.mark.parametrize("is_training", [False, True])
def test_what_is_trained_here_loads_in_transformers(is_training: bool, tmp_path: Path) -> None:
    config = OneFormerConfig(backbone_config=SWIN, **{**WITH_TEXT, "is_training": is_training})
    torch.manual_seed(0)
    network, layout = oneformer.build(config.to_dict(), 3)
    save_file(layout.to_published(network), tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    reference, report = OneFormerForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    unused = {"model.pixel_level_module.encoder.swin.layernorm.weight"}  # new in transformers 5, read by nothing
    unused |= {key.replace("weight", "bias") for key in unused}
    assert set(report["missing_keys"]) <= unused
    assert not any(report[kind] for kind in ("unexpected_keys", "mismatched_keys"))
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        output = network.eval()(pixel_values, PANOPTIC)
        expected = reference.eval()(pixel_values, PANOPTIC, text_inputs=texts(1))
    assert relative_error(output.mask_logits, expected.masks_queries_logits) <= 1e-4


@needs_shared
@pytest.mark.parametrize("name", CONFIGS)
def test_public_configs_have_exactly_the_published_tensors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and shapes of what transformers writes for the same config; layouts.md says it writes the 4.x layout."""
    monkeypatch.setattr(modeling_dinat, "requires_backends", lambda *_: None)  # building needs no NATTEN
    config = json.loads((SHARED / "checkpoints" / "configs" / name).read_text())
    with torch.device("meta"):
        network, layout = build(config)
        reference = OneFormerForUniversalSegmentation(OneFormerConfig.from_dict(config))
    written = shapes(revert_weight_conversion(reference, reference.state_dict()))
    needed = {**layout.published_shapes(network), **shapes(layout.constants)}
    assert {key: shape for key, shape in written.items() if not layout.ignored(key) or key in needed} == needed
    assert match_labels(list(config["id2label"].values())) is not None


@needs_shared
@pytest.mark.parametrize(
    ("name", "keys", "tenths_of_megabytes"),
    [("oneformer_ade20k_swin_tiny", 610, 2032), ("oneformer_ade20k_dinat_large", 906, 8929)],
)
def test_published_files_are_as_large_as_seen(name: str, keys: int, tenths_of_megabytes: int) -> None:
    """The numbers of layouts.md; Swin's files hold an index of 49 x 49 int64 in every block besides."""
    config = json.loads((SHARED / "checkpoints" / "configs" / f"shi-labs--{name}.json").read_text())
    with torch.device("meta"):
        network, layout = build(config)
        tensors = layout.to_published(network)
    blocks = 12 if "swin" in name else 0
    assert len(tensors) + blocks == keys
    size = sum(tensor.nbytes for tensor in tensors.values()) + blocks * 49 * 49 * 8
    assert round(size / 1e5) == tenths_of_megabytes


def test_training_mode_gives_the_prediction_of_every_layer() -> None:
    config = {**WITH_TEXT, "decoder_layers": 4, "is_training": False, "backbone_config": SWIN.to_dict()}
    network, _ = oneformer.build(config, 3)
    output = network.train()(torch.randn(2, 3, 64, 96), PANOPTIC.expand(2, -1))
    assert len(output.auxiliary) == 3
    for prediction in (*output.auxiliary, output):
        assert prediction.class_logits.shape == (2, 7, 4)
        assert prediction.mask_logits.shape == (2, 7, 16, 24)
    assert network.eval()(torch.randn(1, 3, 64, 96), PANOPTIC).auxiliary == ()


def test_half_precision_keeps_the_task() -> None:
    """bfloat16 has 8 bits; a task's tokens differ by less than that leaves of 49407."""
    torch.manual_seed(0)
    network, _ = oneformer.build({**WITH_TEXT, "backbone_config": SWIN.to_dict()}, 3)
    expected = network.task_encoder(PANOPTIC)
    output = network.bfloat16().task_encoder(PANOPTIC)
    assert output.dtype == torch.float32
    assert relative_error(output, expected) <= 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_norm": True}, "pre_norm = True"),
        ({"use_task_norm": False}, "use_task_norm = False"),
        ({"mask_dim": 128}, "mask_dim = 128 is not supported; published checkpoints have 256"),
        ({"backbone_config": {"model_type": "vit"}}, "the backbone 'vit' is not supported"),
        ({"is_training": True, "text_encoder_n_ctx": 0}, "text_encoder_n_ctx 0 is not supported"),
        ({"is_training": True, "text_encoder_width": 512}, "text_encoder_width 512, hidden_dim 256"),
    ],
)
def test_what_no_checkpoint_has_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        oneformer.build(changes, 3)


def test_dinat_configs_of_transformers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers fills in what a file leaves out; both must mean the same network."""
    left_out, filled_in = {"model_type": "dinat"}, DinatConfig().to_dict()
    with torch.device("meta"):
        networks = [oneformer.build({"backbone_config": each}, 3)[0] for each in (left_out, filled_in)]
    first, second = (shapes(network.state_dict()) for network in networks)
    assert first == second
