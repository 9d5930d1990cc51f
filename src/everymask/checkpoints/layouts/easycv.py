"""Mask2Former's head as EasyCV names it: as its authors do, under another prefix."""

from everymask.checkpoints.layouts.mmdet import deformable_attention_rules
from everymask.checkpoints.layouts.parts import packed_attention_rules
from everymask.checkpoints.layouts.rules import Rule, rename


def head_rules(head: str) -> tuple[Rule, ...]:
    """The pixel decoder and the decoder of queries. ``head``, the prefix of both, ends with a dot."""
    pixels, ours = head + "pixel_decoder.", "pixel_decoder."
    encoder, our_encoder = pixels + "transformer.encoder.layers.#.", ours + "layers.#."
    queries, our_queries = head + "predictor.", "query_decoder."
    cross, itself, feed_forward = (
        queries + f"transformer_{name}_layers.#." for name in ("cross_attention", "self_attention", "ffn")
    )
    layer = our_queries + "layers.#."
    return (
        rename(pixels + "input_proj.#.#.*", ours + "input_projections.#.#.*"),
        rename(pixels + "transformer.level_embed", ours + "level_embed"),
        *deformable_attention_rules(encoder + "self_attn.", our_encoder + "attention."),
        rename(encoder + "norm1.*", our_encoder + "attention_norm.*"),
        *_feed_forward_rules(encoder, our_encoder),
        rename(encoder + "norm2.*", our_encoder + "feed_forward_norm.*"),
        # A convolution there owns the norm behind it.
        rename(pixels + "adapter_1.weight", ours + "lateral.0.weight"),
        rename(pixels + "adapter_1.norm.*", ours + "lateral.1.*"),
        rename(pixels + "layer_1.weight", ours + "fuse.0.weight"),
        rename(pixels + "layer_1.norm.*", ours + "fuse.1.*"),
        rename(pixels + "mask_features.*", ours + "mask_projection.*"),
        rename(queries + "input_proj.#.*", our_queries + "input_projections.#.*"),
        *packed_attention_rules(cross + "multihead_attn.", layer + "cross_attention."),
        rename(cross + "norm.*", layer + "cross_attention_norm.*"),
        *packed_attention_rules(itself + "self_attn.", layer + "self_attention."),
        rename(itself + "norm.*", layer + "self_attention_norm.*"),
        *_feed_forward_rules(feed_forward, layer),
        rename(feed_forward + "norm.*", layer + "feed_forward_norm.*"),
        rename(queries + "decoder_norm.*", our_queries + "norm.*"),
        rename(queries + "query_feat.weight", our_queries + "query_features"),
        rename(queries + "query_embed.weight", our_queries + "query_positions"),
        rename(queries + "level_embed.weight", our_queries + "level_embed"),
        rename(queries + "class_embed.*", our_queries + "class_predictor.*"),
        # The file counts the layers, our nn.Sequential the activations between them, too.
        *(
            rename(f"{queries}mask_embed.layers.{index}.*", f"{our_queries}mask_embedder.{2 * index}.*")
            for index in range(3)
        ),
    )


def _feed_forward_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rename(theirs + "linear1.*", ours + "feed_forward.expand.*"),
        rename(theirs + "linear2.*", ours + "feed_forward.contract.*"),
    )
