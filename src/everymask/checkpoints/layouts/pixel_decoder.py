"""The layout of Mask2Former's pixel decoder, which has the same names in OneFormer."""

from everymask.checkpoints.layouts.parts import feed_forward_rules
from everymask.checkpoints.layouts.rules import Rule, rename


def pixel_decoder_rules() -> tuple[Rule, ...]:
    """The rules of a pixel decoder that our network calls ``pixel_decoder``."""
    theirs, ours = "model.pixel_level_module.decoder.", "pixel_decoder."
    layer, our_layer = theirs + "encoder.layers.#.", ours + "layers.#."
    return (
        rename(theirs + "level_embed", ours + "level_embed"),
        rename(theirs + "input_projections.#.#.*", ours + "input_projections.#.#.*"),
        rename(layer + "self_attn.sampling_offsets.*", our_layer + "attention.sampling_offsets.*"),
        rename(layer + "self_attn.attention_weights.*", our_layer + "attention.attention_weights.*"),
        rename(layer + "self_attn.value_proj.*", our_layer + "attention.value.*"),
        rename(layer + "self_attn.output_proj.*", our_layer + "attention.output.*"),
        rename(layer + "self_attn_layer_norm.*", our_layer + "attention_norm.*"),
        *feed_forward_rules(layer, our_layer),
        rename(theirs + "adapter_1.#.*", ours + "lateral.#.*"),
        rename(theirs + "layer_1.#.*", ours + "fuse.#.*"),
        rename(theirs + "mask_projection.*", ours + "mask_projection.*"),
    )
