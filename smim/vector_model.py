"""The user's view of a trained model of vectors: vectors to codes and back.

Shapes: N vectors, X their dimensions, D latent dimensions.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smim.arrays import as_matrix
from smim.errors import UserError, check_whole
from smim.generation import TrainedModel
from smim.model.directory import hash_of, load_model
from smim.model.distributions import Posterior, TwoLevelGaussian, concatenated
from smim.model.vectors import VectorLatentVariableModel
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

    def __init__(self, autoencoder: VectorLatentVariableModel, config: dict[str, Any], *, hash: str) -> None:
        self.autoencoder, self.config, self.hash = autoencoder, config, hash

    @torch.no_grad()
    def posterior(self, vectors: np.ndarray | Tensor) -> Posterior:
        """q(z|x) of each vector [N, X]: mean and log variance, fp32 [N, D] each."""
        given = torch.from_numpy(as_matrix(vectors, self.autoencoder.input_size, "vectors"))
        batches = self.autoencoder.in_blocks(VectorBatch, torch.arange(len(given)), given)
        posterior = concatenated([self.autoencoder.posterior(batch) for batch in batches])
        if isinstance(posterior, TwoLevelGaussian):
            # It computes q(z1|x, z2) later, again without a gradient.
            return replace(posterior, given_top=torch.no_grad()(posterior.given_top))
        return posterior

    def encode(self, vectors: np.ndarray | Tensor) -> np.ndarray:
        """The mean of q(z|x) for each vector [N, X], fp32 [N, D]."""
        return self.posterior(vectors).mean.numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray | Tensor, *, seed: int = 0) -> np.ndarray:
        """E[x|z] for each code [N, D], fp32 [N, X].

        A model of pixels (`model=pixel_hvae`) draws an image from each code by `seed`, and gives the mean of each pixel
        after the drawn pixels before it. So reconstructions of bits show probabilities (footnote 4 of section 4.3).
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.cat(self.autoencoder.in_blocks(self.autoencoder.mean, self.checked_codes(codes))).numpy()

    @torch.no_grad()
    def draw(self, codes: np.ndarray | Tensor, *, seed: int = 0) -> np.ndarray:
        """Draw x ~ p(x|z) for each code [N, D], fp32 [N, X]."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.cat(self.autoencoder.in_blocks(self.autoencoder.draw, self.checked_codes(codes))).numpy()

    @torch.no_grad()
    def log_likelihood(self, vectors: np.ndarray | Tensor, codes: np.ndarray | Tensor) -> np.ndarray:
        """log p(x|z) of each vector [N, X] for its code [N, D], in nats, fp64 [N]."""
        given = torch.from_numpy(as_matrix(vectors, self.autoencoder.input_size, "vectors"))
        z = self.checked_codes(codes)
        if len(z) != len(given):
            raise UserError(f"there are {len(given)} vectors, but {len(z)} codes; give one code for each vector")
        pairs = self.autoencoder.in_blocks(
            lambda rows, x, z: self.autoencoder.log_likelihood(VectorBatch(rows, x), z), torch.arange(len(z)), given, z
        )
        return torch.cat(pairs).double().numpy()

    @torch.no_grad()
    def sample(self, num: int = 5, *, seed: int = 0) -> np.ndarray:
        """Draw x ~ p(x|z), z ~ p(z), fp32 [num, X]."""
        check_whole("num", num)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            codes = self.autoencoder.prior.sample(num)
            return torch.cat(self.autoencoder.in_blocks(self.autoencoder.draw, codes)).numpy()

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
