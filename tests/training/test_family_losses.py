"""A batch costs what it costs in transformers: every family from pixels to the loss, and the gradient all the way."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    BeitConfig,
    BeitForSemanticSegmentation,
    ConvNextConfig,
    DetrConfig,
    DetrForSegmentation,
    DPTConfig,
    DPTForSemanticSegmentation,
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    PreTrainedModel,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.models.beit.modeling_beit import BeitRelativePositionBias

from everymask.checkpoints.families import FAMILIES
from everymask.checkpoints.strict import load_strictly
from everymask.networks.outputs import MaskQueries
from everymask.training.batch import Batch
from everymask.training.boxes import boxes_of
from everymask.training.criterion import PointSampling
from everymask.training.losses import LossConfig, LossParts, MaskLossConfig, loss_for, predict, published_loss
from everymask.training.targets import Targets
from parity import randomise

NUM_LABELS = 5
POINTS = 100
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SWIN = SwinConfig(
    embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=STAGES, drop_path_rate=0.0
)
SETTINGS = ("empty_weight", "attn_mask_probs")  # buffers that no training changes
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DECODER: dict[str, Any] = {
    "backbone_config": SWIN,
    "hidden_dim": 64,
    "num_attention_heads": 4,
    "num_queries": 9,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 24,
    "decoder_layers": 3,
    "dim_feedforward": 40,
    "mask_dim": 64,
    "dropout": 0.0,
    "train_num_points": POINTS,
}


def batch_of(size: tuple[int, int]) -> Batch:
    """Two images with segments in blocks of pixels, some in none."""
    targets = []
    for count in (4, 7):
        coarse = torch.randint(-1, count, (size[0] // 4, size[1] // 4))
        coarse.view(-1)[:count] = torch.arange(count)
        id_map = coarse.repeat_interleave(4, 0).repeat_interleave(4, 1)
        targets.append(Targets(torch.randint(0, NUM_LABELS, (count,)), id_map))
    class_maps = torch.randint(-1, NUM_LABELS, (2, *size))
    return Batch(torch.randn(2, 3, *size, requires_grad=True), tuple(targets), class_maps)


def dense_labels(batch: Batch) -> dict[str, list[Tensor]]:
    assert batch.targets is not None
    masks = [(each.id_map == torch.arange(len(each.labels))[:, None, None]).float() for each in batch.targets]
    return {"mask_labels": masks, "class_labels": [each.labels for each in batch.targets]}


def class_labels(batch: Batch) -> dict[str, Tensor]:
    assert batch.class_maps is not None
    return {"labels": torch.where(batch.class_maps < 0, 255, batch.class_maps)}


def twin_of(reference: PreTrainedModel, folder: Path) -> nn.Module:
    """Our network with the weights of transformers', both in training mode."""
    settings = {name: each.clone() for name, each in reference.named_buffers() if name.endswith(SETTINGS)}
    randomise(reference)
    reference.load_state_dict(settings, strict=False)
    reference.train().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    network, layout = FAMILIES[config["model_type"]].build(config, NUM_LABELS)
    load_strictly(network, layout, load_file(folder / "model.safetensors"))
    return network.train()


def with_few_points(config: LossConfig) -> LossConfig:
    masks = config.masks
    assert masks is not None
    return LossConfig(masks=MaskLossConfig(masks.weights, PointSampling(POINTS), masks.contrastive))


def assert_equal(losses: LossParts, expected: Tensor, batch: Batch) -> None:
    torch.testing.assert_close(losses.total, expected.squeeze(), rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.stack(list(losses.parts.values())).sum(), losses.total.detach())
    [ours], [theirs] = (
        torch.autograd.grad(each, batch.pixel_values, retain_graph=True) for each in (losses.total, expected)
    )
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_detr(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES)
    sizes = {"d_model": 32, "encoder_attention_heads": 8, "decoder_attention_heads": 2, "num_queries": 9}
    layers = {"encoder_layers": 1, "encoder_ffn_dim": 24, "decoder_layers": 2, "decoder_ffn_dim": 40}
    config = DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, num_labels=NUM_LABELS, dropout=0.0, **sizes, **layers
    )
    reference = DetrForSegmentation(config)
    network = twin_of(reference, tmp_path)
    batch = batch_of((96, 64))
    assert batch.targets is not None
    dense = dense_labels(batch)
    labels = [
        {"class_labels": target.labels, "boxes": boxes_of(target), "masks": masks}
        for target, masks in zip(batch.targets, dense["mask_labels"], strict=True)
    ]
    expected = reference(batch.pixel_values, labels=labels).loss
    losses = loss_for(network, published_loss("detr"))(predict(network, batch), batch)
    assert set(losses.parts) == {"class", "mask", "dice", "box L1", "box GIoU"}
    assert_equal(losses, expected, batch)


def test_maskformer(tmp_path: Path) -> None:
    """The last layer alone: transformers predicts from the earlier ones' queries without their norm."""
    torch.manual_seed(0)
    detr = DetrConfig(
        d_model=32, decoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=40, num_queries=9, dropout=0.0
    )
    config = MaskFormerConfig(
        backbone_config=SWIN,
        decoder_config=detr,
        fpn_feature_size=32,
        mask_feature_size=24,
        num_labels=NUM_LABELS,
    )
    reference = MaskFormerForInstanceSegmentation(config)
    network = twin_of(reference, tmp_path)
    batch = batch_of((96, 64))
    expected = reference(batch.pixel_values, **dense_labels(batch)).loss
    output = predict(network, batch)
    assert isinstance(output, MaskQueries)
    assert len(output.auxiliary) == 1
    output = MaskQueries(output.class_logits, output.mask_logits)
    losses = loss_for(network, published_loss("maskformer"))(output, batch)
    assert_equal(losses, expected, batch)


def test_mask2former(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Mask2FormerConfig(**{**DECODER, "feature_size": 64, "mask_feature_size": 64}, num_labels=NUM_LABELS)
    reference = Mask2FormerForUniversalSegmentation(config)
    network = twin_of(reference, tmp_path)
    batch = batch_of((96, 64))
    torch.manual_seed(1)
    expected = reference(batch.pixel_values, **dense_labels(batch)).loss
    output = predict(network, batch)
    torch.manual_seed(1)
    losses = loss_for(network, with_few_points(published_loss("mask2former")))(output, batch)
    assert_equal(losses, expected, batch)


def test_oneformer(tmp_path: Path) -> None:
    """With its contrastive term, from the tokens of texts on."""
    torch.manual_seed(0)
    text = {"text_encoder_width": 64, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 100}
    lengths = {"text_encoder_context_length": 12, "text_encoder_n_ctx": 3, "task_seq_len": 9}
    config = OneFormerConfig(**DECODER, **text, **lengths, conv_dim=64, is_training=True, num_labels=NUM_LABELS)
    reference = OneFormerForUniversalSegmentation(config)
    network = twin_of(reference, tmp_path)
    plain = batch_of((96, 64))
    tokens, texts = torch.randint(0, 49408, (2, 9)), torch.randint(0, 100, (2, 6, 12))
    batch = Batch(plain.pixel_values, plain.targets, task_tokens=tokens, text_tokens=texts)
    torch.manual_seed(1)
    expected = reference(batch.pixel_values, tokens, text_inputs=texts, **dense_labels(batch)).loss
    output = predict(network, batch)
    torch.manual_seed(1)
    losses = loss_for(network, with_few_points(published_loss("oneformer")))(output, batch)
    assert losses.parts["contrastive"] > 0
    assert_equal(losses, expected, batch)


def test_eomt(tmp_path: Path) -> None:
    """Both sum over the layers; transformers draws the points of the first one first."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "num_blocks": 2, "image_size": 64}
    config = EomtConfig(**sizes, num_queries=9, num_labels=NUM_LABELS, train_num_points=POINTS)
    reference = EomtForUniversalSegmentation(config)
    network = twin_of(reference, tmp_path)
    assert network.mask_probabilities.tolist() == [1.0, 1.0]
    batch = batch_of((64, 64))
    torch.manual_seed(1)
    expected = reference(batch.pixel_values, **dense_labels(batch)).loss
    last = predict(network, batch)
    assert isinstance(last, MaskQueries)
    first, *others = last.auxiliary
    output = MaskQueries(first.class_logits, first.mask_logits, (*others, last))
    torch.manual_seed(1)
    losses = loss_for(network, with_few_points(published_loss("eomt")))(output, batch)
    assert_equal(losses, expected, batch)


CONVNEXT = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES)
VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 64}
PIXEL_FAMILIES = {
    "segformer": lambda: SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[8, 8, 20, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 5, 8],
            decoder_hidden_size=24,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
            num_labels=NUM_LABELS,
        )
    ),
    "upernet": lambda: UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=CONVNEXT, hidden_size=16, auxiliary_channels=8, num_labels=NUM_LABELS)
    ),
    "beit": lambda: BeitForSemanticSegmentation(
        BeitConfig(
            **VIT,
            **NO_DROPOUT,
            out_indices=[1, 2, 3, 4],
            auxiliary_channels=16,
            use_relative_position_bias=True,
            drop_path_rate=0.0,
            num_labels=NUM_LABELS,
        )
    ),
    "dpt": lambda: DPTForSemanticSegmentation(
        DPTConfig(
            **VIT,
            **NO_DROPOUT,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[16, 16, 24, 32],
            fusion_hidden_size=16,
            semantic_classifier_dropout=0.0,
            num_labels=NUM_LABELS,
        )
    ),
}


@pytest.fixture
def uncached_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers remembers BEiT's index for all networks, in tests before as a tensor without gradients."""
    made = BeitRelativePositionBias.generate_relative_position_index.__wrapped__
    monkeypatch.setattr(BeitRelativePositionBias, "generate_relative_position_index", staticmethod(made))


@pytest.mark.parametrize("family", PIXEL_FAMILIES)
@pytest.mark.usefixtures("uncached_positions")
def test_pixel_families(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = PIXEL_FAMILIES[family]()
    network = twin_of(reference, tmp_path)
    for module in (*reference.modules(), *network.modules()):
        if isinstance(module, nn.Dropout):  # DPT's auxiliary head has one that no setting turns off
            module.p = 0.0
    batch = batch_of((64, 64))
    expected = reference(batch.pixel_values, **class_labels(batch)).loss
    losses = loss_for(network, published_loss(family))(predict(network, batch), batch)
    assert ("auxiliary" in losses.parts) == (family != "segformer")
    assert_equal(losses, expected, batch)
