"""Which queries decoding will read: known from their classes, before any mask is made."""

from collections.abc import Callable

from torch import Tensor

from everymask.decoding.options import DecodingOptions
from everymask.errors import CheckpointError
from everymask.labels import LabelSet


def class_probabilities(class_logits: Tensor, labels: LabelSet) -> Tensor:
    """The probabilities of the label set's classes, "no object" last: (..., C + 1) -> (..., classes + 1), float32.

    Indices that are no class are left out; what little probability they have goes to no other class.
    Raises CheckpointError when the logits have another number of classes than the label set.
    """
    if class_logits.shape[-1] != len(labels) + 1:
        raise CheckpointError(
            f"the network tells {class_logits.shape[-1] - 1} classes apart but the label set names {len(labels)}: "
            "use the label set that belongs to the checkpoint"
        )
    probabilities = class_logits.detach().float().softmax(-1)
    return probabilities[..., [*labels.classes, len(labels)]] if labels.holes else probabilities


def relevant_queries(options: DecodingOptions, labels: LabelSet) -> Callable[[Tensor], Tensor] | None:
    """From class logits (B, Q, C + 1) to the queries whose masks change the result, (B, Q) bool.

    None where every mask does: in a semantic segmentation, which sums over all queries. A query whose score is exactly
    the threshold may be among them, too.
    """
    if options.task == "semantic":
        return None

    def panoptic(class_logits: Tensor) -> Tensor:
        probabilities = class_probabilities(class_logits, labels)
        score = probabilities[..., :-1].amax(-1)
        return (score >= probabilities[..., -1]) & (score >= options.threshold)

    def instance(class_logits: Tensor) -> Tensor:
        probabilities = class_probabilities(class_logits, labels)
        things = [place for place, index in enumerate(labels.classes) if labels.things[index]]
        return (probabilities[..., things] >= options.threshold).any(-1)

    return panoptic if options.task == "panoptic" else instance
