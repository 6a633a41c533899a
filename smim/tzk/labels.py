"""Labels, written `column=value`, and which rows of a prepared corpus have them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import UserError, nearest
from smim.text.corpus import Split

# The number of values of a column, the most frequent ones, that an error message shows.
_SHOWN_VALUES = 20


@dataclass(frozen=True, order=True)
class Label:
    """A value of a label column, written as `stars=5`."""

    column: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Label":
        """Parse `column=value`. Raises `UserError` for other texts."""
        column, _, value = text.partition("=")
        if not column or not value:
            raise UserError(f"{text!r} is no label; write column=value")
        return cls(column, value)

    def __str__(self) -> str:
        return f"{self.column}={self.value}"


@dataclass(frozen=True)
class LabelledRows:
    """The row numbers of a split without a label, and those with it; int64 each.

    Rows without a value in the label's column are in neither.
    """

    absent: np.ndarray
    present: np.ndarray

    @property
    def frequency(self) -> float:
        """The label's share of the rows that have a value."""
        return len(self.present) / (len(self.present) + len(self.absent))


def values(split: Split, column: str) -> pa.ChunkedArray:
    """Read a label column as text. If it is missing, raises `UserError` that names the existing ones."""
    if column not in split.label_columns:
        hint = nearest(column, split.label_columns) if split.label_columns else "it was prepared without any"
        raise UserError(f"the split {split.name!r} has no label column {column!r}; {hint}")
    return split.table.column(column).cast(pa.string())


def labelled_rows(split: Split, label: Label, unit: str) -> LabelledRows:
    """Find the rows with and without a label. Raises `UserError` for an unknown column, or if one side is empty.

    `unit`: what the rows are, for messages, such as "sentences".
    """
    column = values(split, label.column)
    equal = pc.equal(column, label.value)
    absent, present = (np.flatnonzero(pc.fill_null(mask, False)) for mask in (pc.invert(equal), equal))
    if not len(present):
        counted = sorted(pc.value_counts(column.drop_null()).to_pylist(), key=lambda each: -each["counts"])
        there = [each["values"] for each in counted[:_SHOWN_VALUES]]
        hint = nearest(label.value, there) if there else "its column is empty"
        raise UserError(f"no {unit} of the split {split.name!r} have {label}; {hint}")
    if not len(absent):
        raise UserError(
            f"all {unit} of the split {split.name!r} have {label}; give a corpus that also has {unit} without it"
        )
    return LabelledRows(absent, present)
