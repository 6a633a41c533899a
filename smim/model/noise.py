"""Random numbers that depend only on (seed, sentence, draw), not on the process or the batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from smim.errors import check_seed

_STREAMS = {"latent": 0, "decoding": 1}


def normal(seed: int, sentences: Sequence[int] | np.ndarray | Tensor, draw: int, size: int) -> Tensor:
    """Draw standard normal noise, fp32 [B, size], for the `draw`-th latent sample of each sentence."""
    rows = [_generator("latent", seed, i, draw).standard_normal(size, dtype=np.float32) for i in sentences]
    return _stack(rows, size)


def uniform(seed: int, sentences: Sequence[int] | np.ndarray | Tensor, draw: int, size: int) -> Tensor:
    """Draw uniform numbers in [0, 1), fp32 [B, size], one for each token of the `draw`-th decoding."""
    return _stack([_generator("decoding", seed, i, draw).random(size, dtype=np.float32) for i in sentences], size)


def _generator(stream: str, seed: int, sentence: int | Tensor, draw: int) -> np.random.Generator:
    check_seed(seed)
    key = [(seed << 1) + _STREAMS[stream], (int(sentence) << 20) + draw]
    return np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))


def _stack(rows: list[np.ndarray], size: int) -> Tensor:
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, size, dtype=torch.float32)
