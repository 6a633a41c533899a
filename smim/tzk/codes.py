"""The posteriors q(z|x) of a corpus's sentences: read from latents that `smim encode` wrote, or encoded.

Shapes: N sentences, T dimensions of a code.
"""

import numpy as np
import torch
from torch import Tensor

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model.distributions import DiagonalGaussian
from smim.progress import track
from smim.search.build import check_latents
from smim.search.latents import Latents
from smim.text.corpus import Corpus, Split

_ROWS_AT_ONCE = 4096


class Codes:
    """The posteriors of one split's sentences by one model."""

    unit = "sentences"
    most_held_out: int | None = None

    def __init__(self, model: SentenceModel, corpus: Corpus, split: str, latents: Latents | None = None) -> None:
        """Raise `UserError` for a corpus with another tokenizer, an unknown split, or latents of something else."""
        if corpus.tokenizer.hash != model.tokenizer.hash:
            raise UserError(
                f"corpus {corpus.directory} was prepared with another tokenizer than the model's; "
                "prepare it with corpus.tokenizer.dir=MODEL/tokenizer"
            )
        self.split: Split = corpus.split(split)
        if latents is not None:
            check_latents(latents, model, corpus, split)
        self.corpus, self.model, self.latents = corpus, model, latents

    @property
    def name(self) -> str:
        return self.corpus.name

    @property
    def described(self) -> dict[str, str]:
        """The description of the codes for a card."""
        name = self.split.name
        return {"corpus": self.corpus.name, "split": name, "corpus_hash": self.corpus.hash_of(name)}

    def mean(self, rows: np.ndarray) -> Tensor:
        """The means of q(z|x) of the given rows in their order, fp32 [N, T]."""
        if self.latents is None:
            return self.model.posterior_of_ids(self.split.ids(rows)).mean
        return torch.from_numpy(self.latents.mean(rows))

    def posterior(self, rows: np.ndarray) -> DiagonalGaussian:
        """Compute q(z|x) of the given rows in their order, fp32 [N, T]; a point if the model is deterministic."""
        name = f"{'encoding' if self.latents is None else 'reading'} {self.corpus.name} {self.split.name}"
        parts = [self._posterior(part) for part in track(chunks(rows), name)]
        return DiagonalGaussian(
            mean=torch.cat([part.mean for part in parts]), log_variance=torch.cat([part.log_variance for part in parts])
        )

    def _posterior(self, rows: np.ndarray) -> DiagonalGaussian:
        if self.model.deterministic:
            mean = self.mean(rows)
            return DiagonalGaussian(mean, torch.full_like(mean, -torch.inf))
        if self.latents is None:
            return self.model.posterior_of_ids(self.split.ids(rows))
        return DiagonalGaussian(self.mean(rows), torch.from_numpy(self.latents.log_variance(rows)))


def chunks(rows: np.ndarray) -> list[np.ndarray]:
    """Split row numbers into parts that are encoded or read at a time."""
    return np.split(rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE))


def some_rows(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Choose at most `most` random rows, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
