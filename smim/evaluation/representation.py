"""What the codes know of the sentences' labels: classification by nearest neighbours, and a map in two dimensions.

Shapes: N evaluated sentences, M training sentences, B of a block, D latent dimensions, C classes of a label.
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import UserError, too_low
from smim.evaluation import plots as pictures
from smim.evaluation.job import Job, select, split_of_rows
from smim.evaluation.section import Figure, Section, Table, mean
from smim.text.corpus import Split

TITLE = "Labels in the latent space"

_ROWS_PER_BLOCK = 256
_PLOT = "latent_map.png"
# Fewer points have no neighbourhoods that a map could show.
_FEWEST_ON_MAP = 4
# In place of a class's number: a label that training has not, and no label.
_UNSEEN, _NO_LABEL = -1, -2


@dataclass
class RepresentationArgs:
    """Label columns with 2 to `max_classes` values are classified, by `k` of `train_sentences` random sentences.

    `map_sentences`: how many evaluated sentences are on the map, 0 for no map.
    """

    k: int = 5
    train_sentences: int = 20_000
    map_sentences: int = 2_000
    max_classes: int = 50

    def __post_init__(self) -> None:
        problems = too_low(self, "eval.representation", k=1, train_sentences=1, map_sentences=0, max_classes=2)
        if problems:
            raise UserError("; ".join(problems))


@dataclass(frozen=True)
class Chosen:
    """The label columns to classify with their classes, ascending; and why others are not classified."""

    classes: dict[str, list[str]]
    left_out: dict[str, str]


def evaluate(job: Job, args: RepresentationArgs, plots: Path) -> Section:
    """Accuracy for each label column, beside that of the most frequent label; called on all processes."""
    train = job.train_split
    chosen = choose_columns(job.split, train, max_classes=args.max_classes)
    figures: dict[str, Figure] = {}
    notes = [_left_out(chosen)] if chosen.left_out else []
    if train is not None and chosen.classes:
        rows = job.sample(len(train), args.train_sentences)
        sample = split_of_rows(train, rows, name="representation_train")
        for column, classes in chosen.classes.items():
            accuracies, without_label = _classify(job, sample, column, classes, k=args.k)
            figures |= accuracies
            if without_label:
                notes.append(f"{without_label:,} evaluated sentences have no `{column}` and are left out of it.")
        if figures:
            notes.insert(0, _method(job, args, num_train=len(sample)))
    if not figures:
        notes.insert(0, _not_evaluated(job, train))
    shown, problem = _map(job, args, list(chosen.classes), plots / _PLOT)
    notes += [problem] if problem else []
    tables = [_table(figures, chosen)] if figures else []
    return Section(TITLE, figures=figures, notes=notes, tables=tables, plots={_PLOT: shown} if shown else {})


def choose_columns(split: Split, train: Split | None, *, max_classes: int) -> Chosen:
    """The label columns of `split` that have 2 to `max_classes` values over `train`, or over itself without one."""
    counted = split if train is None else train
    classes, left_out = {}, {}
    for column in split.label_columns:
        if column not in counted.label_columns:
            left_out[column] = "the training sentences have none"
        elif pa.types.is_nested(counted.table.schema.field(column).type):
            left_out[column] = "not a single value"
        else:
            found = _classes(counted.table.column(column), max_classes)
            if found is None:
                left_out[column] = f"more than {max_classes} values"
            elif len(found) < 2:
                left_out[column] = "fewer than two values"
            else:
                classes[column] = found
    return Chosen(classes, left_out)


def _classes(column: pa.ChunkedArray, limit: int) -> list[str] | None:
    """A column's distinct values as text, or None where they are more than `limit`: no more are ever held."""
    found: set[str] = set()
    for chunk in column.chunks:
        found |= set(pc.unique(chunk).drop_null().cast(pa.string()).to_pylist())
        if len(found) > limit:
            return None
    return sorted(found)


def class_numbers(column: pa.ChunkedArray, classes: list[str]) -> np.ndarray:
    """Each label's place in `classes`, int64 [N]; negative where it is none of them, or there is no label."""
    text = column.cast(pa.string())
    places = pc.fill_null(pc.index_in(text, value_set=pa.array(classes, pa.string())), _UNSEEN).to_numpy()
    return np.where(pc.is_valid(text).to_numpy(), places, _NO_LABEL).astype(np.int64)


def _classify(job: Job, sample: Split, column: str, classes: list[str], *, k: int) -> tuple[dict[str, Figure], int]:
    """The two figures of one column, and how many evaluated sentences have no label in it.

    No figures where no evaluated sentence, or none of the training sample, has a label.
    """
    train_classes = class_numbers(sample.table.column(column), classes)
    true_classes = class_numbers(job.split.table.column(column), classes)
    train_rows, rows = np.flatnonzero(train_classes >= 0), np.flatnonzero(true_classes != _NO_LABEL)
    without_label = len(true_classes) - len(rows)
    train_means = job.posterior(sample).mean.numpy()[train_rows]
    means = job.posterior().mean.numpy()
    if not len(train_rows) or not len(rows):
        return {}, without_label
    neighbours = Neighbours(train_means, train_classes[train_rows], k=k)
    blocks = [
        np.arange(start, min(start + _ROWS_PER_BLOCK, len(rows))) for start in range(0, len(rows), _ROWS_PER_BLOCK)
    ]
    # Whole blocks, the same on any number of processes: FAISS rounds differently for other numbers of queries.
    own = [blocks[i] for i in job.share(len(blocks))]
    hits = [neighbours.classify(means[rows[block]]) == true_classes[rows[block]] for block in own]
    places = np.concatenate([np.empty(0, np.int64), *own])
    correct = job.gather(places, np.concatenate([np.empty(0, bool), *hits]), total=len(rows))
    majority = np.bincount(train_classes[train_rows]).argmax()
    names = f"knn_accuracy:{column}", f"majority_accuracy:{column}"
    return {
        names[0]: mean(names[0], correct),
        names[1]: mean(names[1], true_classes[rows] == majority),
    }, without_label


class Neighbours:
    """Classifies codes by a vote of the `k` nearest of M training codes [M, D] with classes [M]."""

    def __init__(self, codes: np.ndarray, classes: np.ndarray, *, k: int) -> None:
        # FAISS multiplies out |a - b|^2; far from the origin the difference would drown in fp32.
        self._centre = codes.mean(0, dtype=np.float64).astype(np.float32)
        self._classes = classes
        self._k = min(k, len(codes))
        self._index = faiss.IndexFlatL2(codes.shape[1])
        self._index.add(codes - self._centre)

    def classify(self, codes: np.ndarray) -> np.ndarray:
        """The class of each code [B, D], int64 [B], by Euclidean distance."""
        _, found = self._index.search(codes - self._centre, self._k)
        return vote(self._classes[found])


def vote(classes: np.ndarray) -> np.ndarray:
    """The most frequent class among each row's neighbours [B, k], nearest first; of several, that of the nearest."""
    votes = (classes[:, :, None] == classes[:, None, :]).sum(2)
    # `argmax` takes the first, so the nearest, of those with the most votes.
    return classes[np.arange(len(classes)), votes.argmax(1)]


def _map(job: Job, args: RepresentationArgs, columns: list[str], output: Path) -> tuple[str, str]:
    """Draws the map on the main process; its caption, or else why there is none."""
    if not args.map_sentences:
        return "", ""
    rows = job.sample(len(job.split), args.map_sentences, stream=1)
    # Draws, not means: what a collapsed code says of its sentence is drowned in its own variance.
    codes = job.draw(select(job.posterior(), rows, "cpu"), rows, number=0).numpy()
    if len(rows) < _FEWEST_ON_MAP or codes.shape[1] < 2 or not codes.std(0).any():
        return "", "There is no map: it takes a few sentences, and codes of two dimensions or more that differ."
    if job.is_main:
        pictures.latent_map(codes, _colourings(job.split, rows, columns), output, seed=job.seed % 2**32)
    what = "codes" if job.model.deterministic else "draws of z"
    return f"t-SNE map of the {what} of {len(rows):,} evaluated sentences", ""


def _colourings(split: Split, rows: np.ndarray, columns: list[str]) -> dict[str, np.ndarray]:
    """What the map's points are coloured by: the labels, or the length where there are none."""
    chosen = split.table.select(columns).take(pa.array(rows))
    labels = {
        column: np.array(pc.fill_null(chosen.column(column).cast(pa.string()), "(no label)").to_pylist())
        for column in columns
    }
    return labels or {"tokens of the sentence": split.lengths[rows]}


def _method(job: Job, args: RepresentationArgs, *, num_train: int) -> str:
    return (
        f"Each of the {len(job.split):,} evaluated sentences gets the label that most of the {args.k} nearest among "
        f"{num_train:,} training sentences have (Euclidean distance between the means of q(z|x))."
    )


def _not_evaluated(job: Job, train: Split | None) -> str:
    if train is None:
        return f"Not evaluated: `{job.corpus.name}` has no split `train` beside the evaluated one to learn from."
    return (
        f"Not evaluated: `{job.corpus.name}` has no label column with few values; name such columns when you "
        f"prepare it (`corpus.label_columns=[...]`)."
    )


def _left_out(chosen: Chosen) -> str:
    reasons = ", ".join(f"`{column}` ({reason})" for column, reason in chosen.left_out.items())
    return f"Label columns that are left out: {reasons}."


def _table(figures: dict[str, Figure], chosen: Chosen) -> Table:
    rows = []
    for column, classes in chosen.classes.items():
        found = [figures.get(f"{kind}_accuracy:{column}") for kind in ("knn", "majority")]
        if all(found):
            rows.append([column, str(len(classes)), *(f"{figure.value:.3f}" for figure in found if figure)])
    header = ["label", "classes", "nearest codes", "most frequent label"]
    return Table("Share of right labels", header, rows)
