"""JSON becomes the dataclass that owns it, or one message that names the file and the field."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from smim import schema
from smim.errors import UserError

PATH = Path("card.json")


@dataclass(frozen=True)
class Part:
    name: str
    rows: int

    def __post_init__(self) -> None:
        if self.rows > 100:
            raise UserError(f"{self.rows} rows are too many")


@dataclass(frozen=True)
class Card:
    parts: list[Part]
    sizes: dict[str, int]
    share: float
    done: bool
    words: tuple[str, ...] = ()
    memory: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


GOOD: dict[str, Any] = {"parts": [{"name": "a", "rows": 2}], "sizes": {"x": 1}, "share": 1, "done": True}


def test_what_fits_becomes_the_dataclass() -> None:
    card = schema.make(Card, {**GOOD, "words": ["b", "c"], "memory": None, "facts": {"any": [None]}}, PATH)
    assert card == Card([Part("a", 2)], {"x": 1}, 1.0, True, ("b", "c"), None, {"any": [None]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"done": None}, "card.json: done is None, but it must be true or false"),
        ({"done": 1}, "done is 1, but it must be true or false"),
        ({"share": "1"}, "share is '1', but it must be a number"),
        ({"sizes": {"x": True}}, r"sizes\['x'\] is True, but it must be a whole number"),
        ({"sizes": {"x": -1}}, r"sizes\['x'\] is -1, but it must be a whole number"),
        ({"memory": 2**63}, "memory is 9223372036854775808, but it must be a whole number"),
        ({"words": ["a", 1]}, r"words\[1\] is 1, but it must be text"),
        ({"words": "abc"}, "words is 'abc'"),
        ({"parts": [{"name": "a", "rows": 1.0}]}, r"parts\[0\]\.rows is 1\.0, but it must be a whole number"),
        ({"parts": [{"name": "a"}]}, r"parts\[0\]\.rows is missing"),
        ({"parts": [{"name": "a", "rows": 101}]}, "card.json: 101 rows are too many"),
        ({"parts": {}}, "parts is {}"),
        ({"part": []}, "part is not known; did you mean 'parts'"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        schema.make(Card, {**GOOD, **changes}, PATH)


def test_other_fields_are_passed_over_where_they_may_be_there() -> None:
    assert schema.make(Card, {**GOOD, "note": 1}, PATH, others=True) == schema.make(Card, GOOD, PATH)


@dataclass(frozen=True)
class Kind:
    name: str


@dataclass(frozen=True)
class Usual(Kind):
    name: str = "usual"
    size: int = 1


@dataclass(frozen=True)
class Other(Kind):
    name: str = "other"
    share: float = 0.5


@dataclass(frozen=True)
class Settings:
    seed: int
    kind: Kind = field(default_factory=Usual)
    words: list[str] = field(default_factory=list)


def test_what_is_changed_is_named_by_its_place() -> None:
    assert schema.changed(Settings(0)) == {"seed": 0}
    assert schema.changed(Settings(0, Usual(size=2), ["a"])) == {"seed": 0, "kind.size": 2, "words": ["a"]}
    assert schema.changed(Settings(0, Other())) == {"seed": 0, "kind.name": "other"}
    assert schema.changed(Settings(0, Other(share=0.1))) == {"seed": 0, "kind.name": "other", "kind.share": 0.1}


def test_a_dataclass_that_was_made_already_may_be_a_field() -> None:
    assert schema.make(Settings, {"seed": 1, "kind": Other()}, PATH) == Settings(1, Other())
