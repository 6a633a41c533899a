"""Sentences that a model writes from other codes than those of sentences: between two, near one, random, by meaning.

`smim.evaluation.written` compares them with real sentences: the input, and nearest and random ones of training text.

Shapes: N input sentences, M pairs of them, D latent dimensions, T of a teacher's vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np
import torch

from smim.errors import UserError, refuse
from smim.evaluation import plots
from smim.evaluation.job import Job, split_of_rows
from smim.evaluation.judge import CARD, ORDER, Judge, fingerprints
from smim.evaluation.markup import code, with_error
from smim.evaluation.section import Metric, Section, Table
from smim.evaluation.semantics import short_name
from smim.evaluation.written import Reader, open_teacher
from smim.generation import SentenceModel
from smim.model import noise
from smim.schema import bounded, out_of_bounds
from smim.search.sentences import read_sentences
from smim.text.corpus import Split
from smim.text.tokenizer import UNK_ID

TITLE = "Generativity"

_SHOWN = 8
BETWEEN, NEAR, DRAWN, MEANING = "between", "near", "drawn", "meaning"
NEAREST, RANDOM, REAL = "nearest", "random", "real"
# What is said of each kind of sentences; those of `_OF_PAIRS` belong to two input sentences, the others to one or none.
_KINDS = {
    BETWEEN: "what is decoded midway between two sentences",
    NEAR: "what is decoded near a sentence",
    DRAWN: "what is decoded from drawn codes",
    MEANING: "what is decoded from a sentence's meaning alone",
    NEAREST: "the training sentence nearest to the point midway",
    RANDOM: "a random training sentence",
    REAL: "the input sentences",
}
_OF_PAIRS = (BETWEEN, NEAREST, RANDOM)
_COLUMNS = {
    "nats_per_word": "nats a word",
    "nats_above_real": "above real",
    "cosine_to_source": "cosine",
    "length_ratio": "length",
    "copied": "copied",
    "distinct_2_ratio": "distinct-2 to real",
    "with_unknown": "with <unk>",
}


@dataclass(frozen=True)
class GenerativityArgs:
    """`judge`: the language model's directory; `teacher`: a sentence-transformers model, None for no cosines.

    `files`: input sentences that the model has not seen, `num_sentences` of each; without any, the evaluated ones.
    Pairs have a teacher's cosine of `least_cosine` to `most_cosine`. `training_text`: files of what the model was
    trained on; without any, the corpus's training sentences. The nearest one is looked for among `train_sentences`.
    """

    judge: str | None = None
    teacher: str | None = None
    files: list[str] = field(default_factory=list)
    training_text: list[str] = field(default_factory=list)
    num_sentences: int = bounded(500, least=2)
    least_cosine: float = 0.2
    most_cosine: float = 0.6
    train_sentences: int = bounded(20_000, least=1)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "eval.generativity"))


def choose_pairs(vectors: np.ndarray | None, num: int, *, least: float, most: float, seed: int) -> np.ndarray:
    """Pairs of different rows of `num` sentences, int64 [M, 2], each row in at most one, in an order by the seed.

    With unit `vectors` [num, T], those whose cosine is from `least` to `most`; raises `UserError` where there are none.
    """
    waiting = np.random.default_rng([seed, num]).permutation(num)
    pairs = []
    while len(waiting) > 1:
        first, waiting = waiting[0], waiting[1:]
        cosines = np.full(len(waiting), least) if vectors is None else vectors[waiting] @ vectors[first]
        fit = np.flatnonzero((cosines >= least) & (cosines <= most))
        if len(fit):
            pairs.append((first, waiting[fit[0]]))
            waiting = np.delete(waiting, fit[0])
    if not pairs:
        raise UserError(
            f"no two of the {num:,} input sentences have a teacher's cosine from {least:g} to {most:g}; give more"
        )
    return np.array(pairs)


def write(model: SentenceModel, texts: Sequence[str], pairs: np.ndarray, *, seed: int) -> dict[str, list[str]]:
    """What the model writes by its own defaults, by kind: of each pair, of each sentence, and as many from drawn codes.

    As `interpolate`, `perturb` and `sample` do, but many at once. An autoencoder has no distribution to draw from; only
    a model with a meaning part writes from that alone.
    """
    posterior, literal = model.posterior(texts), model.use.literal
    codes = posterior.mean.numpy()
    written = {BETWEEN: model.decode(_midway(model, codes, pairs), literal=literal.interpolate, seed=seed)}
    if not model.deterministic:
        draws = noise.normal(seed, range(len(texts)), 0, model.latent_dim)
        near = posterior.mean + model.use.perturb_scale * posterior.standard_deviation * draws
        written[NEAR] = model.decode(near, literal=literal.perturb, seed=seed)
        written[DRAWN] = model.sample(len(texts), seed=seed)
    if model.has_meaning_part:
        written[MEANING] = model.decode(codes, literal=0.0, seed=seed)
    return written


def _midway(model: SentenceModel, codes_ND: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.stack([model.line(*codes_ND[pair], steps=3)[1] for pair in pairs])


def write_by(
    decode: Callable[[np.ndarray], list[str]], codes_ND: np.ndarray, pairs: np.ndarray, *, scale: float = 0.5, seed: int
) -> dict[str, list[str]]:
    """As `write`, of any function from codes to sentences, in the same way for all of them.

    Near a sentence is at noise of `scale` standard deviations of the codes [N, D]; drawn codes are from the Gaussian
    with their mean and their standard deviation in each dimension.
    """
    mean, deviation = codes_ND.mean(0), codes_ND.std(0)
    near, drawn = (noise.normal(seed, range(len(codes_ND)), draw, codes_ND.shape[1]).numpy() for draw in (0, 1))
    return {
        BETWEEN: decode(codes_ND[pairs].mean(1)),
        NEAR: decode(codes_ND + scale * deviation * near),
        DRAWN: decode(mean + deviation * drawn),
    }


def sources_of(kind: str, texts: Sequence[str], pairs: np.ndarray) -> list[list[str]]:
    """The input sentences of each written sentence of a kind."""
    if kind in _OF_PAIRS:
        return [[texts[i], texts[j]] for i, j in pairs]
    return [] if kind in (DRAWN, REAL) else [[text] for text in texts]


def files(args: GenerativityArgs) -> list[Path]:
    """The files that the group reads. Raises `UserError` without a judge."""
    if args.judge is None:
        raise UserError("eval.generativity.judge=DIR is needed, a language model; `smim judge make TEXT...` makes one")
    return [Path(args.judge) / CARD, *map(Path, [*args.files, *args.training_text])]


def evaluate(job: Job, args: GenerativityArgs, plots_dir: Path) -> Section:
    """What the model writes, and real training sentences in its place; from the main process.

    The others encode their share of the training sentences. Raises `UserError`, on all of them, for wrong inputs.
    """
    judge = Judge.open(args.judge or "")
    texts, left_out = _inputs(job, args)
    teacher = None if args.teacher is None else open_teacher(args.teacher)
    vectors = None if teacher is None else teacher(texts)
    pairs = choose_pairs(vectors, len(texts), least=args.least_cosine, most=args.most_cosine, seed=job.seed)
    train, sample = job.train_split, None
    if train is not None:
        rows = job.sample(len(train), args.train_sentences)
        sample = split_of_rows(train, rows, name="generativity_train")
        job.posterior(sample)
    if not job.is_main:
        return Section(TITLE)
    known = _read(args.training_text) or ([] if train is None else train.texts())
    ours = write(job.model, texts, pairs, seed=job.seed)
    real = {} if sample is None else _from_training(job, sample, sources_of(NEAREST, texts, pairs))
    written = {**ours, **real, REAL: texts}
    reader = Reader(judge, texts, teacher=teacher, training_text=known)
    metrics: dict[str, Metric] = {}
    for kind, sentences in written.items():
        metrics |= reader.measure(kind, sentences, sources=sources_of(kind, texts, pairs))
    nats = {kind: np.divide(*judge.nats(sentences)) for kind, sentences in written.items()}
    panels = {_KINDS[kind]: {REAL: nats[REAL], kind: nats[kind]} for kind in ours}
    plots.histograms(panels, plots_dir / "generativity.png", xlabel="nats a word")
    notes = [*_about(reader, args, len(pairs)), *left_out]
    tables = [_table(metrics, list(written)), *_examples(written, texts, pairs)]
    return Section(TITLE, metrics, notes, tables, {"generativity.png": "Nats per word under the judge, by sentence"})


def _inputs(job: Job, args: GenerativityArgs) -> tuple[list[str], list[str]]:
    """Return the input sentences that the model can read, in random order, and a note on the others."""
    found: list[str] = []
    for texts in [_read([file]) for file in args.files] or [job.split.texts()]:
        distinct = list(dict.fromkeys(texts))
        found += [distinct[i] for i in job.sample(len(distinct), args.num_sentences)]
    ids = [job.model.tokenizer.encode(text) for text in found]
    limit = job.model.autoencoder.args.max_length
    fit = [text for text, own in zip(found, ids, strict=True) if len(own) <= limit and any(i != UNK_ID for i in own)]
    if len(fit) < 2:
        raise UserError(f"eval.generativity: of {len(found)} input sentences the model can read {len(fit)}; give more")
    order, num_left_out = np.random.default_rng([job.seed, 1]).permutation(len(fit)), len(found) - len(fit)
    note = f"{num_left_out:,} input sentences are left out, because they are too long or have no known word."
    return [fit[i] for i in order], [note] if num_left_out else []


@torch.no_grad()
def _from_training(job: Job, sample: Split, ends: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """For each pair the training sentence whose code's meaning is nearest to the point midway, by cosine, and any."""
    meaning = job.model.autoencoder.meaning
    codes = meaning(job.posterior(sample).mean).numpy().copy()
    codes_of_ends = job.model.encode([text for pair in ends for text in pair])
    between = _midway(job.model, codes_of_ends, np.arange(2 * len(ends)).reshape(-1, 2))
    middle = meaning(torch.from_numpy(between)).numpy().copy()
    for vectors in (codes, middle):
        faiss.normalize_L2(vectors)
    index = faiss.IndexFlatIP(codes.shape[1])
    index.add(codes)
    _, [*nearest] = index.search(middle, 1)
    drawn = np.random.default_rng([job.seed, 2]).integers(len(sample), size=len(ends))
    return {NEAREST: sample.texts(np.concatenate(nearest)), RANDOM: sample.texts(drawn)}


def _table(metrics: Mapping[str, Metric], kinds: Sequence[str]) -> Table:
    def cell(name: str) -> str:
        return with_error(metrics[name].value, metrics[name].standard_error) if name in metrics else ""

    rows = [
        [_KINDS[kind], str(metrics[f"nats_per_word:{kind}"].n), *(cell(f"{name}:{kind}") for name in _COLUMNS)]
        for kind in kinds
    ]
    return Table("Written and real sentences", ["", "sentences", *_COLUMNS.values()], rows)


def _examples(written: Mapping[str, Sequence[str]], texts: Sequence[str], pairs: np.ndarray) -> list[Table]:
    """Tables of the first sentences of each kind, with their inputs."""
    tables = []
    for title, kinds in (
        ("Between two sentences", _OF_PAIRS),
        ("From one sentence", (NEAR, MEANING)),
        ("Drawn", (DRAWN,)),
    ):
        if given := [kind for kind in kinds if kind in written]:
            sources = sources_of(given[0], texts, pairs) or [[]] * _SHOWN
            header = [*["sentence"] * len(sources[0]), *given]
            rows = [[*own, *(written[kind][row] for kind in given)] for row, own in enumerate(sources[:_SHOWN])]
            tables.append(Table(title, header, rows))
    return tables


def _about(reader: Reader, args: GenerativityArgs, num_pairs: int) -> list[str]:
    judge = reader.judge
    pairs = (
        f"{num_pairs:,} random pairs. For cosines, give a teacher: `eval.generativity.teacher=MODEL`."
        if args.teacher is None
        else f"{num_pairs:,} pairs whose cosine under the teacher {code(short_name(args.teacher))} is from "
        f"{args.least_cosine:g} to {args.most_cosine:g}."
    )
    given = {"input": fingerprints(reader.real), "training": reader.training}
    known = [f"{np.isin(each, judge.known).sum():,} of {len(each):,} {name} sentences" for name, each in given.items()]
    return [
        f"The judge {code(judge.hash[:12])} is a {ORDER}-gram model. It was made from {judge.card.words:,} words in "
        f"{judge.card.sentences:,} sentences of {', '.join(map(code, judge.card.sources))}. Its text contains "
        f"{' and '.join(known)}. All text is compared in lower case, with punctuation marks as words.",
        pairs,
    ]


def _read(files: Sequence[str]) -> list[str]:
    return read_sentences([Path(file) for file in files], columns=None).texts if files else []
