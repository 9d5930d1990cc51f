"""EoMT (Kerssies et al. 2025): the encoder-only mask transformer, a plain ViT whose last blocks hold the queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everymask.networks.backbones.vit import ViT
from everymask.networks.layers.feed_forward import MLP
from everymask.networks.layers.norms import LayerNorm
from everymask.networks.outputs import MaskQueries


@dataclass(frozen=True, slots=True)
class EoMTConfig:
    """The sizes of everything but the ViT.

    The queries join the tokens before the last ``query_blocks`` blocks. Each of ``upscale_blocks`` doubles the
    resolution of the patches: two of them bring patches of 16 pixels to stride 4.
    """

    num_labels: int
    num_queries: int
    query_blocks: int
    upscale_blocks: int


class EoMT(nn.Module):
    """A ViT and three small heads (section 3.3).

    ``mask_probabilities`` (query_blocks,) says how often a query is held to its own mask in each of the last blocks.
    Training starts with ones and anneals them to zeros, block after block (section 3.3, mask annealing); published
    networks have zeros and run without masks, as a plain ViT. Eval mode goes by what they were when they last came from
    ``set_mask_probabilities`` or ``load_state_dict``, or the network was put in a mode: to look at them in every
    forward would have a GPU and the host wait for each other.
    """

    mask_probabilities: Tensor

    def __init__(self, config: EoMTConfig, backbone: ViT) -> None:
        super().__init__()
        dim = backbone.dim
        self.backbone = backbone
        self.query_blocks = config.query_blocks
        self.queries = nn.Parameter(torch.randn(config.num_queries, dim))
        self.upscale = nn.Sequential(*(UpscaleBlock(dim) for _ in range(config.upscale_blocks)))
        self.mask_embedder = MLP(dim, dim, dim, activation=nn.GELU)
        self.class_predictor = nn.Linear(dim, config.num_labels + 1)
        self.stride = backbone.patch // 2**config.upscale_blocks
        self.register_buffer("mask_probabilities", torch.ones(config.query_blocks))
        self._held = (True,) * config.query_blocks  # whether queries are held to their masks in eval mode
        self.register_load_state_dict_post_hook(EoMT._look_at_probabilities)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def set_mask_probabilities(self, probabilities: Sequence[float]) -> None:
        """Writes ``mask_probabilities``, a number from 0 to 1 for each of the last blocks."""
        self.mask_probabilities.copy_(torch.tensor(probabilities))
        self._look_at_probabilities()

    def train(self, mode: bool = True) -> Self:
        """As of any module."""
        super().train(mode)
        self._look_at_probabilities()
        return self

    def _look_at_probabilities(self, *_: object) -> None:
        """Notes on the host what eval mode goes by; a network without values keeps what was noted."""
        if not self.mask_probabilities.is_meta:
            self._held = tuple((self.mask_probabilities >= 0.5).tolist())

    def forward(self, pixel_values: Tensor) -> MaskQueries:
        """(B, 3, H, W), normalised, any H and W >= 32 -> class logits (B, Q, C + 1), mask logits (B, Q, ~H/4, ~W/4).

        In training mode the result carries the predictions made before each of the last blocks, too, and which queries
        are held to their masks is drawn at random. In eval mode nothing is random: all of them are from a probability
        of 0.5 on, and none below.
        """
        tokens, size = self.backbone.embed(pixel_values)  # (B, N, dim)
        rotary = self.backbone.rotary(size)
        blocks = list(self.backbone.blocks)
        for block in blocks[: -self.query_blocks]:
            tokens = block(tokens, rotary)

        tokens = torch.cat((self.queries.expand(len(tokens), -1, -1), tokens), 1)  # (B, Q + N, dim)
        rotary = None if rotary is None else rotary.after(len(self.queries))
        earlier = []
        for index, block in enumerate(blocks[-self.query_blocks :]):
            mask = None
            if self.training or self._held[index]:
                prediction = self._predict(tokens, size)
                mask = self._attention_mask(
                    prediction.mask_logits, tokens.shape[1], size, self.mask_probabilities[index]
                )
                if self.training:
                    earlier.append(prediction)
            tokens = block(tokens, rotary, mask)

        # Where the image was padded to whole patches, the masks go beyond it.
        height, width = (-(-int(side) // self.stride) for side in pixel_values.shape[-2:])
        *auxiliary, last = (
            MaskQueries(each.class_logits, each.mask_logits[..., :height, :width])
            for each in (*earlier, self._predict(tokens, size))
        )
        return MaskQueries(last.class_logits, last.mask_logits, tuple(auxiliary))

    def _predict(self, tokens: Tensor, size: tuple[int, int]) -> MaskQueries:
        """What the tokens (B, Q + N, dim) of h x w patches say so far; the masks have 2^upscale_blocks times h x w."""
        normed = self.backbone.norm(tokens)
        queries, patches = normed[:, : len(self.queries)], normed[:, len(self.queries) + self.backbone.prefix :]
        features = self.upscale(patches.transpose(1, 2).unflatten(-1, size))  # (B, dim, 4 h, 4 w)
        pixels = features.permute(0, 2, 3, 1).flatten(1, 2)  # (B, 4 h 4 w, dim): a view, as channels lie last
        masks = torch.bmm(self.mask_embedder(queries), pixels.transpose(1, 2))
        return MaskQueries(self.class_predictor(queries), masks.unflatten(-1, features.shape[-2:]))

    @torch.no_grad()
    def _attention_mask(self, mask_logits: Tensor, tokens: int, size: tuple[int, int], probability: Tensor) -> Tensor:
        """Which of ``tokens`` = Q + N tokens each may look at: (B, 1, Q + N, Q + N) bool.

        A query that is held to its mask sees no patches outside it, but always the other queries and the prefix.
        """
        batch, queries = mask_logits.shape[:2]
        inside = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False).flatten(2) > 0
        if self.training:
            inside |= torch.rand(batch, queries, 1, device=inside.device) > probability
        allowed = torch.ones(batch, 1, tokens, tokens, dtype=torch.bool, device=inside.device)
        allowed[:, 0, :queries, queries + self.backbone.prefix :] = inside
        return allowed


class UpscaleBlock(nn.Module):
    """Doubles the resolution: a transposed convolution, a convolution of each channel by itself, a norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        self.activation = nn.GELU()
        self.smooth = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = LayerNorm(dim, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """(B, dim, h, w) -> (B, dim, 2 h, 2 w)."""
        features = self.smooth(self.activation(self.enlarge(features)))
        out: Tensor = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out
