"""A model whose likelihood is exact: one latent dimension, words drawn independently given z.

p(w|z) = softmax over the vocabulary of (slope_w z + offset_w), the end of a sentence being a word too, and
q(z|x) a Gaussian by the sentence's first word. Integrals over z are sums over a fine grid.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from smim.model.autoencoder import TokenLogProb
from smim.model.distributions import DiagonalGaussian
from smim.model.priors import Prior, StandardNormal
from smim.text.batch import Batch
from smim.text.tokenizer import EOS_ID, PAD_ID
from tests.models import sentence_args

GRID = np.linspace(-9, 9, 20001)
STEP = GRID[1] - GRID[0]


@dataclass(frozen=True)
class Exact:
    """Integrals for sentences of token ids, in nats: of the words, and with `<eos>`."""

    model: "TabularModel"

    def log_joint(self, ids: list[int], *, eos: bool) -> np.ndarray:
        """log p(x|z) on the grid."""
        z = torch.as_tensor(GRID)
        log_prob = torch.log_softmax(z[:, None] * self.model.slope.double() + self.model.offset.double(), -1)
        return log_prob[:, [*ids, *([EOS_ID] if eos else [])]].sum(-1).numpy()

    def nll(self, ids: list[int], *, eos: bool = False, prior: np.ndarray | None = None) -> float:
        """-log p(x), under N(0, 1) or another prior's log density on the grid."""
        log_prior = -0.5 * (GRID**2 + math.log(2 * math.pi)) if prior is None else prior
        return -float(np.logaddexp.reduce(self.log_joint(ids, eos=eos) + log_prior) + math.log(STEP))

    def reconstruction(self, ids: list[int], *, eos: bool = False) -> float:
        """E_q[-log p(x|z)]."""
        return -float((np.exp(self.log_posterior(ids)) * self.log_joint(ids, eos=eos)).sum() * STEP)

    def log_posterior(self, ids: list[int]) -> np.ndarray:
        """log q(z|x) on the grid."""
        mean, log_variance = (table[ids[0]].item() for table in (self.model.mean, self.model.log_variance))
        return -0.5 * ((GRID - mean) ** 2 / math.exp(log_variance) + log_variance + math.log(2 * math.pi))

    def kl(self, ids: list[int], log_prior: np.ndarray) -> float:
        """KL(q(z|x) || prior)."""
        log_q = self.log_posterior(ids)
        return float((np.exp(log_q) * (log_q - log_prior)).sum() * STEP)


class TabularModel(nn.Module):
    """The part of `SentenceAutoencoder` that bounds are made of, over tables."""

    def __init__(self, vocabulary_size: int, *, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.args = sentence_args(latent_dim=1)
        self.prior: Prior = StandardNormal(1)
        self.slope, self.offset, self.mean = (torch.randn(vocabulary_size, generator=random) for _ in range(3))
        # Wider than the exact posteriors: importance weights are bounded, and their means settle.
        self.log_variance = 0.5 * torch.rand(vocabulary_size, generator=random)
        self.device = torch.device("cpu")

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        first = batch.tokens[:, 0]
        return DiagonalGaussian(self.mean[first][:, None], self.log_variance[first][:, None])

    def log_prob(self, batch: Batch, z_BD: Tensor) -> TokenLogProb:
        log_prob_BV = torch.log_softmax(z_BD * self.slope + self.offset, -1)
        target_BT = nn.functional.pad(batch.tokens, (0, 1), value=PAD_ID).scatter(1, batch.lengths[:, None], EOS_ID)
        return TokenLogProb(log_prob_BV.gather(1, target_BT) * (target_BT != PAD_ID), batch.lengths)
