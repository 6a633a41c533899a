"""Filters on labels: `{"stars": {"$gte": 4}, "topic": ["money", "home"]}`, applied during a search.

The operators are those of MongoDB, as in many vector databases: `$eq $ne $gt $gte $lt $lte $in $nin` and `$contains`
compare a column, `$and $or $not` combine filters. A bare value means `$eq`, a list means `$in`. If a filter names
several columns, all must pass. A row with a missing label passes no comparison except `{"column": None}`.

A filter is parsed once, into a tree of comparisons. Its cost is linear in the comparisons and in the rows.
"""

import operator
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim.errors import nearest
from smim.search.errors import BadFilter
from smim.search.labels import fits, kind_of, kind_of_value, plain, shown

Where = Mapping[str, Any]

# Limits of one filter, because a larger one would delay other searches. Parts are all entries of lists and objects.
MOST_PARTS, MOST_COMPARISONS, MOST_CONTAINS, DEEPEST = 20_000, 256, 32, 32

_NUMBERS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
_OTHERS = {"$gt": pc.greater, "$gte": pc.greater_equal, "$lt": pc.less, "$lte": pc.less_equal}
_OPERATORS = ["$eq", "$ne", *_NUMBERS, "$in", "$nin", "$contains"]
_OF_ONE = {"$eq": "$in", "$ne": "$nin"}
_EQUALITIES = (*_OF_ONE, *_OF_ONE.values())
_COMBINE = ["$and", "$or", "$not"]


@dataclass(frozen=True)
class Comparison:
    """A comparison by one of `_OPERATORS`; `$eq` and `$ne` are lists of one value."""

    column: str
    operator: str
    values: list[Any]


@dataclass(frozen=True)
class Combination:
    """A combination by one of `_COMBINE`; `$and` of no parts passes every row."""

    operator: str
    parts: "list[Part]"


class _Rows:
    """A batch of rows, with cached values that several comparisons need."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.count, self.column = batch.num_rows, batch.column
        self.valid, self.folded = cache(self._valid), cache(self._folded)

    def _valid(self, name: str) -> np.ndarray:
        # Indexes of older versions hold NaN.
        return ~np.asarray(pc.is_null(self.column(name), nan_is_null=True))

    def _folded(self, name: str) -> pa.Array:
        """The column's texts after `_fold`; only texts that are not ASCII are folded in Python, which is slower."""
        texts = self.column(name)
        others = pc.invert(pc.string_is_ascii(texts))
        folded = [_fold(text) for text in texts.filter(others).to_pylist()]
        return pc.replace_with_mask(pc.ascii_lower(texts), others, pa.array(folded, texts.type))


Part = Comparison | Combination
_Condition = Callable[[_Rows], np.ndarray]


def parse(where: Where) -> Part:
    """Parse a filter into a tree; raises `BadFilter` for an invalid filter and for one above the limits."""
    _check_size(where)
    part = _filter(where)
    operators = [leaf.operator for leaf in _leaves(part)]
    if len(operators) > MOST_COMPARISONS or operators.count("$contains") > MOST_CONTAINS:
        raise BadFilter(
            f"the filter has {len(operators):,} comparisons (a list counts as one), {operators.count('$contains'):,} "
            f"of them $contains; at most {MOST_COMPARISONS} and {MOST_CONTAINS} are allowed"
        )
    return part


def condition(part: Part, schema: pa.Schema) -> Callable[[pa.RecordBatch], np.ndarray]:
    """A function that gives the rows of a batch of this schema that pass, bool [N].

    Raises `BadFilter` for an unknown column, and for a value of another kind than its column.
    """
    passes = _bound(part, schema)
    return lambda batch: passes(_Rows(batch))


def asks_of(part: Part, column: str) -> bool:
    """Whether a filter compares a column."""
    return any(isinstance(leaf, Comparison) and leaf.column == column for leaf in _leaves(part))


def excludes(part: Part) -> bool:
    """Whether a comparison passes rows that differ from its values; all sentences of a text must then differ."""
    return isinstance(part, Comparison) and part.operator == "$nin"


def combined(part: Combination, passing: list[np.ndarray], count: int) -> np.ndarray:
    """Which of `count` rows pass, bool, given the rows that pass each of the parts."""
    if part.operator == "$not":
        return ~passing[0]
    combine, start = (np.logical_and, True) if part.operator == "$and" else (np.logical_or, False)
    return reduce(combine, passing, np.full(count, start))


def _check_size(where: Where) -> None:
    count, waiting = 0, [(where, 1)]
    while waiting:
        each, depth = waiting.pop()
        parts = list(each.values() if isinstance(each, Mapping) else each if isinstance(each, list | tuple) else ())
        count += len(parts)
        if depth > DEEPEST or count > MOST_PARTS:
            raise BadFilter(f"a filter may have at most {MOST_PARTS:,} parts and at most {DEEPEST} nested levels")
        waiting += [(part, depth + 1) for part in parts]


def _filter(where: Where) -> Part:
    if not isinstance(where, Mapping):
        raise BadFilter(f"a filter must be an object such as {{'stars': {{'$gte': 4}}}}, not {shown(where)}")
    return _combined("$and", [_part(key, value) for key, value in where.items()])


def _part(key: str, value: Any) -> Part:
    if key == "$not":
        return Combination("$not", [_filter(value)])
    if key in _COMBINE:
        parts = [_filter(each) for each in _listed(value, key)]
        if not parts:
            raise BadFilter(f"{key} in a filter needs a list of filters")
        return _combined("$and", parts) if key == "$and" else _any(parts)
    if not isinstance(value, Mapping):
        return _comparison(key, "$in" if isinstance(value, list | tuple) else "$eq", value)
    if not value:
        raise BadFilter(f"the filter on {shown(key)} is empty; write for example {{'stars': {{'$eq': 1}}}}")
    return _combined("$and", [_comparison(key, name, operand) for name, operand in value.items()])


def _comparison(column: str, name: str, operand: Any) -> Comparison:
    if name not in _OPERATORS:
        raise BadFilter(f"unknown operator {shown(name)} in a filter; {nearest(str(name)[:60], _OPERATORS)}")
    values = [plain(value) for value in (_listed(operand, name) if name in ("$in", "$nin") else [operand])]
    for value in values:
        comparable = _can_be_compared(value) and (value is not None or name in _EQUALITIES)
        if not comparable or (name == "$contains" and not isinstance(value, str)):
            raise BadFilter(
                f"{name} in a filter cannot compare with {shown(value)}; values must be text without halves of "
                "surrogate pairs, numbers of at most 64 bits, true or false, and for $contains only text"
            )
    return Comparison(column, _OF_ONE.get(name, name), values)


def _can_be_compared(value: Any) -> bool:
    """False for lists and objects, whole numbers beyond 64 bits, and text that UTF-8 cannot encode."""
    try:
        return not pa.types.is_nested(pa.scalar(value).type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False


def _any(parts: list[Part]) -> Part:
    """A filter that passes if one of the parts does; equalities of one column become one list."""
    lists: dict[str, list[Any]] = {}
    others: list[Part] = []
    for part in parts:
        if isinstance(part, Comparison) and part.operator == "$in":
            lists.setdefault(part.column, []).extend(part.values)
        else:
            others.append(part)
    return _combined("$or", [*(Comparison(column, "$in", values) for column, values in lists.items()), *others])


def _combined(name: str, parts: list[Part]) -> Part:
    return parts[0] if len(parts) == 1 else Combination(name, parts)


def _leaves(part: Part) -> Iterator[Part]:
    if isinstance(part, Comparison) or not part.parts:
        yield part
    else:
        for each in part.parts:
            yield from _leaves(each)


def _bound(part: Part, schema: pa.Schema) -> _Condition:
    if isinstance(part, Comparison):
        return _compared(part, schema)
    conditions, combination = [_bound(each, schema) for each in part.parts], part
    return lambda rows: combined(combination, [each(rows) for each in conditions], rows.count)


def _compared(comparison: Comparison, schema: pa.Schema) -> _Condition:
    name, values = comparison.column, comparison.values
    if name not in schema.names:
        raise BadFilter(f"there is no column {shown(name)}; {nearest(str(name)[:60], [*schema.names, *_COMBINE])}")
    type = schema.field(name).type
    if pa.types.is_null(type):  # all labels are missing
        passing = comparison.operator == "$in" and None in values
        return lambda rows: np.full(rows.count, passing)
    kind = kind_of(type)
    for value in values:
        if value is not None and kind_of_value(value) != kind:
            raise BadFilter(f"the filter does not fit the labels: column {name!r} is {type}, but {shown(value)} is not")
    if comparison.operator == "$contains":
        return lambda rows: np.asarray(pc.match_substring(rows.folded(name), _fold(values[0])).fill_null(False))
    if comparison.operator in _NUMBERS:
        return _ordered(name, comparison.operator, values[0], type)
    among = _among(name, values, type)
    return among if comparison.operator == "$in" else lambda rows: rows.valid(name) & ~among(rows)


def _among(name: str, values: list[Any], type: pa.DataType) -> _Condition:
    """Whether a row equals one of the values. Values that the column's type cannot hold equal none."""
    found = [value for value in values if fits(value, type)]
    if pa.types.is_floating(type):  # for Arrow, 0.0 and -0.0 differ in lists
        found += [-float(value) for value in found if value == 0]
    wanted, or_none = pa.array(found, type), None in values

    def among(rows: _Rows) -> np.ndarray:
        equal = np.asarray(pc.is_in(rows.column(name), value_set=wanted))
        return equal | ~rows.valid(name) if or_none else equal

    return among


def _ordered(name: str, order: str, value: Any, type: pa.DataType) -> _Condition:
    if kind_of(type) != "a number":
        return lambda rows: np.asarray(_OTHERS[order](rows.column(name), pa.scalar(value, type)).fill_null(False))
    # Arrow refuses to compare large whole numbers with a fraction.
    fraction = pa.types.is_floating(type) or not float(value).is_integer()
    number = np.float64(value) if fraction else int(value)

    def ordered(rows: _Rows) -> np.ndarray:
        numbers = np.asarray(rows.column(name).fill_null(0))
        return _NUMBERS[order](numbers, number) & rows.valid(name)

    return ordered


def _fold(text: str) -> str:
    """Normalize text for `$contains`: composed (NFC) and case-folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _listed(values: Any, name: str) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise BadFilter(f"{name} in a filter needs a list, not {shown(values)}")
    return list(values)
