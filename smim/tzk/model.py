"""The user's view of TzK: sample sentences with a label, classify sentences, and rank sentences by labels.

Shapes: N sentences or codes, T dimensions of a code, L labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smim import generation, storage
from smim.arrays import as_matrix
from smim.errors import UserError, nearest
from smim.generation import SentenceModel
from smim.lock import own_place
from smim.model.directory import find
from smim.progress import track
from smim.search.latents import Latents
from smim.text.corpus import Corpus
from smim.tzk import directory as files
from smim.tzk.codes import Codes, chunks, some_rows
from smim.tzk.knowledge import Knowledge, KnowledgeArgs
from smim.tzk.labels import Label, labelled_rows
from smim.tzk.prior import CodePrior, PriorArgs, nll_per_dimension
from smim.tzk.product import sample_product
from smim.tzk.training import FitArgs, draw, fit_knowledge, fit_prior, hold_out

_CODES_AT_ONCE = 512
_FEWEST = 10


@dataclass(frozen=True)
class Ranked:
    """A row of a split, and the probability that its sentence has all requested labels."""

    row: int
    probability: float


class TzK:
    """The prior p(t) of a sentence model's codes, and the labels added to it. Open one with `open_tzk`.

    Labels are written `column=value`, as in the corpus of their training. All draws depend only on the seed.
    """

    def __init__(self, directory: Path, model: SentenceModel, card: files.PriorCard, prior: CodePrior) -> None:
        self.directory, self.model, self.card, self.prior = directory, model, card, prior
        self._knowledge: dict[Label, Knowledge] = {}

    @property
    def labels(self) -> list[str]:
        """The labels that are currently on disk."""
        return [str(label) for label in files.labels_in(self.directory)]

    def knowledge(self, label: str) -> Knowledge:
        """Load the knowledge type of a label. Raises `UserError` if it was not added, or is damaged."""
        wanted = Label.parse(label)
        if wanted not in self._knowledge:
            if label not in self.labels:
                hint = nearest(label, self.labels) if self.labels else "it has none"
                raise UserError(
                    f"{self.directory} has no label {label}; {hint}; `smim tzk add` adds one, from a corpus that has it"
                )
            self._knowledge[wanted] = files.load_knowledge(self.directory, wanted, self.card)
        return self._knowledge[wanted]

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
        args, fit = args or KnowledgeArgs(), fit or FitArgs()
        wanted = Label.parse(label)
        codes = Codes(self.model, corpus, split, latents)
        rows = labelled_rows(codes.split, wanted)
        if min(len(rows.present), len(rows.absent)) < _FEWEST:
            raise UserError(
                f"{len(rows.present):,} sentences of {corpus.name} {split} have {label}, {len(rows.absent):,} do not; "
                f"give a corpus with at least {_FEWEST} of each"
            )
        # Create the directory before the long work, so that an unwritable one fails at once.
        place = files.label_directory(self.directory, wanted)
        with own_place(place), storage.new_directory(place) as partial:
            some = [some_rows(side, fit.max_sentences // 2, fit.seed) for side in (rows.absent, rows.present)]
            absent, present = (hold_out(codes.posterior(side), seed=fit.seed) for side in some)
            train, valid = zip(absent, present, strict=True)
            knowledge = fit_knowledge(
                self.prior, train, valid, frequency=rows.frequency, args=args, fit=fit, name=label
            )
            training = {**codes.described, "sentences": len(rows.present), "fit": asdict(fit)}
            files.save_knowledge(partial, wanted, knowledge, prior_sha256=self.card.weights_sha256, training=training)
        self._knowledge[wanted] = knowledge
        return knowledge

    @torch.no_grad()
    def log_prob(self, codes: np.ndarray | Tensor, label: str | None = None, *, seed: int = 0) -> Tensor:
        """Compute the log density of codes [N, T] in nats [N]: log p(t), or log p(t|e = 1) of a label from 32 draws."""
        generator = torch.Generator().manual_seed(seed)
        knowledge = None if label is None else self.knowledge(label)
        checked = torch.from_numpy(as_matrix(codes, self.prior.dim, "codes"))
        points = (self.prior.point(part) for part in checked.split(_CODES_AT_ONCE))
        return torch.cat(
            [
                point.log_prior if knowledge is None else knowledge.log_prob(point, generator=generator)
                for point in points
            ]
        )

    @torch.no_grad()
    def log_odds(self, codes: np.ndarray | Tensor, labels: Sequence[str]) -> Tensor:
        """Compute log p(e = 1|t) / p(e = 0|t) of each label for codes [N, T], in nats [N, L]."""
        t = self.prior.standardization.standardize(torch.from_numpy(as_matrix(codes, self.prior.dim, "codes")))
        return torch.stack([self.knowledge(label).log_odds(t) for label in labels], -1)

    def sample_codes(self, num: int, labels: Sequence[str] = (), *, seed: int = 0) -> Tensor:
        """Draw `num` codes with all `labels`, fp32 [num, T]; without labels, from p(t).

        For several labels it uses `smim.tzk.product.sample_product`, which describes its limits.
        """
        if num < 1:
            raise UserError(f"num is {num}, but it must be at least 1")
        generator = torch.Generator().manual_seed(seed)
        if not labels:
            return self.prior.sample(num, generator=generator)
        knowledge = [self.knowledge(label) for label in dict.fromkeys(labels)]
        return sample_product(self.prior, knowledge, num, generator=generator)

    def sample(self, num: int = 5, labels: Sequence[str] = (), *, seed: int = 0) -> list[str]:
        """Decode sentences from codes of `sample_codes`, as literally as the model's own samples."""
        literal = self.model.use.literal.sample
        return self.model.decode(self.sample_codes(num, labels, seed=seed), literal=literal, seed=seed)

    def classify(self, texts: Sequence[str], labels: Sequence[str] | None = None) -> np.ndarray:
        """Compute p(e = 1|t) at each sentence's mean code for each of `labels`, by default all: fp32 [N, L].

        Labels are independent, so the probabilities of mutually exclusive values need not sum to one.
        """
        if not (labels := labels or self.labels):
            raise UserError(f"{self.directory} has no labels; add one with `smim tzk add {self.directory} CORPUS`")
        codes = self.model.encode(texts, allow_unknown=False)
        return torch.sigmoid(self.log_odds(codes, labels)).numpy()

    def rank(
        self, corpus: Corpus, labels: Sequence[str], k: int = 10, *, split: str = "test", latents: Latents | None = None
    ) -> list[Ranked]:
        """Find the `k` rows of a split with the highest probability of all `labels`, highest first.

        The probability is the product of p(e = 1|t) over the labels at the sentence's mean code.
        """
        if k < 1 or not labels:
            raise UserError(f"k is {k} and labels is {list(labels)}; give a k of at least 1, and at least one label")
        codes = Codes(self.model, corpus, split, latents)
        parts = chunks(np.arange(len(codes.split)))
        log_probability = torch.cat(
            [
                F.logsigmoid(self.log_odds(codes.mean(part), labels)).sum(-1)
                for part in track(parts, f"ranking {corpus.name} {split}")
            ]
        )
        best = log_probability.topk(min(k, len(log_probability)))
        return [
            Ranked(row, value) for row, value in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
        ]


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
) -> TzK:
    """Learn p(t) of the codes of a split, without labels, and save it as `output`, which is replaced.

    `model_dir`: where `open_tzk` will find the model. `latents`: the split's codes with log variances, which saves the
    encoding. Raises `UserError` for a corpus with another tokenizer, an unknown split, latents of something else, or an
    `output` with other content.
    """
    args, fit, output = args or PriorArgs(), fit or FitArgs(), Path(output)
    if output.exists() and not (output / files.CARD).is_file():
        raise UserError(f"{output} exists and holds no TzK; give another output, so that nothing is overwritten")
    codes = Codes(model, corpus, split, latents)
    if len(codes.split) < 2 * _FEWEST:
        raise UserError(f"{corpus.name} {split} has {len(codes.split)} sentences; give at least {2 * _FEWEST}")
    rows = some_rows(np.arange(len(codes.split)), fit.max_sentences, fit.seed)
    with own_place(output), storage.new_directory(output) as partial:
        train, valid = hold_out(codes.posterior(rows), seed=fit.seed)
        prior = fit_prior(train, valid, args=args, fit=fit)
        held_out = draw(valid, torch.Generator().manual_seed(fit.seed))
        with torch.no_grad():
            log_probs = {
                "valid_nll": prior.log_prob(held_out),
                "valid_nll_gaussian": prior.standardization.log_prob(held_out),
            }
        # In nats per dimension: of the prior, and of a Gaussian with the mean and covariance of train.
        nll = {name: nll_per_dimension(log_prob, prior.dim)[0] for name, log_prob in log_probs.items()}
        training = {**codes.described, "sentences": len(rows), "fit": asdict(fit), **nll}
        files.save_prior(partial, prior, model=find(model_dir), model_hash=model.hash, training=training)
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
