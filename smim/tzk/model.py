"""TzK as users see it: sentences of a label, what labels a sentence has, and the sentences that have one most.

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
    """A row of a split, and the probability that all labels asked for hold for its sentence."""

    row: int
    probability: float


class TzK:
    """p(t) of a sentence model's codes and the labels that were added to it; opened with `open_tzk`.

    Labels are written `column=value`, as in the corpus that they were learned from. What is drawn is a function of the
    seed.
    """

    def __init__(self, directory: Path, model: SentenceModel, card: files.PriorCard, prior: CodePrior) -> None:
        self.directory, self.model, self.card, self.prior = directory, model, card, prior
        self._knowledge: dict[Label, Knowledge] = {}

    @property
    def labels(self) -> list[str]:
        """The labels that are on disk now."""
        return [str(label) for label in files.labels_in(self.directory)]

    def knowledge(self, label: str) -> Knowledge:
        """The knowledge type of a label; raises `UserError` where it was not added, or is damaged."""
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
        """Learns a label from the rows of a split that have it and those that do not, and saves it.

            tzk.add(Corpus.open("data/yelp"), "stars=5")

        The prior and the other labels stay as they are; a label of the same name is replaced. `latents`: the split's
        codes with log variances, which are then not encoded. Raises `UserError` for an unknown column, a value of fewer
        than ten rows or all but so few, and a corpus of another tokenizer than the model's.
        """
        args, fit = args or KnowledgeArgs(), fit or FitArgs()
        wanted = Label.parse(label)
        codes = Codes(self.model, corpus, split, latents)
        rows = labelled_rows(codes.split, wanted)
        if min(len(rows.present), len(rows.absent)) < _FEWEST:
            raise UserError(
                f"{len(rows.present):,} sentences of {corpus.name} {split} have {label}, {len(rows.absent):,} do not; "
                f"at least {_FEWEST} of each are needed"
            )
        # The place is made before the long work, which an unwritable one would waste.
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
        """log density of codes [N, T] in nats [N]: log p(t), or log p(t|e = 1) of a label, estimated from 32 draws."""
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
        """log p(e = 1|t) / p(e = 0|t) of each label for codes [N, T], in nats [N, L]."""
        t = self.prior.standardization.standardize(torch.from_numpy(as_matrix(codes, self.prior.dim, "codes")))
        return torch.stack([self.knowledge(label).log_odds(t) for label in labels], -1)

    def sample_codes(self, num: int, labels: Sequence[str] = (), *, seed: int = 0) -> Tensor:
        """`num` codes of which all `labels` hold, fp32 [num, T]; without labels, of p(t).

        Of several labels it is what `smim.tzk.product.sample_product` draws, with the limits that it names.
        """
        if num < 1:
            raise UserError(f"num is {num}, it must be at least 1")
        generator = torch.Generator().manual_seed(seed)
        if not labels:
            return self.prior.sample(num, generator=generator)
        knowledge = [self.knowledge(label) for label in dict.fromkeys(labels)]
        return sample_product(self.prior, knowledge, num, generator=generator)

    def sample(self, num: int = 5, labels: Sequence[str] = (), *, seed: int = 0) -> list[str]:
        """Sentences decoded from codes that `sample_codes` draws, as literally as the model's own samples."""
        literal = self.model.use.literal.sample
        return self.model.decode(self.sample_codes(num, labels, seed=seed), literal=literal, seed=seed)

    def classify(self, texts: Sequence[str], labels: Sequence[str] | None = None) -> np.ndarray:
        """p(e = 1|t) at the mean code of each sentence for each of `labels`, by default all: fp32 [N, L].

        Labels are judged one by one: the probabilities of values that exclude each other need not add up to one.
        """
        if not (labels := labels or self.labels):
            raise UserError(f"{self.directory} has no labels; add one with `smim tzk add {self.directory} CORPUS`")
        codes = self.model.encode(texts, allow_unknown=False)
        return torch.sigmoid(self.log_odds(codes, labels)).numpy()

    def rank(
        self, corpus: Corpus, labels: Sequence[str], k: int = 10, *, split: str = "test", latents: Latents | None = None
    ) -> list[Ranked]:
        """The `k` rows of a split for which all `labels` hold with the highest probability, highest first.

        It is the product of p(e = 1|t) over the labels at the sentence's mean code.
        """
        if k < 1 or not labels:
            raise UserError(f"k is {k}, labels {list(labels)}; k must be at least 1, and a label is needed")
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
    """Learns p(t) of the codes of a split, without labels, and saves it in the place of `output`.

    `model_dir` is where `open_tzk` will find the model. `latents`: the split's codes with log variances, which are then
    not encoded. Raises `UserError` for a corpus of another tokenizer, an unknown split, latents of something else, and
    an `output` that holds something else.
    """
    args, fit, output = args or PriorArgs(), fit or FitArgs(), Path(output)
    if output.exists() and not (output / files.CARD).is_file():
        raise UserError(f"{output} exists and holds no TzK; give another place, so that it is not lost")
    codes = Codes(model, corpus, split, latents)
    if len(codes.split) < 2 * _FEWEST:
        raise UserError(f"{corpus.name} {split} has {len(codes.split)} sentences; at least {2 * _FEWEST} are needed")
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
        # In nats a dimension: of the prior, and of a Gaussian of the same mean and covariance as train.
        nll = {name: nll_per_dimension(log_prob, prior.dim)[0] for name, log_prob in log_probs.items()}
        training = {**codes.described, "sentences": len(rows), "fit": asdict(fit), **nll}
        files.save_prior(partial, prior, model=find(model_dir), model_hash=model.hash, training=training)
    return open_tzk(output, model=model)


def open_tzk(directory: Path | str, *, model: SentenceModel | None = None) -> TzK:
    """Opens what `fit_tzk` saved, with the model that it names unless `model` is given.

    Raises `UserError` where it is missing or damaged, where the model is no longer where it was, and for another model
    than the one whose codes it was learned from.
    """
    directory = Path(directory)
    card, prior = files.load_prior(directory)
    if model is None:
        try:
            model = generation.load(card.model)
        except UserError as error:
            raise UserError(
                f"the model of {directory} cannot be loaded: {error}; say where it is now "
                "with `--model DIR` (in Python `model=smim.load(DIR)`)"
            ) from None
    if model.hash != card.model_hash:
        raise UserError(
            f"{directory} was learned from the codes of another model, the one that was at {card.model}; "
            "give that model, or fit it again with this one"
        )
    return TzK(directory, model, card, prior)
