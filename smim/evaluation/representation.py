"""The information in codes about labels: classification by nearest neighbours, and a two-dimensional map.

Shapes: N evaluated sentences, M training sentences, B rows of a block, D latent dimensions, C classes of a label.
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import refuse, too_low
from smim.evaluation import plots
from smim.evaluation.job import Job, select, split_of_rows
from smim.evaluation.section import Definition, Metric, Section, Table, measure
from smim.text.corpus import Split

TITLE = "Labels in the latent space"

_ROWS_PER_BLOCK = 256
# With fewer points, a map shows no neighbourhoods.
_FEWEST_ON_MAP = 4
# Used instead of a class number: a label that is not in training, and no label.
_UNSEEN, _NO_LABEL = -1, -2


@dataclass(frozen=True)
class RepresentationArgs:
    """The settings of the group. Label columns with 2 to `max_classes` values are classified.

    `k` neighbours among `train_sentences` random sentences vote. `map_sentences`: sentences on the map, 0 for no map.
    """

    k: int = 5
    train_sentences: int = 20_000
    map_sentences: int = 2_000
    max_classes: int = 50

    def __post_init__(self) -> None:
        refuse(too_low(self, "eval.representation", k=1, train_sentences=1, map_sentences=0, max_classes=2))


# Of whether the label that is voted for is right, and the most frequent one is; bool [N] each.
OF_LABELS = METRICS = [
    Definition("knn_accuracy", "", "share of items whose k nearest training codes vote for the right {label}",
               lambda right: right[0], title="k-NN accuracy, {label}", better="higher"),
    Definition("majority_accuracy", "", "the same for always answering the most frequent {label}",
               lambda right: right[1]),
]  # fmt: skip


def evaluate(job: Job, args: RepresentationArgs, plots_dir: Path) -> Section:
    """Compute the accuracy for each label column, and that of the most frequent label. All processes must call it."""
    train = job.train_split
    chosen, left_out = choose_columns(job.split, train, max_classes=args.max_classes)
    metrics: dict[str, Metric] = {}
    rows: list[list[str]] = []
    reasons = ", ".join(f"`{column}` ({reason})" for column, reason in left_out.items())
    notes = [f"Label columns that are left out: {reasons}."] if reasons else []
    if train is not None and chosen:
        sampled = job.sample(len(train), args.train_sentences)
        sample = split_of_rows(train, sampled, name="representation_train")
        for column, classes in chosen.items():
            right, without_label = _classify(job, sample, column, classes, k=args.k)
            if right is not None:
                found = measure(METRICS, right, label=column)
                metrics |= found
                rows.append([column, str(len(classes)), *(f"{metric.value:.3f}" for metric in found.values())])
            if without_label:
                notes.append(f"{without_label:,} evaluated sentences have no `{column}` and are left out of it.")
    notes.insert(
        0,
        f"Each of the {len(job.split):,} evaluated sentences gets the label that most of the {args.k} nearest among "
        f"{len(sample):,} training sentences have (Euclidean distance between the means of q(z|x))."
        if metrics
        else _not_evaluated(job, train),
    )
    maps, problems = _map(job, args, list(chosen), plots_dir / "latent_map.png")
    header = ["label", "classes", "nearest codes", "most frequent label"]
    tables = [Table("Share of right labels", header, rows)] if rows else []
    return Section(TITLE, metrics, notes + problems, tables, maps)


def choose_columns(
    split: Split, train: Split | None, *, max_classes: int
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The classes, ascending, of each label column to classify, and why the others are left out.

    Those of `split` that have 2 to `max_classes` values over `train`, or over itself without one, are classified.
    """
    classes, left_out = {}, {}
    for column in split.label_columns:
        try:
            classes[column] = _classes(split if train is None else train, column, max_classes)
        except ValueError as reason:
            left_out[column] = str(reason)
    return classes, left_out


def _classes(split: Split, column: str, limit: int) -> list[str]:
    """A label column's distinct values as text; raises ValueError that says why they are no classes."""
    if column not in split.label_columns:
        raise ValueError("the training sentences have none")
    if pa.types.is_nested(split.table.schema.field(column).type):
        raise ValueError("not a single value")
    found: set[str] = set()
    for chunk in split.table.column(column).chunks:
        found |= set(pc.unique(chunk).drop_null().cast(pa.string()).to_pylist())
        if len(found) > limit:  # limits the memory
            raise ValueError(f"more than {limit} values")
    if len(found) < 2:
        raise ValueError("fewer than two values")
    return sorted(found)


def class_numbers(column: pa.ChunkedArray, classes: list[str]) -> np.ndarray:
    """The index of each label in `classes`, int64 [N]; negative for other labels and without a label."""
    text = column.cast(pa.string())
    places = pc.fill_null(pc.index_in(text, value_set=pa.array(classes, pa.string())), _UNSEEN).to_numpy()
    return np.where(pc.is_valid(text).to_numpy(), places, _NO_LABEL).astype(np.int64)


def _classify(
    job: Job, sample: Split, column: str, classes: list[str], *, k: int
) -> tuple[tuple[np.ndarray, np.ndarray] | None, int]:
    """What `METRICS` are of for one column, and how many evaluated sentences have no label in it.

    None where no evaluated sentence, or none of the training sample, has a label.
    """
    train_classes = class_numbers(sample.table.column(column), classes)
    true_classes = class_numbers(job.split.table.column(column), classes)
    train_rows, rows = np.flatnonzero(train_classes >= 0), np.flatnonzero(true_classes != _NO_LABEL)
    without_label = len(true_classes) - len(rows)
    train_means, means = job.posterior(sample).mean.numpy()[train_rows], job.posterior().mean.numpy()
    if not len(train_rows) or not len(rows):
        return None, without_label
    neighbours = Neighbours(train_means, train_classes[train_rows], k=k)
    # Whole blocks, independent of the number of processes, because FAISS's rounding depends on the number of queries.
    every = np.split(np.arange(len(rows)), range(_ROWS_PER_BLOCK, len(rows), _ROWS_PER_BLOCK))
    own = [every[i] for i in job.share(len(every))]
    found = job.gather(own, [neighbours.classify(means[rows[part]]) for part in own], total=len(rows))
    majority = np.bincount(train_classes[train_rows]).argmax()
    return (found == true_classes[rows], majority == true_classes[rows]), without_label


class Neighbours:
    """A classifier by a vote of the `k` nearest of M training codes [M, D] with classes [M]."""

    def __init__(self, codes: np.ndarray, classes: np.ndarray, *, k: int) -> None:
        # FAISS expands |a - b|^2. Far from the origin, fp32 would lose the difference.
        self._centre = codes.mean(0, dtype=np.float64).astype(np.float32)
        self._classes = classes
        self._k = min(k, len(codes))
        self._index = faiss.IndexFlatL2(codes.shape[1])
        self._index.add(codes - self._centre)

    def classify(self, codes: np.ndarray) -> np.ndarray:
        """Predict the class of each code [B, D] by Euclidean distance, int64 [B]."""
        _, found = self._index.search(codes - self._centre, self._k)
        return vote(self._classes[found])


def vote(classes: np.ndarray) -> np.ndarray:
    """The most frequent class among each row's neighbours [B, k], nearest first. The nearest one breaks ties."""
    votes = (classes[:, :, None] == classes[:, None, :]).sum(2)
    # `argmax` takes the first, that is, the nearest, of those with the most votes.
    return classes[np.arange(len(classes)), votes.argmax(1)]


def _map(job: Job, args: RepresentationArgs, columns: list[str], output: Path) -> tuple[dict[str, str], list[str]]:
    """Draws the map on the main process; it with its caption, or a note why there is none."""
    if not args.map_sentences:
        return {}, []
    rows = job.sample(len(job.split), args.map_sentences, stream=1)
    # Use draws, not means: the variance of a collapsed code hides the information in its mean.
    codes = job.draw(select(job.posterior(), rows, "cpu"), rows, number=0).numpy()
    if len(rows) < _FEWEST_ON_MAP or codes.shape[1] < 2 or not codes.std(0).any():
        return {}, ["There is no map. A map needs a few sentences, and different codes of two dimensions or more."]
    if job.is_main:
        points, labels = plots.tsne(codes, seed=job.seed % 2**32), job.split.table.select(columns).take(pa.array(rows))
        colours = {
            column: np.array(pc.fill_null(labels.column(column).cast(pa.string()), "(no label)").to_pylist())
            for column in columns
        } or {"tokens of the sentence": job.split.lengths[rows]}
        plots.latent_maps({title: (points, values) for title, values in colours.items()}, output)
    what = "codes" if job.model.deterministic else "draws of z"
    return {output.name: f"t-SNE map of the {what} of {len(rows):,} evaluated sentences"}, []


def _not_evaluated(job: Job, train: Split | None) -> str:
    if train is None:
        return f"Not evaluated: `{job.corpus.name}` has no split `train` beside the evaluated one to learn from."
    return (
        f"Not evaluated: `{job.corpus.name}` has no label column with few values; name such columns when you "
        f"prepare it (`corpus.label_columns=[...]`)."
    )
