"""Sets of sentences with people's judgements of their meaning, read from the user's files and checked.

A file is called `NAME-SPLIT.tsv` or `NAME.SPLIT.tsv`. It may be compressed, and has no header. The fields of its lines
decide which metrics are computed; docs/evaluation.md has the table.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from smim import storage
from smim.errors import UserError
from smim.evaluation.answering import read_candidates
from smim.evaluation.job import sample
from smim.preparation.args import as_paths
from smim.preparation.readers.base import Intake, Piece, reading
from smim.preparation.readers.chunks import read_chunks, text_lines
from smim.preparation.readers.files import find_files
from smim.text.corpus import Split

SIMILARITY, PARAPHRASES, CLASSES, PAIRS, ANSWERS = KINDS = (
    "similarity", "paraphrases", "classes", "pairs", "answers"
)  # fmt: skip
_SPLITS = {"train": "train", "dev": "dev", "valid": "dev", "validation": "dev", "test": "test"}
_NAME = re.compile(rf"(.+)[-._]({'|'.join(_SPLITS)})")
_LINES = (
    "a score, 2 sentences; 1 or 0, 2 sentences; a class's number, a sentence; 2 sentences; "
    "a question's number, 1 or 0, question, answer"
)


@dataclass(frozen=True)
class Rows:
    """The rows of a set. `texts`: one or two columns of N texts.

    `values` fp64 [N]: the score, the class, or 1 if the second text is right. `groups` int64 [N]: for answers, the
    number of their question.
    """

    texts: tuple[list[str], ...]
    values: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class SemanticSet:
    """One set: the `evaluated` rows, and the rows to fit classifiers on, `train` and `dev`, if there are any.

    `name`: such as "stsb-dev". `kind`: one of `KINDS`. `files`: the files that were read. If `evaluated` is `train`,
    classifiers are cross-validated.
    """

    name: str
    kind: str
    evaluated: Rows
    train: Rows | None
    dev: Rows | None
    files: tuple[Path, ...]

    @property
    def texts(self) -> list[str]:
        """All distinct texts, in the order of the rows."""
        parts = [rows for rows in (self.evaluated, self.train, self.dev) if rows]
        return list(dict.fromkeys(text for rows in parts for column in rows.texts for text in column))

    @property
    def sentences(self) -> list[str]:
        """The distinct texts that are evaluated."""
        return list(dict.fromkeys(text for column in self.evaluated.texts for text in column))

    def some(self, limit: int) -> list[str]:
        """Choose `limit` random `sentences`, always the same ones, or all if there are not more."""
        sentences = self.sentences
        return [sentences[i] for i in sample(len(sentences), limit, seed=0)]


def files_of(paths: object) -> list[Path]:
    """List the .tsv files in a path or a list of paths. Raises `UserError` if a path is given but has none."""
    given = as_paths(paths)
    found = [path for path in find_files(given) if ".tsv" in path.suffixes]
    if given and not found:
        raise UserError(f"no .tsv or .tsv.gz in {', '.join(given)}; give files called NAME-dev.tsv or NAME-test.tsv")
    return found


def read_sets(paths: object, split: str = "dev", *, max_pairs: int = 1000, seed: int = 0) -> list[SemanticSet]:
    """Read the sets in files or folders, to evaluate `split`, "dev" or "test".

        read_sets("semantic/", "dev")

    If a set has no file for dev, "dev" evaluates its train. Pairs that share sentences form groups. One pair of each
    group is used, and at most `max_pairs` of these, drawn by `seed`. If the name of a file of pairs has no split, half
    of its pairs are dev and half are test. Raises `UserError` for files or lines of an unknown form, and for a set that
    lacks a split.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in files_of(paths):
        stem = path.name.partition(".tsv")[0]
        matched = _NAME.fullmatch(stem)
        name, part = (matched[1], _SPLITS[matched[2]]) if matched else (stem, "")
        other = files.setdefault(name, {}).setdefault(part, path)
        if other is not path:
            raise UserError(f"{other} and {path} are the same set and split; give one of them")
    return [_set(name, parts, split, max_pairs, seed) for name, parts in files.items()]


def _set(name: str, files: dict[str, Path], split: str, max_pairs: int, seed: int) -> SemanticSet:
    read = {part: _read(path) for part, path in files.items()}
    [kind, *others] = dict.fromkeys(kind for kind, _ in read.values())
    if others:
        kinds = " and of ".join([kind, *others])
        raise UserError(
            f"{', '.join(map(str, files.values()))}: the files of one set hold lines of {kinds}; give them "
            f"different names"
        )
    rows = {part: each for part, (_, each) in read.items()}
    if kind == PAIRS:
        rows = {part: _one_a_group(each) for part, each in rows.items()}
        if "" in rows:
            rows |= _halves(rows.pop(""))
    evaluated = rows.get(split) or (rows.get("train") if split == "dev" else None)
    if evaluated is None or (kind == CLASSES and "train" not in rows):
        missing = "train" if evaluated else split
        given = ", ".join(path.name for path in files.values())
        raise UserError(
            f"the set {name!r} has no {missing} split, only {given}; add a file called {name}-{missing}.tsv"
        )
    if kind == PAIRS:
        chosen = sample(len(evaluated), max_pairs, seed=seed)
        evaluated = _taken(evaluated, chosen)
    fitted = (rows.get("train"), rows.get("dev")) if kind in (PARAPHRASES, CLASSES) else (None, None)
    return SemanticSet(f"{name}-{split}", kind, evaluated, *fitted, files=tuple(files.values()))


def _read(path: Path) -> tuple[str, Rows]:
    lines = _lines(path)
    kind = _kind(lines[0][1])
    if kind is None:
        raise UserError(
            f"{path}, line {lines[0][0]}: {len(lines[0][1])} fields of an unknown form; separate the fields of one of "
            f"these forms by tabs: {_LINES}"
        )
    width = len(lines[0][1])
    for number, fields in lines:
        if len(fields) != width:
            raise UserError(f"{path}, line {number}: {len(fields)} fields, but the first line has {width}; correct it")
    columns = [list(column) for column in zip(*(fields for _, fields in lines), strict=True)]
    if kind == PAIRS:
        return kind, Rows((columns[0], columns[1]), np.ones(len(lines)))
    if kind == ANSWERS:
        return kind, _answers(path, columns)
    values = np.array([_number(fields[0], path, number) for number, fields in lines])
    if kind == CLASSES:
        return kind, Rows((columns[1],), values)
    kind = PARAPHRASES if set(values) <= {0, 1} else SIMILARITY
    return kind, Rows((columns[1], columns[2]), values)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Read the fields of each line that is not empty, with its number."""
    intake = Intake(path, skip_bad=True)
    with reading(path):
        chunks = read_chunks(Piece(path), intake)
        lines = [line.split("\t") for chunk in chunks for _, line in text_lines(chunk, intake)]
    if intake.left_out:
        raise UserError(f"{path} has lines that are no text in UTF-8, correct them: {', '.join(intake.left_out)}")
    found = [(number, fields) for number, fields in enumerate(lines, start=1) if any(fields)]
    if not found:
        raise UserError(f"{path} is empty; give a file with sentences")
    return found


def _kind(fields: Sequence[str]) -> str | None:
    """Recognise a file's kind by the fields of its first line. `_read` finds paraphrases, whose scores are 0 and 1."""
    numbered = _is_number(fields[0])
    if len(fields) == 2:
        return CLASSES if numbered else PAIRS
    if len(fields) == 4 and fields[1] in ("0", "1"):
        return ANSWERS
    # A fourth column, such as SICK's entailment, is not used.
    return SIMILARITY if len(fields) in (3, 4) and numbered else None


def _is_number(field: str) -> bool:
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False


def _number(field: str, path: Path, line: int) -> float:
    if not _is_number(field):
        raise UserError(f"{path}, line {line}: the first field is {field[:40]!r}, but must be a number")
    return float(field)


def _answers(path: Path, columns: Iterable[list[str]]) -> Rows:
    names = ("group", "label", "question", "answer")
    found = read_candidates(Split(str(path), pa.table(dict(zip(names, columns, strict=True)))))
    if not len(found):
        raise UserError(f"{path} has no question with a right answer, which has 1 in the second field")
    return Rows((found.questions, found.answers), found.right.astype(np.float64), found.groups)


def _one_a_group(rows: Rows) -> Rows:
    """Select the first pair of each group of connected sentences. Then each other second sentence is a wrong match."""
    first, second = rows.texts
    texts, numbers = np.unique([*first, *second], return_inverse=True)
    ends = numbers.reshape(2, -1)
    graph = coo_array((np.ones(len(rows)), ends), shape=(len(texts), len(texts)))
    groups = connected_components(graph, directed=False)[1][ends[0]]
    return _taken(rows, np.sort(np.unique(groups, return_index=True)[1]))


def _halves(rows: Rows) -> dict[str, Rows]:
    odd = np.array([hashlib.sha256(text.encode()).digest()[0] % 2 for text in rows.texts[0]], dtype=bool)
    return {name: _taken(rows, np.flatnonzero(chosen)) for name, chosen in (("dev", odd), ("test", ~odd))}


def _taken(rows: Rows, chosen: np.ndarray) -> Rows:
    return Rows(tuple([column[i] for i in chosen] for column in rows.texts), rows.values[chosen])


def describe(sets: Sequence[SemanticSet]) -> list[list[str]]:
    """Make a row for each set: its name, kind, evaluated rows, and its files with the beginnings of their hashes."""
    return [
        [
            each.name,
            each.kind,
            f"{len(each.evaluated):,} rows" + (", cross-validated" if each.evaluated is each.train else ""),
            ", ".join(f"{path.name} {storage.sha256(path)[:8]}" for path in each.files),
        ]
        for each in sets
    ]
