"""Examples of decoded sentences, as in appendix E of the thesis: reconstructions, interpolations, samples, answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from smim.errors import UserError, refuse, too_low
from smim.evaluation.job import Job
from smim.evaluation.section import Section, Table
from smim.generation import SentenceModel
from smim.model import noise
from smim.model.distributions import DiagonalGaussian
from smim.text.corpus import Corpus
from smim.text.tokenizer import UNK_ID

TITLE = "Examples"

# The longest sentence of the tables, in tokens, so that they stay readable.
_LONGEST = 40
_ANSWER_WORDS = {"short": 5, "medium": 10, "long": 15}
_NO_ANSWER = '(no answer: the decoded text has no "?", or nothing after it)'
# The random streams that choose the sentences of each table.
_RECONSTRUCTED, _INTERPOLATED, _SAMPLED, _ASKED = range(4)


@dataclass(frozen=True)
class ExamplesArgs:
    """The settings of the group. `num`: rows of a table, and twice the number of interpolations.

    `sentences`: sentences to reconstruct, and in pairs to interpolate between, instead of random ones of the corpus.
    `interpolation_steps`: codes per interpolation, including both ends. `perturbation`: noise in posterior standard
    deviations. `sample_deviation`: the standard deviation of the Gaussian from which samples are drawn. By default
    both are the model's own. `questions`: the questions to answer. Without any, they come from the column `question`
    of `question_split` in the corpus `question_corpus`, or else from evaluated sentences that contain a "?".
    """

    num: int = 8
    interpolation_steps: int = 10
    perturbation: float | None = None
    sample_deviation: float | None = None
    sentences: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    question_corpus: str | None = None
    question_split: str = "test"

    def __post_init__(self) -> None:
        problems = too_low(self, "eval.examples", num=1, interpolation_steps=2, perturbation=0, sample_deviation=0)
        if any(not question.strip(" ?") for question in self.questions):
            problems.append("eval.examples.questions has a question without words; remove it")
        refuse(problems)


def evaluate(job: Job, args: ExamplesArgs, plots: Path) -> Section:
    """Make the tables on the main process. Other processes get a `Section` without tables.

    The main process decodes the few sentences alone, without any collective call. Raises `UserError` on all processes
    if `args.question_corpus` is not a corpus with questions, or if the model cannot read one of `args.sentences`.
    """
    questions = find_questions(job, args)
    _check_sentences(job.model, args.sentences)
    if not job.is_main:
        return Section(TITLE)
    tables = [
        *_reconstructions(job, args),
        *_interpolations(job, args),
        *_samples(job, args),
        *_answers(job.model, questions),
    ]
    return Section(TITLE, notes=_notes(job, args, questions), tables=tables)


def find_questions(job: Job, args: ExamplesArgs) -> list[str]:
    """Find the questions to answer: given ones, those of a corpus, or those in the evaluated sentences.

    There are none if the model cannot answer. Raises `UserError` if `args.question_corpus` is not a prepared corpus, or
    lacks the split or the column.
    """
    model = job.model
    if not model.use.answers or UNK_ID in model.tokenizer.encode("?"):
        return []
    if args.questions:
        return [question for question in args.questions if _can_be_asked(model, question)]
    texts = _texts_with_questions(job, args)
    # Take more than needed, because some are too long, consist of unknown words, or occur twice.
    texts = texts.take(pa.array(job.sample(len(texts), 8 * args.num, stream=_ASKED)))
    questions = sorted({text.partition("?")[0].strip() for text in texts.to_pylist()})
    fit = [q for q in questions if len(model.tokenizer.encode(q)) <= _LONGEST and _can_be_asked(model, q)]
    return [fit[i] for i in job.sample(len(fit), args.num, stream=_ASKED)]


def _texts_with_questions(job: Job, args: ExamplesArgs) -> pa.ChunkedArray:
    split = job.split if args.question_corpus is None else Corpus.open(args.question_corpus).split(args.question_split)
    if "question" in split.label_columns:
        return split.table.column("question").drop_null()
    if args.question_corpus is not None:
        raise UserError(
            f"eval.examples.question_corpus={args.question_corpus}: there is no column 'question'; "
            f"give a corpus with this column, such as one prepared with corpus=yahoocqa"
        )
    texts = split.table.column("text")
    return texts.filter(pc.match_substring(texts, "?"))


def _can_be_asked(model: SentenceModel, question: str) -> bool:
    ids = model.tokenizer.encode(question.rstrip(" ?"))
    return any(i != UNK_ID for i in ids) and len(ids) <= model.autoencoder.args.max_length


def _check_sentences(model: SentenceModel, sentences: list[str]) -> None:
    limit = model.autoencoder.args.max_length
    lengths = {sentence: len(model.tokenizer.encode(sentence)) for sentence in sentences}
    refuse(
        f"eval.examples.sentences has {sentence[:40]!r} with {num} tokens; the model reads 1 to {limit}"
        for sentence, num in lengths.items()
        if not 1 <= num <= limit
    )


def _choose(
    job: Job, num: int, stream: int, given: Sequence[str] = ()
) -> tuple[np.ndarray, list[str], DiagonalGaussian] | None:
    """Choose all given sentences, or else up to `num` random short ones. None if there are none.

    Returns their rows, their texts as the model reads them (with `<unk>`), and q(z|x).
    """
    limit = min(_LONGEST, job.model.autoencoder.args.max_length)
    short = np.flatnonzero(job.split.lengths <= limit)
    rows = np.arange(len(given)) if given else short[job.sample(len(short), num, stream=stream)]
    if not len(rows):
        return None
    ids = [np.array(job.model.tokenizer.encode(text)) for text in given] if given else job.split.ids(rows)
    return rows, [job.model.tokenizer.decode(each.tolist()) for each in ids], job.model.posterior_of_ids(ids)


def _greedy(job: Job, codes: Tensor | np.ndarray, literal: float = 1.0) -> list[str]:
    return job.model.decode(codes, literal=literal, seed=job.seed, max_length=job.max_length, allow_unknown=True)


def _reconstructions(job: Job, args: ExamplesArgs) -> Iterator[Table]:
    """Make the table of appendix E.1: data (D), decoded from the mean (M), a draw (R) and a perturbed draw (P)."""
    if chosen := _choose(job, args.num, _RECONSTRUCTED, args.sentences):
        rows, shown, posterior = chosen
        codes = {"(AE)": posterior.mean}
        if not job.model.deterministic:
            z, far = (noise.normal(job.seed, rows, number, job.model.latent_dim) for number in (0, 1))
            codes = {
                "(M)": posterior.mean,
                "(R)": posterior.sample(z),
                "(P)": posterior.sample(_scale(job, args) * far),
            }
        literals = {"(P)": job.model.use.literal.perturb}
        decoded = {name: _greedy(job, each, literals.get(name, 1.0)) for name, each in codes.items()}
        decoded = {"(D)": shown, **decoded}
        cells = [[name, sentences[i]] for i in range(len(rows)) for name, sentences in decoded.items()]
        yield Table("Reconstruction (E.1)", ["", "sentence"], cells)


def _interpolations(job: Job, args: ExamplesArgs) -> Iterator[Table]:
    """Make tables as in appendix E.2: greedy decoding at equally spaced codes between two means, both included."""
    shares = np.linspace(0, 1, args.interpolation_steps)
    if chosen := _choose(job, 2 * max(1, args.num // 2), _INTERPOLATED, args.sentences):
        rows, shown, posterior = chosen
        means, num_pairs = posterior.mean.numpy(), len(rows) // 2
        for i in range(num_pairs):
            start, end = means[2 * i : 2 * i + 2]
            codes = np.stack([start + (end - start) * share for share in shares])
            first, last = _greedy(job, codes[[0, -1]])
            way = [first, *_greedy(job, codes[1:-1], job.model.use.literal.interpolate), last]
            steps = [[f"{share:.2f}", sentence] for share, sentence in zip(shares, way, strict=True)]
            cells = [["(D)", shown[2 * i]], *steps, ["(D)", shown[2 * i + 1]]]
            yield Table(f"Interpolation {i + 1} of {num_pairs} (E.2)", ["", "sentence"], cells)


def _samples(job: Job, args: ExamplesArgs) -> Iterator[Table]:
    """Make the tables of appendix E.3, with words drawn at temperature 1.

    The codes are drawn from N(0, deviation^2 I), and from q(z|x_j) of random sentences x_j.
    """
    if job.model.deterministic:
        return
    deviation = args.sample_deviation
    from_gaussian = job.model.sample(args.num, standard_deviation=deviation, seed=job.seed, allow_unknown=True)
    spread = job.model.use.sample.spread(deviation)
    title = f"Samples from {'the prior' if spread is None else f'N(0, {spread:g}² I)'} (E.3)"
    yield Table(title, ["sample"], [[sentence] for sentence in from_gaussian])
    if chosen := _choose(job, args.num, _SAMPLED):
        rows, shown, posterior = chosen
        z = posterior.sample(noise.normal(job.seed, rows, 0, job.model.latent_dim))
        decoded = job.model.decode(z, sample=True, seed=job.seed, max_length=job.max_length, allow_unknown=True)
        cells = [list(pair) for pair in zip(shown, decoded, strict=True)]
        yield Table("Samples from the aggregate posterior (E.3)", ["x_j", "sample, z ~ q(z|x_j)"], cells)


def _answers(model: SentenceModel, questions: list[str]) -> Iterator[Table]:
    """Make the table of appendix E.4: greedy answers to questions that end in 5, 10 or 15 unknown words."""
    cells = []
    for question in questions:
        answers = {name: model.answer(question, num_words=num) or _NO_ANSWER for name, num in _ANSWER_WORDS.items()}
        cells += [["(Q)", question], *([f"(A) {name}", answer] for name, answer in answers.items())]
    if cells:
        yield Table("Answers (E.4)", ["", "text"], cells)


def _scale(job: Job, args: ExamplesArgs) -> float:
    return job.model.use.perturb_scale if args.perturbation is None else args.perturbation


def _notes(job: Job, args: ExamplesArgs, questions: list[str]) -> list[str]:
    where = f"split `{job.split.name}` of `{job.corpus.name}`"
    drawn = f"random ones of {where} with at most {_LONGEST} tokens"
    notes = [f"The sentences are {'those of `eval.examples.sentences`; others are ' * bool(args.sentences)}{drawn}."]
    if job.model.deterministic:
        notes.append(
            "(D) is the data. (AE) is decoded greedily from the code. An autoencoder has no distribution to draw from."
        )
    else:
        notes.append(
            f"(D) is the data. The others are decoded greedily: (M) from the mean of q(z|x), (R) from a draw of it, "
            f"and (P) from a draw with {_scale(job, args):g} times its standard deviation. Interpolations lie between "
            f"two means. Samples draw each word at temperature 1. The aggregate posterior is that of {where}."
        )
    if not questions:
        reasons = {
            'the model\'s vocabulary has no "?"': UNK_ID in job.model.tokenizer.encode("?"),
            "the model was not trained on questions with answers": not job.model.use.answers,
            "no question consists of known words; give some with `eval.examples.questions=[...]`": True,
        }
        notes.append(f"No answers (E.4): {next(reason for reason, holds in reasons.items() if holds)}.")
    if refused := [question for question in args.questions if questions and question not in questions]:
        notes.append(f"Questions without a known word, or too long ones, are left out: {'; '.join(refused)}.")
    return notes
