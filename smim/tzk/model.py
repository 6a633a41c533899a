"""The user's view of TzK: sample sentences with a label, classify sentences, and rank sentences by labels.

Shapes: N sentences or codes, T dimensions of a code, L labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from smim import generation
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model.directory import find
from smim.search.latents import Latents
from smim.text.corpus import Corpus
from smim.tzk import directory as files
from smim.tzk.args import FitArgs, KnowledgeArgs, PriorArgs
from smim.tzk.codes import Codes
from smim.tzk.knowledge import Knowledge
from smim.tzk.labelled import LabelledPrior, Ranked, fit_to, nll
from smim.tzk.prior import CodePrior


class TzK(LabelledPrior):
    """The prior p(t) of a sentence model's codes, and the labels added to it. Open one with `open_tzk`.

    Labels are written `column=value`, as in the corpus of their training. All draws depend only on the seed.
    """

    def __init__(self, directory: Path, model: SentenceModel, card: files.PriorCard, prior: CodePrior) -> None:
        super().__init__(directory, card, prior)
        self.model = model

    def add(
        self,
        corpus: Corpus,
        label: str,
        *,
        split: str = "train",
        latents: Latents | None = None,
        args: KnowledgeArgs | None = None,
        fit: FitArgs | None = None,
    ) -> Knowledge:
        """Learn a label from the rows of a split with and without it, and save it.

            tzk.add(Corpus.open("data/yelp"), "stars=5")

        The prior and other labels do not change. A label of the same name is replaced. `latents`: the split's codes
        with log variances, which saves the encoding. Raises `UserError` for an unknown column, fewer than ten rows with
        or without the label, and a corpus with another tokenizer than the model's.
        """
        return self._learn(Codes(self.model, corpus, split, latents), label, args, fit)

    def check(self, corpus: Corpus, labels: Sequence[str], *, split: str = "train") -> None:
        """Raise the `UserError` of `add` if one of `labels` cannot be learned from a split."""
        self._check(Codes(self.model, corpus, split), labels)

    def sample(
        self, num: int = 5, labels: Sequence[str] = (), *, seed: int = 0, gibbs_steps: int | None = None
    ) -> list[str]:
        """Decode sentences from codes of `sample_codes`, as literally as the model's own samples."""
        codes = self.sample_codes(num, labels, seed=seed, gibbs_steps=gibbs_steps)
        return self.model.decode(codes, literal=self.model.use.literal.sample, seed=seed)

    def classify(self, texts: Sequence[str], labels: Sequence[str] | None = None) -> np.ndarray:
        """Compute p(e = 1|t) at each sentence's mean code for each of `labels`, by default all: fp32 [N, L].

        Labels are independent, so the probabilities of mutually exclusive values need not sum to one.
        """
        labels = self.asked(labels)
        if not len(texts):
            raise UserError("no sentences were given; give at least one")
        codes = self.model.encode(texts, allow_unknown=False)
        return torch.sigmoid(self.log_odds(codes, labels)).numpy()

    def rank(
        self, corpus: Corpus, labels: Sequence[str], k: int = 10, *, split: str = "test", latents: Latents | None = None
    ) -> list[Ranked]:
        """Find the `k` rows of a split with the highest probability of all `labels`, highest first.

        The probability is the product of p(e = 1|t) over the labels at the sentence's mean code.
        """
        codes = Codes(self.model, corpus, split, latents)
        return self._rank(len(codes.split), codes.mean, labels, k, f"{corpus.name} {split}")

    def interpolate(self, texts: Sequence[str], num: int = 5) -> list[list[str]]:
        """Decode a grid of `num` rows of `num` sentences between four, linear in z of the t-flow (section 8.4.3).

        `texts`: the sentences above left, above right, below left and below right.
        """
        grid = self.interpolate_codes(self.model.encode(texts, allow_unknown=False), num)
        decoded = self.model.decode(grid.flatten(0, 1))
        return [decoded[start : start + num] for start in range(0, num * num, num)]


def fit_tzk(
    model: SentenceModel,
    corpus: Corpus,
    output: Path | str,
    *,
    model_dir: Path | str,
    split: str = "train",
    latents: Latents | None = None,
    args: PriorArgs | None = None,
    fit: FitArgs | None = None,
    labels: Sequence[str] = (),
    knowledge: KnowledgeArgs | None = None,
) -> TzK:
    """Learn p(t) of the codes of a split and save it as `output`, which is replaced.

    With `labels`, of the settings `knowledge`, p(t) and the labels are learned jointly. Otherwise p(t) is learned
    without labels. `model_dir`: where `open_tzk` will find the model. `latents`: the split's codes with log variances,
    which saves the encoding. Raises `UserError` for a corpus with another tokenizer, an unknown split, latents of
    something else, or an `output` with other content.
    """
    fit_to(
        Codes(model, corpus, split, latents),
        Path(output),
        args=args or PriorArgs(),
        fit=fit or FitArgs(),
        labels=labels,
        knowledge=knowledge,
        measured=nll,
        model=str(find(model_dir).resolve()),
        model_hash=model.hash,
    )
    return open_tzk(output, model=model)


def open_tzk(directory: Path | str, *, model: SentenceModel | None = None) -> TzK:
    """Open a directory of `fit_tzk`, with the model that it names unless `model` is given.

    Raises `UserError` if it is missing or damaged, if the model has moved, or if the model is not the one whose codes
    were used for training.
    """
    directory = Path(directory)
    card, prior = files.load_prior(directory)
    if model is None:
        try:
            model = generation.load(card.model)
        except UserError as error:
            raise UserError(
                f"the model of {directory} cannot be loaded: {error}; give its directory "
                "with `--model DIR` (in Python `model=smim.load(DIR)`)"
            ) from None
    if model.hash != card.model_hash:
        raise UserError(
            f"{directory} was learned from the codes of another model, the one that was at {card.model}; "
            "give that model, or fit it again with this one"
        )
    return TzK(directory, model, card, prior)
