"""DETR for panoptic segmentation (Carion et al. 2020): end-to-end object detection with transformers."""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.layers.attention import Attention
from everymask.networks.layers.detr_decoder import DetrDecoder
from everymask.networks.layers.feed_forward import MLP, FeedForward
from everymask.networks.layers.positions import sine_positions
from everymask.networks.outputs import MaskQueries
from everymask.networks.selective import Keep, SelectiveNetwork

EMPTY = -1e4  # the mask logit of queries that are not kept: a probability of 0 in every floating-point type
QUERIES_AT_ONCE = 16  # in the mask head, whose memory is theirs: at 800 x 1066 each takes some 30 MB


@dataclass(frozen=True, slots=True)
class DetrConfig:
    """The sizes of everything after the backbone. The mask head has as many heads as the encoder."""

    num_labels: int
    num_queries: int
    hidden_dim: int
    encoder_layers: int
    encoder_heads: int
    encoder_feed_forward: int
    decoder_layers: int
    decoder_heads: int
    decoder_feed_forward: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxedQueries(MaskQueries):
    """Mask queries that have boxes, too.

    ``boxes`` (B, Q, 4): centre x, centre y, width and height, in 0..1 of the input's width and height.
    """

    boxes: Tensor


class Detr(SelectiveNetwork):
    """A backbone, a transformer, and heads for classes, boxes and masks.

    All images of a batch have one size and no padding, so that positions cover the whole map.
    """

    def __init__(self, config: DetrConfig, backbone: nn.Module, backbone_widths: tuple[int, ...]) -> None:
        """``backbone`` gives four maps of ``backbone_widths`` channels at strides 4, 8, 16 and 32 (DC5: 16)."""
        super().__init__()
        dim = config.hidden_dim
        self.backbone = backbone
        self.input_projection = nn.Conv2d(backbone_widths[-1], dim, 1)
        self.encoder_layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.query_positions = nn.Parameter(torch.randn(config.num_queries, dim))
        self.decoder = DetrDecoder(dim, config.decoder_heads, config.decoder_feed_forward, config.decoder_layers)
        self.class_predictor = nn.Linear(dim, config.num_labels + 1)
        self.box_predictor = MLP(dim, dim, 4)
        self.mask_attention = AttentionMaps(dim, config.encoder_heads)
        self.mask_head = MaskHead(dim, config.encoder_heads, backbone_widths)

    def forward(self, pixel_values: Tensor, keep: Keep | None = None) -> BoxedQueries:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, Q, C + 1), mask logits (B, Q, ~H/4, ~W/4).

        The mask head runs for each query by itself. ``keep``, from class logits to a bool tensor (B, Q), says for which
        it shall run; the masks of the others are ``EMPTY``. Without it all masks are made. There are no predictions of
        earlier layers: the published models were trained for masks on the last layer alone (section 4.2).
        """
        features = self.backbone(pixel_values)
        projected = self.input_projection(features[-1])  # (B, dim, h, w)
        height, width = projected.shape[-2:]
        memory = projected.flatten(2).transpose(1, 2)  # (B, h w, dim)
        positions = sine_positions(height, width, memory.shape[-1], device=memory.device, dtype=memory.dtype)
        for layer in self.encoder_layers:
            memory = layer(memory, positions)
        queries = self.decoder(self.query_positions, memory, memory + positions)[-1]  # (B, Q, dim)

        class_logits = self.class_predictor(queries)
        attention = self.mask_attention(queries, memory).unflatten(-1, (height, width))  # (B, Q, heads, h, w)
        kept = torch.ones_like(class_logits[..., 0], dtype=torch.bool) if keep is None else keep(class_logits)
        batch, _, mask_height, mask_width = features[0].shape
        mask_logits = projected.new_full((batch, queries.shape[1], mask_height, mask_width), EMPTY)
        for image in range(batch):
            chosen = attention[image, kept[image]]  # (K, heads, h, w)
            if len(chosen) > 0:
                laterals = [each[image : image + 1] for each in features[-2::-1]]  # strides 16, 8 and 4
                mask_logits[image, kept[image]] = self.mask_head(projected[image : image + 1], laterals, chosen)
        return BoxedQueries(class_logits, mask_logits, boxes=self.box_predictor(queries).sigmoid())


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward block, each added and normed (figure 10)."""

    def __init__(self, config: DetrConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.attention = Attention(dim, config.encoder_heads)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, config.encoder_feed_forward)
        self.feed_forward_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """``tokens`` (B, S, dim), ``positions`` (S, dim) -> (B, S, dim)."""
        placed = tokens + positions
        tokens = self.attention_norm(tokens + self.attention(placed, placed, tokens))
        out: Tensor = self.feed_forward_norm(tokens + self.feed_forward(tokens))
        return out


class AttentionMaps(nn.Module):
    """Where each query looks, for every head: attention without values (section 4.2)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """``queries`` (B, Q, dim), ``memory`` (B, S, dim) -> (B, Q, heads, S), each query's maps summing up to 1.

        As published, the softmax runs over all heads and pixels together.
        """
        query = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, Q, dim / heads)
        key = self.key(memory).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1)  # (B, heads, dim / heads, S)
        logits = (query * query.shape[-1] ** -0.5) @ key  # (B, heads, Q, S)
        maps: Tensor = logits.transpose(1, 2).flatten(2).softmax(-1).unflatten(-1, (self.heads, -1))
        return maps


class ConvNorm(nn.Module):
    """A 3x3 convolution, group norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(min(8, outputs), outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(K, inputs, h, w) -> (K, outputs, h, w)."""
        return self.activate(self.conv(features))

    def activate(self, convolved: Tensor) -> Tensor:
        """What follows the convolution, (K, outputs, h, w) -> the same shape."""
        out: Tensor = F.relu(self.norm(convolved), inplace=True)
        return out


class MaskHead(nn.Module):
    """An FPN that turns the attention maps of one query into its mask (section 4.2, figure 8).

    What does not depend on the query, which is all that is convolved with many channels, is computed once an image.
    """

    def __init__(self, dim: int, heads: int, widths: tuple[int, ...]) -> None:
        """``widths`` are the channels of the backbone's maps, of which those at strides 16, 8 and 4 come in here."""
        super().__init__()
        steps = (dim // 2, dim // 4, dim // 8, dim // 16)
        self.split = (dim, heads)
        self.first = ConvNorm(dim + heads, dim + heads)
        self.second = ConvNorm(dim + heads, steps[0])
        self.adapters = nn.ModuleList(
            nn.Conv2d(width, step, 1) for width, step in zip(widths[-2::-1], steps[:-1], strict=True)
        )
        self.refinements = nn.ModuleList(ConvNorm(step, narrower) for step, narrower in itertools.pairwise(steps))
        self.predictor = nn.Conv2d(steps[-1], 1, 3, padding=1)

    def forward(self, projected: Tensor, laterals: list[Tensor], attention: Tensor) -> Tensor:
        """The masks of K queries of one image: (K, H / 4, W / 4).

        ``projected`` (1, dim, h, w) is the backbone's last map as the encoder takes it, ``laterals`` the maps at
        strides 16, 8 and 4, (1, widths, ...), and ``attention`` (K, heads, h, w) the maps of the queries.
        """
        # The first convolution is linear in its input, image and attention side by side: the image's part is shared.
        image_weight, attention_weight = self.first.conv.weight.split(self.split, 1)
        shared = F.conv2d(projected, image_weight, self.first.conv.bias, padding=1)  # (1, dim + heads, h, w)
        adapted = [adapt(lateral) for adapt, lateral in zip(self.adapters, laterals, strict=True)]
        masks = []
        for maps in attention.split(QUERIES_AT_ONCE):
            features = self.first.activate(shared + F.conv2d(maps, attention_weight, padding=1))
            features = self.second(features)
            for lateral, refine in zip(adapted, self.refinements, strict=True):
                features = refine(F.interpolate(features, size=lateral.shape[-2:]) + lateral)
            masks.append(self.predictor(features)[:, 0])
        return torch.cat(masks)
