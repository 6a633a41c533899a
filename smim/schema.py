"""Convert JSON to the dataclass that describes it: each field must exist and have its type, and no other may exist."""

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
    """The object of the dataclass `cls` that JSON describes; raises `UserError` that names the file and the field.

    Fields are text, numbers, lists and dictionaries, dataclasses, any of them or None, or `Any`. Errors that the
    dataclass raises are reported with the file too. `at`: the content's place in the file. `others`: allow fields that
    the dataclass does not have. A field may be a dataclass that exists already.
    """
    return _made(cls, content, path, at, others)


def changed(settings: Any) -> dict[str, Any]:
    """The settings of a dataclass that differ from its defaults, by name; nested ones as `inside.name`.

    If a nested dataclass has another class than by default, its `name` is included, and its own defaults count.
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
    """A dataclass field with bounds: `least`, `most`, `above` and `below`, or the words that it is `among`."""
    return field(default=default, metadata=bounds)


def out_of_bounds(settings: Any, section: str) -> list[str]:
    """A message for each field of a dataclass that is out of its bounds; a field that is None is not set."""
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
            return origin(value)  # fast path: a vocabulary is long
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
