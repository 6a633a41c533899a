"""Labels: columns of text, numbers or booleans, whose values are exact or missing."""

import math
import reprlib
from collections.abc import Collection
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from smim.errors import RowError, UserError, refuse_if

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
shown = _REPR.repr

_KINDS = {
    "text": lambda type: pa.types.is_string(type) or pa.types.is_large_string(type),
    "a number": lambda type: pa.types.is_integer(type) or pa.types.is_floating(type),
    "true or false": pa.types.is_boolean,
}


def plain(value: Any) -> Any:
    """Convert a value to Python's own type, and missing values (NaN, NaT, pandas' NA) to None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return plain(value.item())
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, np.datetime64 | np.timedelta64) and np.isnat(value):
        return None
    try:
        return value if pa.scalar(value, from_pandas=True).is_valid else None
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return value


def jsonable(value: Any) -> Any:
    """Convert a value for JSON: no NaN, no infinity (arrays hold none), and dates and the like as text."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_dataclass(value):
        return jsonable(vars(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [jsonable(each) for each in value]
    if isinstance(value, dict):
        return {str(key): jsonable(each) for key, each in value.items()}
    return value if value is None or isinstance(value, str | int) else str(value)


def kind_of(type: pa.DataType) -> str:
    """The kind of a type. Values of one kind can be compared, and can share a column."""
    return next((kind for kind, is_kind in _KINDS.items() if is_kind(type)), str(type))


def kind_of_value(value: Any) -> str:
    """The kind of a plain value; raises `ValueError` or `TypeError` for a value that Arrow does not know."""
    if isinstance(value, str | bool | int | float):
        return "true or false" if isinstance(value, bool) else "text" if isinstance(value, str) else "a number"
    return kind_of(pa.scalar(value).type)


def fits(value: Any, type: pa.DataType) -> bool:
    """Whether a column of this type holds a plain value of its kind exactly."""
    try:
        return pa.scalar(value, type).as_py() == value
    except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
        return False


def label_column(name: str, values: Any, count: int, type: pa.DataType | None = None) -> pa.Array:
    """Labels as a column of the given type, or of the type that they have.

    Raises `UserError` unless there is one for each of `count` sentences, and all fit that type exactly, or one common
    type.
    """
    refuse_if({
        f"the name of a label column must be text, not {shown(name)}":
            not isinstance(name, str) or not fits(name, pa.string()),
        f"the labels {shown(name)} must have one value for each of {count} sentences":
            isinstance(values, str) or not isinstance(values, Collection) or len(values) != count,
    })  # fmt: skip
    labels = [plain(value) for value in values]
    given = [(row, value) for row, value in enumerate(labels) if value is not None]
    if type is None and not given:
        raise UserError(f"all labels {name!r} are missing, so their type is unknown; give one, or leave the column out")
    others = "one another" if type is None else "the index's"
    for row, value in given:
        if not isinstance(value, str | bool | int | float) or (isinstance(value, float) and math.isinf(value)):
            raise RowError(
                f"the labels {name!r} must be text, finite numbers, or true and false, not {shown(value)}", row
            )
        if kind_of_value(value) != (kind_of(type) if type else kind_of_value(given[0][1])):
            raise RowError(f"the labels {name!r} do not fit {others}: {shown(value)} is {kind_of_value(value)}", row)
    column = type or pa.infer_type([value for _, value in given])
    for row, value in given:
        if not fits(value, column):
            raise RowError(f"the labels {name!r} do not fit {others}: {column} cannot hold {shown(value)} exactly", row)
    return pa.array(labels, column)


def with_types(rows: pa.Table) -> pa.Schema:
    """The schema of a corpus's rows, where text labels that are all numbers, or all booleans, get such a type.

    Filters can then compare them, as the same labels from a JSON file. Labels that would not convert back to the same
    text (`007`, `1.50`) stay text, and so does a column without values.
    """
    schema = rows.schema
    for i, field in enumerate(schema):
        column = rows.column(i)
        if field.name == "text" or kind_of(field.type) != "text" or column.null_count == len(column):
            continue
        types = (pa.int64(), pa.float64(), pa.bool_())
        fitting = (type for type in types if all(_reads_as(type, chunk) for chunk in column.chunks))
        schema = schema.set(i, pa.field(field.name, next(fitting, field.type)))
    return schema


def _reads_as(type: pa.DataType, labels: pa.Array) -> bool:
    if pa.types.is_floating(type):
        # Accept numbers as Python and JSON write them. Arrow writes them differently.
        return all(_is_number(text) for text in labels.unique().drop_null().to_pylist())
    try:
        return labels.cast(type).cast(labels.type).equals(labels)
    except pa.ArrowInvalid:
        return False


def _is_number(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and text in (repr(number), str(int(number)))
