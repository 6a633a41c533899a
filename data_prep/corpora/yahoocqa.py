"""YahooCQA (Tay et al. 2017): questions, each with several candidate answers, one of which is right (section 7.6).

A sentence is "question ? answer", with the columns `group` (the question's number), `label` (1 for the right answer),
`question` and `answer`. All candidates of a question are in the same split.
"""

import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import UserError
from smim.preparation.args import CorpusArgs
from smim.preparation.readers import ChangedReader, Delimited, Piece, Reader, by_split, find_files
from smim.preparation.recipe import Amount, Input, Recipe

_COLUMNS = ("group", "label", "question", "answer")
_PICKLES = (".p", ".pkl", ".pickle")
_SPLITS_OF_PICKLE = {"train": "train", "valid": "dev", "test": "test"}
# The share of training questions that become valid if it has no file.
_VALID_SHARE = 0.1
_ROWS_PER_BLOCK = 10_000
_TABLE = Delimited(delimiter="\t", text_column="3", label_columns=("0", "1", "2"), header=False)


class PairsTable(ChangedReader):
    """A reader of tab-separated group, label, question, answer."""

    def change(self, block: pa.Table, left_out: Counter[str]) -> pa.Table:
        group, label, question = (pc.fill_null(block.column(name), "") for name in ("0", "1", "2"))
        return _pairs(group, label, question, block.column("text"))


@dataclass(frozen=True)
class PairsPickle(Reader):
    """A reader of the published pickle: for each split and question, a list of [answer, 0 or 1]."""

    split: str

    def blocks(self, piece: Piece, *, skip_bad: bool, left_out: Counter[str]) -> Iterator[pa.Table]:
        questions = _load(piece.path).get(self.split)
        rows: list[tuple[str, str, str, str]] = []
        try:
            for group, (question, answers) in enumerate(questions.items()):  # type: ignore[union-attr]
                rows += [(str(group), str(int(label)), str(question), str(answer)) for answer, label in answers]
        except (AttributeError, TypeError, ValueError):
            raise UserError(
                f"{piece.path}: {self.split!r} is not a dictionary of questions with lists of [answer, 0 or 1]"
            ) from None
        for start in range(0, len(rows), _ROWS_PER_BLOCK):
            block = rows[start : start + _ROWS_PER_BLOCK]
            columns = [pa.array(column, pa.string()) for column in zip(*block, strict=True)]
            yield _pairs(*columns)


class _Restricted(pickle.Unpickler):
    """An unpickler that admits only dictionaries, lists, tuples, strings and numbers, so it cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def recipe(args: CorpusArgs) -> Recipe:
    """Make the recipe of a folder or files with train, dev and test in their names, or of the pickle."""
    files = find_files(args.given_paths("FOLDER or FILE"), also=_PICKLES)
    pickles = [path for path in files if path.suffix in _PICKLES]
    if pickles:
        inputs = [Input(split, pickles[0], PairsPickle(name)) for split, name in _SPLITS_OF_PICKLE.items()]
    else:
        inputs = [Input(pool, path, PairsTable(_TABLE)) for pool, paths in by_split(files).items() for path in paths]
    pools = dict.fromkeys(each.pool for each in inputs)
    if not {"train", "test"} <= pools.keys():
        raise UserError(f"YahooCQA needs files with train and test in their names, not {', '.join(map(str, files))}")
    draws: dict[str, dict[str, Amount]] = {pool: {pool: None} for pool in pools}
    notes = []
    if "valid" not in pools:
        draws["train"] = {"valid": _VALID_SHARE, "train": None}
        notes.append(f"there is no file for valid: it gets {_VALID_SHARE:.0%} of the training questions")
    return Recipe(
        inputs=tuple(inputs),
        draws=draws,
        cleaning=dict.fromkeys(pools, args.cleaning),
        label_columns=_COLUMNS,
        draw_by="question",
        notes=tuple(notes),
    )


def _pairs(group: Any, label: Any, question: Any, answer: Any) -> pa.Table:
    asked = pc.if_else(pc.ends_with(question, "?"), question, pc.binary_join_element_wise(question, "?", " "))
    text = pc.binary_join_element_wise(asked, answer, " ")
    return pa.table([text, group, label, question, answer], names=["text", *_COLUMNS])


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            # Python 2 stored strings as bytes.
            loaded = _Restricted(file, encoding="utf-8").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} is not YahooCQA's pickle of dictionaries, lists, strings and numbers ({error}); "
            f"no code in it was run"
        ) from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, but must hold a dictionary of splits")
    return loaded
