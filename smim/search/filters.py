"""Filters on labels: `{"stars": {"$gte": 4}, "topic": ["money", "home"]}`, applied inside of a search.

The operators are those that MongoDB has and vector databases took over: `$eq $ne $gt $gte $lt $lte $in $nin` and
`$contains` on a column, `$and $or $not` around filters. A bare value means `$eq`, a list `$in`; several columns must
all pass. A row whose label is missing passes no comparison, only `{"column": None}`.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import UserError, nearest

Where = Mapping[str, Any]

_COMPARE: dict[str, Callable[[pc.Expression, Any], pc.Expression]] = {
    "$eq": lambda column, value: column.is_null() if value is None else column == value,
    "$ne": lambda column, value: column.is_valid() if value is None else column != value,
    "$gt": lambda column, value: column > value,
    "$gte": lambda column, value: column >= value,
    "$lt": lambda column, value: column < value,
    "$lte": lambda column, value: column <= value,
    "$in": lambda column, values: _among(column, _listed(values, "$in")),
    "$nin": lambda column, values: ~_among(column, _listed(values, "$nin")) & column.is_valid(),
    "$contains": lambda column, text: pc.match_substring(column, text, ignore_case=True),
}
_COMBINE = ("$and", "$or", "$not")
_TEXT = "text"
_DEEPEST = 100
# For values of another kind, whole numbers beyond 64 bits, and text that UTF-8 cannot hold.
_NOT_COMPARED = (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError)


def expression(where: Where, columns: list[str], depth: int = 0) -> pc.Expression:
    """The filter as an Arrow expression; raises `UserError` for what is no filter on `columns` or `text`."""
    if not isinstance(where, Mapping):
        raise UserError(f"a filter is an object such as {{'stars': {{'$gte': 4}}}}, not {where!r}")
    if depth > _DEEPEST:
        raise UserError(f"the filter is nested more than {_DEEPEST} levels deep")
    parts = [_part(key, value, columns, depth) for key, value in where.items()]
    return reduce(lambda one, other: one & other, parts) if parts else pc.scalar(True)


def rows_that_pass(where: Where, rows: pa.Table | pa.RecordBatch) -> np.ndarray:
    """Which of the rows pass, bool [N]; raises `UserError` where a value cannot be compared with its column."""
    columns = [name for name in rows.schema.names if name != _TEXT]
    condition = expression(where, columns)
    try:
        passing = (
            pa.table(rows.columns, schema=rows.schema)
            .append_column("__row", pa.array(np.arange(rows.num_rows)))
            .filter(condition)
        )
    except _NOT_COMPARED as error:
        types = ", ".join(f"{name} is {rows.schema.field(name).type}" for name in columns)
        raise UserError(
            f"the filter {dict(where)!r} does not fit the labels, of which {types}: {_first_line(error)}"
        ) from None
    mask = np.zeros(rows.num_rows, dtype=bool)
    mask[passing.column("__row").to_numpy()] = True
    return mask


def _part(key: str, value: Any, columns: list[str], depth: int) -> pc.Expression:
    if key in ("$and", "$or"):
        parts = [expression(each, columns, depth + 1) for each in _listed(value, key)]
        if not parts:
            raise UserError(f"{key} in a filter needs a list of filters")
        return reduce((lambda one, other: one & other) if key == "$and" else (lambda one, other: one | other), parts)
    if key == "$not":
        return ~pc.coalesce(expression(value, columns, depth + 1), pc.scalar(False))
    if key not in (*columns, _TEXT):
        raise UserError(f"no column {key!r} to filter by; {nearest(str(key), [*columns, _TEXT, *_COMBINE])}")
    column = pc.field(key)
    if isinstance(value, Mapping):
        comparisons = [_comparison(column, operator, operand) for operator, operand in value.items()]
        if not comparisons:
            raise UserError(f"the filter on {key!r} is empty; write for example {{'{key}': {{'$eq': 1}}}}")
        return reduce(lambda one, other: one & other, comparisons)
    return _comparison(column, "$in" if isinstance(value, list | tuple) else "$eq", value)


def _comparison(column: pc.Expression, operator: str, operand: Any) -> pc.Expression:
    if operator not in _COMPARE:
        raise UserError(f"unknown operator {operator!r} in a filter; {nearest(str(operator), list(_COMPARE))}")
    if isinstance(operand, Mapping) or (operator == "$contains" and not isinstance(operand, str)):
        raise UserError(f"{operator} in a filter cannot compare with {operand!r}")
    try:
        return _COMPARE[operator](column, operand)
    except _NOT_COMPARED as error:
        raise UserError(f"{operator} in a filter cannot compare with {operand!r}: {_first_line(error)}") from None


def _among(column: pc.Expression, values: list[Any]) -> pc.Expression:
    # An empty list has no type that Arrow could compare with the column's.
    return column.isin(values) if values else pc.scalar(False)


def _listed(values: Any, operator: str) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise UserError(f"{operator} in a filter needs a list, not {values!r}")
    return list(values)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
