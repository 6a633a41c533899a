"""The user's view of a trained model of vectors: vectors to codes and back.

Shapes: N vectors, X their dimensions, D latent dimensions.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smim.arrays import as_matrix
from smim.errors import check_whole
from smim.generation import TrainedModel
from smim.model.directory import hash_of, load_model
from smim.model.distributions import DiagonalGaussian
from smim.model.mlp import VectorAutoencoder
from smim.vectors.batch import VectorBatch


def load(directory: Path | str) -> "VectorModel":
    """Load a trained model of vectors, on the CPU.

        model = smim.vector_model.load("runs/gmm_mim_2/model")

    Raises `UserError` if the directory is not such a model or is damaged.
    """
    autoencoder, _, config = load_model(directory, "vector")
    return VectorModel(autoencoder, config, hash=hash_of(directory))


class VectorModel(TrainedModel):
    """Encodes vectors into codes and decodes codes into vectors, in fp32. `hash` identifies the model."""

    def __init__(self, autoencoder: VectorAutoencoder, config: dict[str, Any], *, hash: str) -> None:
        self.autoencoder, self.config, self.hash = autoencoder, config, hash

    @torch.no_grad()
    def posterior(self, vectors: np.ndarray | Tensor) -> DiagonalGaussian:
        """q(z|x) of each vector [N, X]: mean and log variance, fp32 [N, D] each."""
        given = torch.from_numpy(as_matrix(vectors, self.autoencoder.input_size, "vectors"))
        return self.autoencoder.posterior(VectorBatch(torch.arange(len(given)), given))

    def encode(self, vectors: np.ndarray | Tensor) -> np.ndarray:
        """The mean of q(z|x) for each vector [N, X], fp32 [N, D]."""
        return self.posterior(vectors).mean.numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """E[x|z] for each code [N, D], fp32 [N, X]."""
        return self.autoencoder.mean(self.checked_codes(codes)).numpy()

    @torch.no_grad()
    def sample(self, num: int = 5, *, seed: int = 0) -> np.ndarray:
        """Draw x ~ p(x|z), z ~ p(z), fp32 [num, X]."""
        check_whole("num", num)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.autoencoder.sample(self.autoencoder.prior.sample(num)).vectors.numpy()

    @torch.no_grad()
    def markov_chain(self, codes: np.ndarray | Tensor, *, steps: int = 10, seed: int = 0) -> np.ndarray:
        """For each code [N, D], the vectors of the chain x ~ p(x|z), z ~ q(z|x), and so on, fp32 [N, steps, X].

        It samples a probabilistic autoencoder (eq. 3 of InfoVAE, Zhao et al. 2017): see `SentenceModel.markov_chain`.
        """
        check_whole("steps", steps)
        z, chain = self.checked_codes(codes), []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for _ in range(steps):
                drawn = self.autoencoder.sample(z)
                posterior = self.autoencoder.posterior(drawn)
                z = posterior.mean if self.deterministic else posterior.sample()
                chain.append(drawn.vectors)
        return torch.stack(chain, 1).numpy()
