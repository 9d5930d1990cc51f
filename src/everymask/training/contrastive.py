"""The query-text contrastive loss (OneFormer, section 3.3, equation 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from everymask.training.processes import gathered


def contrastive_loss(queries: Tensor, text_queries: Tensor, logit_scale: Tensor) -> Tensor:
    """How badly the B images of a batch and their texts find each other; a scalar, the sum of both directions.

    ``queries`` (B, Q, dim): the network's queries before its decoder (``TaskQueries.queries``). ``text_queries``
    (B, Q, dim): those its text mapper makes from the images' texts. ``logit_scale``: a scalar, the logarithm of the
    factor that multiplies the similarities, which is 100 at most. As published the loss counts 0.5 beside the others.
    Of several processes, whose batches have one size, each gets the loss of their common batch.
    """
    images = gathered(F.normalize(queries.float().flatten(1), dim=-1))  # (B, Q dim)
    texts = gathered(F.normalize(text_queries.float().flatten(1), dim=-1))
    logits = images @ texts.T * logit_scale.float().exp().clamp(max=100)  # (B, B)
    pairs = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)
