"""Whether codes that are near mean the same: on sets of sentences with people's judgements, beside other codes.

From Python, `measure` does it for any function from texts to codes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from sklearn.feature_extraction.text import TfidfVectorizer

from smim.errors import UserError, refuse
from smim.evaluation import plots
from smim.evaluation.job import Job, split_of_ids
from smim.evaluation.markup import with_error
from smim.evaluation.section import Metric, Section, Table
from smim.evaluation.semantic_measures import (
    METRICS,
    Encode,
    measure,
    measure_bm25,
    paired,
    random_codes,
)
from smim.evaluation.semantic_sets import ANSWERS, SIMILARITY, SemanticSet, describe, files_of, read_sets
from smim.preparation.args import as_paths
from smim.schema import bounded, out_of_bounds
from smim.teaching import find_teacher, open_teacher

TITLE = "Meaning"

# By cosine, as all where no distance is named.
_CODE = "code"
_SUFFIXES = {"cosine": "", "l2": "-l2", "inner_product": "-inner_product"}
_PLOTTED = ("spearman", "average_precision", "hit_at_1", "answer_mrr", "probe_accuracy")
# By another distance, of a part of the code, or of other codes: their label is "SET/WAY".
_BESIDE = [
    replace(each, name=f"{each.name}_by", title="", meaning=f"`{each.name}` by other means: {{label}}", in_tables=True)
    for each in METRICS
    if each.name != "word_for_word"
]
ALL_METRICS = [*METRICS, *_BESIDE]


@dataclass(frozen=True)
class SemanticsArgs:
    """`sets`: a file, a folder, or a list of them. `split`: dev, to choose by, or test, once a model that is reported.

    `models`: of sentence-transformers, by name or path, to stand beside; `word_for_word`: whether sentences are
    decoded, `max_decoded` of a set at random; `max_pairs`: of a set of pairs; `bootstrap_samples`: of a standard error
    that is not a mean's.
    """

    sets: Any = None
    split: str = bounded("dev", among=("dev", "test"))
    models: list[str] = field(default_factory=list)
    word_for_word: bool = True
    max_decoded: int = bounded(10_000, least=1)
    max_pairs: int = bounded(1000, least=1)
    bootstrap_samples: int = bounded(1000, least=2)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "eval.semantics"))


def files(args: SemanticsArgs) -> list[Path]:
    """The files of the sets."""
    return files_of(args.sets)


def check(args: SemanticsArgs) -> None:
    """Raises `UserError` where there are no sets, one cannot be read, or a model cannot be loaded."""
    if not as_paths(args.sets):
        raise UserError("which sets? give eval.semantics.sets=FOLDER, a file, or '[FOLDER,FILE]'")
    read_sets(args.sets, args.split)
    if len({short_name(name) for name in args.models}) < len(args.models):
        raise UserError(f"eval.semantics.models: {', '.join(args.models)}: the last parts of their names must differ")
    for name in args.models:
        open_model(name, setting="eval.semantics.models")


def evaluate(job: Job, args: SemanticsArgs, plots_dir: Path) -> Section:
    """The code's metrics by cosine, and what stands beside; called on all processes, the main one has them."""
    sets = read_sets(args.sets, args.split, max_pairs=args.max_pairs, seed=job.seed)
    parts, reconstruct = _of_model(job, sets, args)
    if not job.is_main:
        return Section(TITLE)

    def found(encode: Encode, **more: Any) -> dict[str, Metric]:
        return measure(
            encode,
            sets,
            max_decoded=args.max_decoded,
            bootstrap_samples=args.bootstrap_samples,
            seed=job.seed,
            **more,
        )

    ways = {
        part + suffix: found(encode, distance=distance, reconstruct=reconstruct if part + suffix == _CODE else None)
        for part, encode in parts.items()
        for distance, suffix in _SUFFIXES.items()
    }
    ways["TF-IDF"] = found(TfidfVectorizer().fit_transform)
    ways["BM25"] = measure_bm25(sets)
    ways["random"] = found(random_codes(job.model.latent_dim, seed=job.seed))
    for name in args.models:
        ways[short_name(name)] = found(open_model(name, setting="eval.semantics.models"))
    metrics = ways[_CODE] | {
        "{}_by:{}/{}".format(*name.split(":", 1), way): metric
        for way, of_way in ways.items()
        if way != _CODE
        for name, metric in of_way.items()
        if not name.startswith("word_for_word")
    }
    tables = [*_tables(ways), Table("Sets", ["set", "kind", "evaluated", "files"], describe(sets))]
    return Section(TITLE, metrics, _notes(args), tables, _draw(sets, parts[_CODE], ways, plots_dir))


def open_model(name: str, *, setting: str) -> Encode:
    """What encodes with a model of sentence-transformers, by its name or path; raises `UserError` where it cannot.

    `setting`: where the name was given.
    """
    try:
        model = open_teacher(find_teacher(name))
    except UserError as error:
        raise UserError(f"{setting}={name}: {error}") from None
    return lambda texts: model.encode(list(texts), show_progress_bar=False)


def short_name(name: str) -> str:
    """What a model is called in tables: its directory; directories of ours, and of packages, are called "model"."""
    path = Path(name)
    return path.parent.name if path.name == "model" else path.name


def _of_model(
    job: Job, sets: Sequence[SemanticSet], args: SemanticsArgs
) -> tuple[dict[str, Encode], Callable[[Sequence[str]], list[str]] | None]:
    """From texts to codes, and to their meaning part where they have one; and back. Called on all processes."""
    autoencoder = job.model.autoencoder
    row = {text: i for i, text in enumerate(dict.fromkeys(text for each in sets for text in each.texts))}
    ids = [job.model.tokenizer.encode(text)[: autoencoder.args.max_length] for text in row]
    codes = job.posterior(split_of_ids("semantics", ids)).mean

    def encode(matrix: np.ndarray) -> Encode:
        return lambda texts: matrix[[row[text] for text in texts]]

    parts = {_CODE: encode(codes.numpy())}
    if autoencoder.meaning_dim < job.model.latent_dim:
        parts["meaning"] = encode(autoencoder.meaning(codes).numpy())
    if not args.word_for_word:
        return parts, None
    wanted = sorted({row[text] for each in sets if each.kind != ANSWERS for text in each.some(args.max_decoded)})
    own = [wanted[place] for place in job.share(len(wanted))]
    # What says more words than its sentence has is wrong already.
    longest = 1 + max((len(ids[i]) for i in wanted), default=0)
    decoded = job.model.decode(codes[own], max_length=longest)
    sentences = dict(gather_object(list(zip(own, decoded, strict=True))))
    return parts, lambda texts: [sentences[row[text]] for text in texts]


def _notes(args: SemanticsArgs) -> list[str]:
    used = "for choices" if args.split == "dev" else "to be evaluated once per model, after all choices"
    return [
        f"Split `{args.split}`, {used}. A code is the mean of q(z|x). Codes are compared by their cosine unless "
        f"another distance is named. ± is the standard error over pairs, queries or "
        f"questions; of rank correlation, average precision and F1 by {args.bootstrap_samples:,} bootstrap samples."
    ]


def _tables(ways: dict[str, dict[str, Metric]]) -> list[Table]:
    """A table for each metric: ways by sets."""
    tables = []
    for each in METRICS:
        names = [name for name in ways[_CODE] if name.startswith(f"{each.name}:")]
        rows = [
            [way, *(with_error(m.value, m.standard_error) if m else "" for m in map(metrics.get, names))]
            for way, metrics in ways.items()
            if not metrics.keys().isdisjoint(names)
        ]
        if names:
            title = each.meaning.removesuffix(", {label}")
            tables.append(Table(title[0].upper() + title[1:], ["", *(name.split(":", 1)[1] for name in names)], rows))
    return tables


def _draw(
    sets: Sequence[SemanticSet], code: Encode, ways: dict[str, dict[str, Metric]], plots_dir: Path
) -> dict[str, str]:
    drawn = {}
    scores = {
        f"{each.name}: Spearman {ways[_CODE][f'spearman:{each.name}'].value:.3f}": (
            each.evaluated.values,
            paired(code, each.evaluated, "cosine"),
        )
        for each in sets
        if each.kind == SIMILARITY
    }
    if scores:
        plots.scatters(scores, plots_dir / "similarity.png", xlabel="people's score", ylabel="cosine of the codes")
        drawn["similarity.png"] = "Cosine of two codes against people's scores of similarity"
    shown = [way for way in ways if not way.endswith(tuple(_SUFFIXES.values())[1:])]
    values = {
        each.for_label(name.partition(":")[2]).title: {
            way: (metric.value, metric.standard_error or 0.0) for way in shown if (metric := ways[way].get(name))
        }
        for each in METRICS
        for name in ways[_CODE]
        if each.name in _PLOTTED and name.startswith(f"{each.name}:")
    }
    if values:
        plots.dots(values, plots_dir / "meaning.png")
        drawn["meaning.png"] = (
            "Codes by cosine, compared with methods that know words only, random codes and other models"
        )
    return drawn
