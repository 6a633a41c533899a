"""log p(token) from hidden states, on real tokens only, without the logits of a whole batch in memory.

Shapes: N tokens, H hidden, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Logits that are held at once: 4096 tokens are 160 MB in fp32 at PTB's vocabulary.
_TOKENS_PER_CHUNK = 4096


def token_log_prob(hidden_NH: Tensor, target_N: Tensor, projection: nn.Linear) -> Tensor:
    """log p of each target token in nats, fp32 [N]; chunks are recomputed in the backward pass."""
    if len(target_N) <= _TOKENS_PER_CHUNK:
        return _chunk_log_prob(hidden_NH, target_N, projection.weight, projection.bias)
    chunks = zip(hidden_NH.split(_TOKENS_PER_CHUNK), target_N.split(_TOKENS_PER_CHUNK), strict=True)
    return torch.cat(
        [
            checkpoint(_chunk_log_prob, hidden, target, projection.weight, projection.bias, use_reentrant=False)
            for hidden, target in chunks
        ]
    )


def _chunk_log_prob(hidden_NH: Tensor, target_N: Tensor, weight_VH: Tensor, bias_V: Tensor) -> Tensor:
    # Autocast keeps the matrix product in bf16 and lifts the cross-entropy to fp32.
    return -F.cross_entropy(F.linear(hidden_NH, weight_VH, bias_V).float(), target_N, reduction="none")
