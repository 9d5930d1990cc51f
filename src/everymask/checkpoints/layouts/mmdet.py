"""Mask2Former as mmdet names it: its head, on whatever backbone, and its Swin."""

from everymask.checkpoints.layouts.parts import packed_attention_rules
from everymask.checkpoints.layouts.rules import Rule, rename, unfold


def head_rules(head: str) -> tuple[Rule, ...]:
    """The pixel decoder and the decoder of queries. ``head``, the prefix of both, ends with a dot."""
    pixels, ours = head + "pixel_decoder.", "pixel_decoder."
    encoder, our_encoder = pixels + "encoder.layers.#.", ours + "layers.#."
    queries, our_queries = head + "transformer_decoder.", "query_decoder."
    decoder, our_decoder = queries + "layers.#.", our_queries + "layers.#."
    convolutions = (
        ("input_convs.#.", "input_projections.#."),
        ("lateral_convs.0.", "lateral."),
        ("output_convs.0.", "fuse."),
    )
    return (
        *(rename(pixels + name + "conv.*", ours + our_name + "0.*") for name, our_name in convolutions),
        *(rename(pixels + name + "gn.*", ours + our_name + "1.*") for name, our_name in convolutions),
        rename(pixels + "level_encoding.weight", ours + "level_embed"),
        rename(pixels + "mask_feature.*", ours + "mask_projection.*"),
        *deformable_attention_rules(encoder + "attentions.0.", our_encoder + "attention."),
        rename(encoder + "norms.0.*", our_encoder + "attention_norm.*"),
        *_feed_forward_rules(encoder, our_encoder),
        rename(encoder + "norms.1.*", our_encoder + "feed_forward_norm.*"),
        rename(head + "decoder_input_projs.#.*", our_queries + "input_projections.#.*"),
        *packed_attention_rules(decoder + "attentions.0.attn.", our_decoder + "cross_attention."),
        rename(decoder + "norms.0.*", our_decoder + "cross_attention_norm.*"),
        *packed_attention_rules(decoder + "attentions.1.attn.", our_decoder + "self_attention."),
        rename(decoder + "norms.1.*", our_decoder + "self_attention_norm.*"),
        *_feed_forward_rules(decoder, our_decoder),
        rename(decoder + "norms.2.*", our_decoder + "feed_forward_norm.*"),
        rename(queries + "post_norm.*", our_queries + "norm.*"),
        rename(head + "query_feat.weight", our_queries + "query_features"),
        rename(head + "query_embed.weight", our_queries + "query_positions"),
        rename(head + "level_embed.weight", our_queries + "level_embed"),
        rename(head + "cls_embed.*", our_queries + "class_predictor.*"),
        rename(head + "mask_embed.#.*", our_queries + "mask_embedder.#.*"),
    )


def deformable_attention_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Deformable attention, as mmcv and Deformable DETR name it. Both prefixes end with a dot."""
    return (
        rename(theirs + "sampling_offsets.*", ours + "sampling_offsets.*"),
        rename(theirs + "attention_weights.*", ours + "attention_weights.*"),
        rename(theirs + "value_proj.*", ours + "value.*"),
        rename(theirs + "output_proj.*", ours + "output.*"),
    )


def swin_rules(prefix: str) -> tuple[Rule, ...]:
    """Swin. ``prefix`` ends with a dot."""
    block, ours = prefix + "stages.#.blocks.#.", "backbone.stages.#.#."
    attention, our_attention = block + "attn.w_msa.", ours + "attention."
    merging, our_merging = prefix + "stages.#.downsample.", "backbone.mergings.#."
    return (
        rename(prefix + "patch_embed.projection.*", "backbone.patch_embedding.*"),
        rename(prefix + "patch_embed.norm.*", "backbone.patch_norm.*"),
        rename(block + "norm1.*", ours + "attention_norm.*"),
        rename(attention + "relative_position_bias_table", our_attention + "relative_position_bias"),
        rename(attention + "qkv.*", our_attention + "qkv.*"),
        rename(attention + "proj.*", our_attention + "output.*"),
        rename(block + "norm2.*", ours + "feed_forward_norm.*"),
        *_feed_forward_rules(block, ours, "ffn."),
        # Neighbours are gathered by nn.Unfold there.
        unfold(merging + "reduction.weight", our_merging + "reduction.weight"),
        unfold(merging + "norm.*", our_merging + "norm.*"),
        *(rename(f"{prefix}norm{stage}.*", f"backbone.norms.{stage}.*") for stage in range(4)),
    )


def _feed_forward_rules(theirs: str, ours: str, name: str = "ffns.0.") -> tuple[Rule, ...]:
    return (
        rename(theirs + name + "layers.0.0.*", ours + "feed_forward.expand.*"),
        rename(theirs + name + "layers.1.*", ours + "feed_forward.contract.*"),
    )
