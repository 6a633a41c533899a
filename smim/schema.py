"""Conversion of JSON to dataclasses: each field must exist and have its type, and no other field may exist."""

import operator
from dataclasses import MISSING, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from smim.errors import UserError, nearest, not_among

T = TypeVar("T")

_LARGEST = 2**63 - 1
_NAMES = {str: "text", int: "a whole number from 0 to 2**63 - 1", float: "a number", bool: "true or false"}

_BOUNDS = {
    "least": (operator.ge, "at least"),
    "most": (operator.le, "at most"),
    "above": (operator.gt, "above"),
    "below": (operator.lt, "below"),
}


def make(cls: type[T], content: Any, path: Path, *, at: str = "", others: bool = False) -> T:
    """Make an object of the dataclass `cls` from JSON. Raises `UserError` that names the file and the field.

    A field is text, a number, a list, a dictionary, a dataclass, one of these or None, or `Any`. If the dataclass
    raises a `UserError`, its message gets the file too. `at`: the place of the content in the file. `others`: allow
    fields that the dataclass does not have. A value may already be an object of its dataclass.
    """
    return _made(cls, content, path, at, others)


def changed(settings: Any) -> dict[str, Any]:
    """Return the settings of a dataclass that differ from its defaults, by name. Nested ones are `inside.name`.

    If a nested dataclass has another class than the default, its `name` is included. Its settings are then compared
    with the defaults of its own class.
    """
    values: dict[str, Any] = {}
    for each in fields(settings):
        value: Any = getattr(settings, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if hasattr(value, "__dataclass_fields__"):
            own = changed(value) if type(value) is type(default) else {"name": value.name, **changed(value)}
            values |= {f"{each.name}.{name}": setting for name, setting in own.items()}
        elif value != default:
            values[each.name] = value
    return values


def bounded(default: Any, **bounds: Any) -> Any:
    """Make a dataclass field with bounds (`least`, `most`, `above`, `below`), or with valid words (`among`)."""
    return field(default=default, metadata=bounds)


def out_of_bounds(settings: Any, section: str) -> list[str]:
    """Return a message for each field of a dataclass that is out of its bounds. Fields that are None are ignored."""
    problems = [
        f"{section}.{each.name} is {value}, but it must be {words} {each.metadata[bound]}"
        for each in fields(settings)
        if (value := getattr(settings, each.name)) is not None
        for bound, (holds, words) in _BOUNDS.items()
        if bound in each.metadata and not holds(value, each.metadata[bound])
    ]
    among = {each.name: each.metadata["among"] for each in fields(settings) if "among" in each.metadata}
    return problems + not_among(settings, section, **among)


def _made(kind: Any, value: Any, path: Path, at: str, others: bool) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:  # only unions with None occur
        [other] = [part for part in parts if part is not NoneType]
        return None if value is None else _made(other, value, path, at, others)
    if is_dataclass(value) and isinstance(value, kind):
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        return _object(kind, value, path, at, others)
    if origin in (list, tuple) and isinstance(value, list):
        if parts[0] is str and all(type(each) is str for each in value):
            return origin(value)  # a fast path for long vocabularies
        return [_made(parts[0], each, path, f"{at}[{i}]", others) for i, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {name: _made(parts[1], each, path, f"{at}[{name!r}]", others) for name, each in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    # In Python, booleans are integers too.
    if type(value) is not kind or (kind is int and not 0 <= value <= _LARGEST):
        _refuse(
            path, f"{at or 'the content'} is {repr(value)[:60]}, but it must be {_NAMES.get(kind, 'of another type')}"
        )
    return value


def _object(cls: Any, content: dict[str, Any], path: Path, at: str, others: bool) -> Any:
    known = {field.name: field.default is MISSING and field.default_factory is MISSING for field in fields(cls)}
    prefix = f"{at}." if at else ""
    for name in content:
        if name not in known and not others:
            _refuse(path, f"{prefix}{name[:60]} is not known; {nearest(name[:60], list(known))}")
    for name, needed in known.items():
        if needed and name not in content:
            _refuse(path, f"{prefix}{name} is missing")
    hints = get_type_hints(cls)
    values = {
        name: _made(hints[name], value, path, prefix + name, others) for name, value in content.items() if name in known
    }
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{path}: {error}; it was edited or damaged") from None


def _refuse(path: Path, problem: str) -> NoReturn:
    raise UserError(f"{path}: {problem}; it was edited or damaged")
