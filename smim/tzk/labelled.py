"""A prior p(t) in a directory and the labels added to it: what sentences and images share.

Shapes: N observations (codes of sentences, or images), T their dimensions, L labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smim import storage
from smim.arrays import as_matrix
from smim.errors import UserError, check_seed, check_whole, nearest
from smim.lock import own_place
from smim.progress import track
from smim.text.corpus import Split
from smim.tzk import directory as files
from smim.tzk.args import FitArgs, KnowledgeArgs
from smim.tzk.codes import chunks, some_rows
from smim.tzk.knowledge import Knowledge
from smim.tzk.labels import Label, LabelledRows, labelled_rows
from smim.tzk.prior import CodePrior, at_once, nll_per_dimension
from smim.tzk.product import sample_gibbs, sample_product
from smim.tzk.training import LabelData, draw, fit_jointly, fit_knowledge, fit_prior, hold_out

_AT_ONCE = 512
FEWEST = 10


class Source(Protocol):
    """What labels and priors are learned from: `Codes` of sentences, or `Images`."""

    split: Split
    unit: str  # for messages and cards

    @property
    def most_held_out(self) -> int | None: ...

    @property
    def name(self) -> str: ...

    @property
    def described(self) -> dict[str, Any]: ...

    def posterior(self, rows: np.ndarray) -> Any: ...


@dataclass(frozen=True)
class Ranked:
    """A row of a split, and the probability that its sentence or image has all requested labels."""

    row: int
    probability: float


class LabelledPrior:
    """The prior p(t) and the labels added to it, the base of `TzK` and `ImageTzK`.

    Labels are written `column=value`, as in the corpus of their training. All draws depend only on the seed.
    """

    command, what = "smim tzk", "codes"  # for messages

    def __init__(self, directory: Path, card: files.PriorCard | files.ImageCard, prior: CodePrior) -> None:
        self.directory, self.card, self.prior = directory, card, prior
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
                    f"{self.directory} has no label {label}; {hint}; `{self.command} add` adds one, "
                    "from a corpus that has it"
                )
            self._knowledge[wanted] = files.load_knowledge(self.directory, wanted, self.card)
        return self._knowledge[wanted]

    def _learn(self, source: Source, label: str, args: KnowledgeArgs | None, fit: FitArgs | None) -> Knowledge:
        """Learn a label from the rows with and without it, with the prior fixed, and save it."""
        args, fit = args or KnowledgeArgs(), fit or FitArgs()
        wanted = Label.parse(label)
        rows = _rows(source, wanted)
        # Create the directory before the long work, so that an unwritable one fails at once.
        place = files.label_directory(self.directory, wanted)
        with own_place(place), storage.new_directory(place) as partial:
            data = _read(source, wanted, rows, fit)
            knowledge = fit_knowledge(
                self.prior, data.train, data.valid, frequency=data.frequency, args=args, fit=fit, name=label
            )
            training = {**source.described, source.unit: data.number, "fit": asdict(fit)}
            files.save_knowledge(partial, wanted, knowledge, prior_sha256=self.card.weights_sha256, training=training)
        self._knowledge[wanted] = knowledge
        return knowledge

    def _check(self, source: Source, labels: Sequence[str]) -> None:
        """Raise the errors of `_learn` for any of `labels`, without learning them."""
        for label in map(Label.parse, labels):
            _rows(source, label)
            files.label_directory(self.directory, label)

    @torch.no_grad()
    def log_prob(self, codes: np.ndarray | Tensor, label: str | None = None, *, seed: int = 0) -> Tensor:
        """Compute the log density of codes [N, T] in nats [N]: log p(t), or log p(t|e = 1) of a label from 32 draws."""
        if label is None:
            return torch.cat([self.prior.log_prob(part) for part in self._parts(codes)])
        return self._log_prob(codes, self.knowledge(label).log_prob, seed)

    @torch.no_grad()
    def log_prob_of_code(self, codes: np.ndarray | Tensor, label: str, *, seed: int = 0) -> Tensor:
        """Compute log p(t|e = 1, c) of codes [N, T] in nats [N], each at one draw c ~ p(c|e = 1, t) (section G.2.3).

        It is no density of t, because c is drawn from t.
        """
        return self._log_prob(codes, self.knowledge(label).log_prob_of_code, seed)

    def _log_prob(self, codes: np.ndarray | Tensor, density: Callable[..., Tensor], seed: int) -> Tensor:
        check_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([density(self.prior.point(part), generator=generator) for part in self._parts(codes)])

    @torch.no_grad()
    def log_odds(self, codes: np.ndarray | Tensor, labels: Sequence[str]) -> Tensor:
        """Compute log p(e = 1|t) / p(e = 0|t) of each label for codes [N, T], in nats [N, L]."""
        if not labels:
            raise UserError("no labels were given; give at least one")
        knowledge = [self.knowledge(label) for label in labels]
        parts = [self.prior.standardization.standardize(part) for part in self._parts(codes)]
        return torch.cat([torch.stack([each.log_odds(t) for each in knowledge], -1) for t in parts])

    def sample_codes(
        self, num: int, labels: Sequence[str] = (), *, seed: int = 0, gibbs_steps: int | None = None
    ) -> Tensor:
        """Draw `num` codes with all `labels`, fp32 [num, T]; without labels, from p(t).

        For several labels it uses `smim.tzk.product.sample_product`, which describes its limits. With `gibbs_steps`,
        draws move by that many steps of block Gibbs sampling instead (`smim.tzk.product.sample_gibbs`).
        """
        check_whole("num", num)
        check_seed(seed)
        if gibbs_steps is not None:
            check_whole("gibbs_steps", gibbs_steps)
            if not labels:
                raise UserError("gibbs_steps was given, but block Gibbs sampling needs a label; give at least one")
        generator = torch.Generator().manual_seed(seed)
        if not labels:
            return self.prior.sample(num, generator=generator)
        knowledge = [self.knowledge(label) for label in dict.fromkeys(labels)]
        if gibbs_steps is None:
            return sample_product(self.prior, knowledge, num, generator=generator)
        return sample_gibbs(self.prior, knowledge, num, num_steps=gibbs_steps, generator=generator)

    @torch.no_grad()
    def interpolate_codes(self, corners: np.ndarray | Tensor, num: int) -> Tensor:
        """Compute a grid of codes between four, linear in z = f_t^-1(t) (section 8.4.3), fp32 [num, num, T].

        `corners`: the codes [4, T] above left, above right, below left and below right.
        """
        check_whole("num", num, least=2)
        given = self._matrix(corners)
        if len(given) != 4:
            raise UserError(f"{len(given)} corners were given, but four are needed")
        weight = torch.linspace(0, 1, num)
        z_22T = self.prior.point(given).z.unflatten(0, (2, 2))
        sides_N2T = torch.lerp(z_22T[:1], z_22T[1:], weight[:, None, None])
        z_NNT = torch.lerp(sides_N2T[:, :1], sides_N2T[:, 1:], weight[None, :, None])
        return self.prior.standardization.restore(self.prior.flow.from_base(z_NNT.flatten(0, 1))).unflatten(
            0, (num, num)
        )

    def _rank(
        self, num: int, means: Callable[[np.ndarray], Tensor], labels: Sequence[str], k: int, name: str
    ) -> list[Ranked]:
        """Find the `k` of `num` rows with the highest product of p(e = 1|t) over the labels; `means`: of given rows."""
        check_whole("k", k)
        for label in labels:  # before the rows are read
            self.knowledge(label)
        parts = track(chunks(np.arange(num)), f"ranking {name}")
        log_probability = torch.cat([F.logsigmoid(self.log_odds(means(part), labels)).sum(-1) for part in parts])
        best = log_probability.topk(min(k, num))
        return [
            Ranked(row, value) for row, value in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
        ]

    def asked(self, labels: Sequence[str] | None) -> Sequence[str]:
        """The given labels, by default all that were added. Raises `UserError` if there are none."""
        if not (labels := labels or self.labels):
            raise UserError(
                f"{self.directory} has no labels; add one with `{self.command} add {self.directory} CORPUS`"
            )
        return labels

    def _matrix(self, observations: np.ndarray | Tensor) -> Tensor:
        return torch.from_numpy(as_matrix(observations, self.prior.dim, self.what))

    def _parts(self, observations_NT: np.ndarray | Tensor) -> Sequence[Tensor]:
        """Split observations into parts that are computed at a time."""
        return self._matrix(observations_NT).split(at_once(_AT_ONCE, self.prior.dim))


def fit_to(
    source: Source,
    output: Path,
    *,
    args: Any,
    fit: FitArgs,
    labels: Sequence[str] = (),
    knowledge: KnowledgeArgs | None = None,
    measured: Callable[[CodePrior, Tensor], dict[str, float]],
    **facts: Any,
) -> None:
    """Learn p(t) of a split, alone or jointly with `labels`, and save it as `output`, which is replaced.

    `knowledge`: the settings of the labels. `measured`: figures of the held-out observations for the card.
    """
    if not labels and (knowledge is not None or fit.draw_t):
        raise UserError("settings of labels (knowledge, fit.draw_t) were given, but no labels; give labels too")
    if output.exists() and not (output / files.CARD).is_file():
        raise UserError(f"{output} exists and holds no TzK; give another output, so that nothing is overwritten")
    split = source.split
    if len(split) < 2 * FEWEST:
        raise UserError(f"{source.name} {split.name} has {len(split)} {source.unit}; give at least {2 * FEWEST}")
    wanted = [Label.parse(label) for label in dict.fromkeys(labels)]
    rows_of_labels = [_rows(source, label) for label in wanted]
    knowledge_args = knowledge or KnowledgeArgs()
    rows = some_rows(np.arange(len(split)), fit.max_sentences, fit.seed)
    with own_place(output), storage.new_directory(output) as partial:
        folders = [files.label_directory(partial, label) for label in wanted]
        train, valid = hold_out(source.posterior(rows), seed=fit.seed, most=source.most_held_out)
        data = [_read(source, label, each, fit) for label, each in zip(wanted, rows_of_labels, strict=True)]
        if data:
            prior, learned = fit_jointly(train, valid, data, args=args, knowledge_args=knowledge_args, fit=fit)
        else:
            prior, learned = fit_prior(train, valid, args=args, fit=fit), []
        held_out = draw(valid, torch.Generator().manual_seed(fit.seed))
        with torch.no_grad():
            figures = measured(prior, held_out)
        training = {**source.described, source.unit: len(rows), "fit": asdict(fit), **figures}
        sha256 = files.save_prior(partial, prior, training=training, **facts)
        for label, folder, one, known in zip(wanted, folders, data, learned, strict=True):
            folder.mkdir(parents=True)
            about = {**source.described, source.unit: one.number, "fit": asdict(fit), "jointly": True}
            files.save_knowledge(folder, label, known, prior_sha256=sha256, training=about)


def nll(prior: CodePrior, held_out: Tensor) -> dict[str, float]:
    """The negative log density of held-out codes, in nats per dimension: p(t), and a Gaussian fitted to all codes."""
    log_probs = {
        "valid_nll": prior.log_prob(held_out),
        "valid_nll_gaussian": prior.standardization.log_prob(held_out),
    }
    return {name: nll_per_dimension(log_prob, prior.dim)[0] for name, log_prob in log_probs.items()}


def _rows(source: Source, label: Label) -> LabelledRows:
    """Find the rows with and without a label. Raises `UserError` if they are too few to learn it."""
    rows = labelled_rows(source.split, label, source.unit)
    if min(len(rows.present), len(rows.absent)) < FEWEST:
        raise UserError(
            f"{len(rows.present):,} {source.unit} of {source.name} {source.split.name} have {label}, "
            f"{len(rows.absent):,} do not; give a corpus with at least {FEWEST} of each"
        )
    return rows


def _read(source: Source, label: Label, rows: LabelledRows, fit: FitArgs) -> LabelData:
    """Read what a label is learned from."""
    some = [some_rows(side, fit.max_sentences // 2, fit.seed) for side in (rows.absent, rows.present)]
    absent, present = (hold_out(source.posterior(side), seed=fit.seed, most=source.most_held_out) for side in some)
    train, valid = zip(absent, present, strict=True)
    return LabelData(str(label), rows.frequency, len(rows.present), train, valid)
