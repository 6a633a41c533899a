"""Whether sentences with near codes have the same meaning, on sets of judged sentences, in comparison with other codes.

In Python, `measure` evaluates any function from texts to codes.
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

# The model's whole code, compared by cosine.
_CODE = "code"
_SUFFIXES = {"cosine": "", "l2": "-l2", "inner_product": "-inner_product"}
_PLOTTED = ("spearman", "average_precision", "hit_at_1", "answer_mrr", "probe_accuracy")
# Metrics by another distance, of a part of the code, or of other codes. Their label is "SET/WAY".
_BESIDE = [
    replace(each, name=f"{each.name}_by", title="", meaning=f"`{each.name}` by SET/WAY: {{label}}", in_tables=True)
    for each in METRICS
    if each.name != "word_for_word"
]
ALL_METRICS = [*METRICS, *_BESIDE]


@dataclass(frozen=True)
class SemanticsArgs:
    """The settings of the group. `sets`: a file, a folder, or a list of them.

    `split`: "dev" to make choices, "test" once for each model that is reported. `models`: sentence-transformers models
    to compare with, by name or path. `word_for_word`: decode sentences, at most `max_decoded` random ones of a set.
    `max_pairs`: the maximum number of pairs from a set of pairs. `bootstrap_samples`: for standard errors of metrics
    that are not means.
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
    """List the files of the sets."""
    return files_of(args.sets)


def check(args: SemanticsArgs) -> None:
    """Check the settings. Raises `UserError` if there are no sets, or if a set or a model cannot be loaded."""
    if not as_paths(args.sets):
        raise UserError("eval.semantics.sets is not set; give a folder, a file, or a list such as '[FOLDER,FILE]'")
    read_sets(args.sets, args.split)
    if len({short_name(name) for name in args.models}) < len(args.models):
        raise UserError(
            f"eval.semantics.models: {', '.join(args.models)}: the last parts of their names are equal; give models "
            f"or directories with different last parts"
        )
    for name in args.models:
        open_model(name, setting="eval.semantics.models")


def evaluate(job: Job, args: SemanticsArgs, plots_dir: Path) -> Section:
    """Compute the metrics of codes and of baselines, on the main process. All processes must call it."""
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
    """Load a sentence-transformers model by its name or path, as a function from texts to vectors.

    `setting`: the name of the setting for error messages. Raises `UserError` if the model cannot be loaded.
    """
    try:
        model = open_teacher(find_teacher(name))
    except UserError as error:
        raise UserError(f"{setting}={name}: {error}") from None
    return lambda texts: model.encode(list(texts), show_progress_bar=False)


def short_name(name: str) -> str:
    """Return the name of a model for tables: that of its directory, or of the parent of a directory called "model"."""
    path = Path(name)
    return path.parent.name if path.name == "model" else path.name


def _of_model(
    job: Job, sets: Sequence[SemanticSet], args: SemanticsArgs
) -> tuple[dict[str, Encode], Callable[[Sequence[str]], list[str]] | None]:
    """Make functions from texts to codes and to meaning parts (if there are any), and from texts to decoded ones.

    All processes must call it.
    """
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
    # A text with more words than its sentence cannot be equal to it.
    longest = 1 + max((len(ids[i]) for i in wanted), default=0)
    decoded = job.model.decode(codes[own], max_length=longest)
    sentences = dict(gather_object(list(zip(own, decoded, strict=True))))
    return parts, lambda texts: [sentences[row[text]] for text in texts]


def _notes(args: SemanticsArgs) -> list[str]:
    used = "for making choices" if args.split == "dev" else "to be used once for each model, after all choices"
    return [
        f"These are results on the split `{args.split}`, {used}. A code is the mean of q(z|x). Codes are compared by "
        f"cosine if no other distance is named. A way is what is compared, and how: whole codes (`code`), their "
        f"meaning part (`meaning`), words (`TF-IDF`, `BM25`), `random` codes, or another model's vectors. ± is the "
        f"standard error over pairs, queries, questions or sentences. For rank correlation, average precision and F1 "
        f"it comes from {args.bootstrap_samples:,} bootstrap samples."
    ]


def _tables(ways: dict[str, dict[str, Metric]]) -> list[Table]:
    """Make a table for each metric, with a row for each way and a column for each set."""
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
        drawn["similarity.png"] = "Cosine of two codes against people's score of how similar the sentences are"
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
        drawn["meaning.png"] = "Codes by cosine, in comparison with words alone, random codes and other models"
    return drawn
