"""OneFormer (Jain et al. 2023): one transformer to rule universal image segmentation."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.attention import Attention
from everymask.networks.layers.detr_decoder import DetrDecoderLayer
from everymask.networks.layers.feed_forward import MLP, FeedForward
from everymask.networks.layers.mask_features import MaskFeatures
from everymask.networks.layers.masked_decoder import MaskedDecoder
from everymask.networks.layers.pixel_decoder import PixelDecoder
from everymask.networks.layers.positions import sine_positions
from everymask.networks.outputs import MaskQueries


@dataclass(frozen=True, slots=True)
class TextMapperConfig:
    """The sizes of the text mapper; ``contexts`` learned queries join those made from texts of ``length`` tokens."""

    vocabulary: int
    length: int
    layers: int
    projection_layers: int
    contexts: int
    temperature: float


@dataclass(frozen=True, slots=True)
class OneFormerConfig:
    """The sizes of everything after the backbone; ``dim`` is the width of them all.

    ``num_queries`` counts the task's own query. ``task_length`` is the number of tokens of a task. ``decoder_layers``
    counts the masked layers themselves (9 as published). ``text``: the text mapper, which only training needs.
    """

    num_labels: int
    num_queries: int
    dim: int
    heads: int
    task_length: int
    encoder_layers: int
    encoder_feed_forward: int
    query_layers: int
    decoder_layers: int
    decoder_feed_forward: int
    text: TextMapperConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQueries(MaskQueries):
    """The output of OneFormer: ``queries`` (B, Q, dim) are its queries before they have seen the image's levels.

    The contrastive loss compares them with the queries that ``TextMapper`` makes.
    """

    queries: Tensor


class OneFormer(nn.Module):
    """A backbone, a pixel decoder and a decoder of queries that knows the task; in training, a text mapper beside."""

    def __init__(self, config: OneFormerConfig, backbone: nn.Module, backbone_widths: tuple[int, ...]) -> None:
        """``backbone`` gives four maps of ``backbone_widths`` channels at strides 4, 8, 16 and 32."""
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = PixelDecoder(
            backbone_widths,
            config.dim,
            config.dim,
            heads=config.heads,
            layers=config.encoder_layers,
            feed_forward=config.encoder_feed_forward,
        )
        self.task_encoder = TaskEncoder(config.task_length, config.dim)
        self.query_decoder = QueryDecoder(config)
        self.text_mapper = None if config.text is None else TextMapper(config.text, config.dim)

    @property
    def task_length(self) -> int:
        """How many tokens a task has."""
        return self.task_encoder.expand.in_features

    def forward(self, pixel_values: Tensor, task_tokens: Tensor) -> TaskQueries:
        """Predicts class logits (B, Q, C + 1) and mask logits (B, Q, ~H/4, ~W/4) for each image and its task.

        ``pixel_values`` (B, 3, H, W), normalised, any H and W >= 32; ``task_tokens`` (B, ``task_length``) int64: the
        tokens of "the task is panoptic" and the like, filled up with zeros (section 3.1). In training mode the result
        carries the earlier predictions, too.
        """
        levels, mask_features = self.pixel_decoder(self.backbone(pixel_values))
        queries: TaskQueries = self.query_decoder(levels, mask_features, self.task_encoder(task_tokens))
        return queries


class TaskEncoder(nn.Module):
    """From the tokens of a task, taken as numbers, to its query (section 3.1)."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(length, dim)
        self.contract = nn.Linear(dim, dim)

    def forward(self, task_tokens: Tensor) -> Tensor:
        """(B, length) int64 -> (B, dim) float32, whatever the weights are: token numbers need more digits than half
        precision has, and their weighted sums a larger range.
        """
        hidden = F.linear(task_tokens.float(), self.expand.weight.float(), self.expand.bias.float()).relu()
        return F.linear(hidden, self.contract.weight.float(), self.contract.bias.float())


class QueryDecoder(MaskedDecoder):
    """The masked decoder, which starts from queries made for the task and the image (section 3.2)."""

    def __init__(self, config: OneFormerConfig) -> None:
        dim = config.dim
        super().__init__(
            dim,
            dim,
            dim,
            config.num_labels,
            heads=config.heads,
            layers=config.decoder_layers,
            feed_forward=config.decoder_feed_forward,
        )
        self.query_positions = nn.Parameter(torch.randn(config.num_queries, dim))
        self.feature_projection = nn.Conv2d(dim, dim, 1)
        self.initial_layers = nn.ModuleList(
            DetrDecoderLayer(dim, config.heads, config.decoder_feed_forward) for _ in range(config.query_layers)
        )
        self.initial_norm = nn.LayerNorm(dim)

    def forward(self, levels: list[Tensor], mask_features: MaskFeatures, task: Tensor) -> TaskQueries:
        """Refined maps of strides 32, 16 and 8, mask features at stride 4 and ``task`` (B, dim) float32 -> predictions
        at stride 4.
        """
        normed = F.layer_norm(task, task.shape[-1:], self.norm.weight.float(), self.norm.bias.float(), self.norm.eps)
        features = mask_features.projected()
        queries = self._initial_queries(normed.to(features.dtype)[:, None], features)
        predicted = self.decode(queries, self.query_positions, levels, mask_features)
        return TaskQueries(predicted.class_logits, predicted.mask_logits, predicted.auxiliary, queries=queries)

    def _initial_queries(self, task: Tensor, mask_features: Tensor) -> Tensor:
        """Copies of ``task`` (B, 1, dim) that have read the mask features (B, dim, h, w), and itself: (B, Q, dim).

        As published, the features say where to look, and what is read is the position.
        """
        batch, dim, height, width = mask_features.shape
        places = sine_positions(height, width, dim, device=mask_features.device, dtype=mask_features.dtype)
        memory = places.expand(batch, -1, -1)  # (B, h w, dim)
        keys = memory + self.feature_projection(mask_features).flatten(2).transpose(1, 2)
        positions = self.query_positions[:-1]
        queries = task.expand(-1, len(positions), -1)  # (B, Q - 1, dim)
        for layer in self.initial_layers:
            queries = layer(queries, positions, memory, keys, None)
        return torch.cat((self.initial_norm(queries), task), 1)


class TextMapper(nn.Module):
    """From the texts that describe an image's objects to queries, which guide the network's own (section 3.3).

    ``logit_scale``: the logarithm of the factor that the contrastive loss multiplies similarities with.
    """

    def __init__(self, config: TextMapperConfig, dim: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, dim)
        self.positions = nn.Parameter(torch.empty(config.length, dim))
        self.layers = nn.ModuleList(TextEncoderLayer(dim) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dim)
        self.projector = MLP(dim, dim, dim, config.projection_layers)
        self.contexts = nn.Parameter(torch.randn(config.contexts, dim))
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, text_tokens: Tensor) -> Tensor:
        """(B, N, length) int64, the tokens of N texts an image, each after its last filled up with zeros.

        Returns (B, N + contexts, dim): as many queries as the network has.
        """
        texts = text_tokens.flatten(0, 1)  # (B N, length)
        features = self.token_embedding(texts) + self.positions
        for layer in self.layers:
            features = layer(features)
        # The end of a text has the largest number of all tokens; it stands for the text as a whole.
        ends = self.norm(features)[torch.arange(len(texts), device=texts.device), texts.argmax(-1)]  # (B N, dim)
        queries = self.projector(ends).unflatten(0, text_tokens.shape[:2])
        return torch.cat((queries, self.contexts.expand(len(queries), -1, -1)), 1)


class TextEncoderLayer(nn.Module):
    """Self-attention and a feed-forward block, each on normed input and added, as in CLIP (Radford et al. 2021)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads=dim // 64)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, 4 * dim, QuickGELU)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, length, dim) -> the same shape."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed)
        out: Tensor = tokens + self.feed_forward(self.feed_forward_norm(tokens))
        return out


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return tokens * torch.sigmoid(1.702 * tokens)
