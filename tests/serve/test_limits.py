"""What one request may ask for: each limit lets what it names pass, and not one more."""

import json
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import pytest

from smim.cli.serve import serve
from smim.errors import UserError
from smim.search.ids import LARGEST_ID
from smim.search.query import Options, Query
from smim.serve.computing import as_codes
from smim.serve.limits import (
    LARGEST_DEPTH,
    LARGEST_NUMBER,
    LARGEST_SEED,
    Limits,
    check_within,
    too_deep,
)

SMALL = Limits(max_batch=8, max_text=10, max_k=20, max_hits=60, max_num=5, queue_size=8)


def test_the_command_line_and_python_have_the_limits_that_the_docs_name() -> None:
    named = {"max_body": 1_000_000, "max_batch": 256, "max_text": 10_000, "max_k": 1_000, "max_num": 256}
    named["queue_size"] = 1_024
    assert vars(Limits()) == {**named, "max_hits": 10_000}
    assert {name: signature(serve).parameters[name].default for name in named} == named


def search(queries: int, k: int, offset: int = 0, *, explain: bool = False, **settings: int) -> Callable[[], None]:
    return lambda: SMALL.check_search([Query(text="a")] * queries, Options(k, offset, settings=settings, score=explain))


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        (search(8, 7), search(9, 6)),
        (search(1, 1), search(0, 1)),
        (search(1, 1), search(1, 0)),
        (search(1, 1), search(1, 1, -1)),
        (search(1, 20), search(1, 21)),
        (search(1, 12, 8), search(1, 12, 9)),
        (search(3, 20), search(4, 16)),
        (search(6, 5, 5), search(6, 5, 6)),
        (search(2, 4, 9, explain=True), search(3, 3, explain=True)),
        (search(1, 1, nprobe=65_536, ef_search=65_536, refine=32), search(1, 1, nprobe=65_537)),
        (search(1, 1), search(1, 1, ef_search=65_537)),
        (search(1, 1), search(1, 1, refine=33)),
        (lambda: SMALL.check_texts(["a" * 10] * 8), lambda: SMALL.check_texts(["a", "a" * 11])),
        (lambda: SMALL.check_texts(["a"]), lambda: SMALL.check_texts(["a"] * 9)),
        (lambda: SMALL.check_ids([0, LARGEST_ID]), lambda: SMALL.check_ids([0, LARGEST_ID + 1])),
        (lambda: SMALL.check_ids([1]), lambda: SMALL.check_ids([1, -1])),
        (lambda: SMALL.check_ids([1] * 8), lambda: SMALL.check_ids([1] * 9)),
        (lambda: check_within("num", 5, 1, 5), lambda: check_within("num", 6, 1, 5)),
        (lambda: check_within("num", 1, 1, 5), lambda: check_within("num", 0, 1, 5)),
        (
            lambda: check_within("seed", LARGEST_SEED, 0, LARGEST_SEED),
            lambda: check_within("seed", 2**53, 0, LARGEST_SEED),
        ),
        (lambda: check_within("a size", 0, 0, 1e6), lambda: check_within("a size", -1e-9, 0, 1e6)),
        (lambda: check_within("a size", 1, 1, 1), lambda: check_within("a size", float("nan"), 0, 1e6)),
    ],
)
def test_what_a_limit_names_passes_and_one_more_does_not(
    allowed: Callable[[], None], refused: Callable[[], None]
) -> None:
    allowed()
    with pytest.raises(UserError):
        refused()


@pytest.mark.parametrize(
    "codes", [[[0.0] * 3], [0.0] * 2, [], [["a", "b"]], [[0.0, np.nan]], [[0.0, 1.01 * LARGEST_NUMBER]], [[0.0], [1.0]]]
)
def test_what_are_no_codes_of_this_model_is_refused(codes: Any) -> None:
    with pytest.raises(UserError, match="codes"):
        as_codes(codes, 2)


def test_codes_up_to_the_largest_number_are_taken_as_they_are() -> None:
    codes = as_codes([[LARGEST_NUMBER, -LARGEST_NUMBER], [0, 0.1]], 2)
    assert codes.dtype == np.float32
    assert codes.tolist() == [[LARGEST_NUMBER, -LARGEST_NUMBER], [0, np.float32(0.1)]]


@pytest.mark.parametrize("name", vars(Limits()))
def test_a_limit_is_at_least_one(name: str) -> None:
    with pytest.raises(UserError, match=f"the limit {name} is 0"):
        Limits(**{name: 0})


def test_the_queue_holds_the_largest_request() -> None:
    assert Limits(max_batch=9, max_num=7, queue_size=9) and Limits(max_batch=7, max_num=9, queue_size=9)
    for sizes in ({"max_batch": 9, "max_num": 7}, {"max_batch": 7, "max_num": 9}):
        with pytest.raises(UserError, match="the limit queue_size is 8"):
            Limits(**sizes, queue_size=8)


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_depth_beyond_the_limit_is_too_deep(opening: bytes, closing: bytes) -> None:
    assert not too_deep(opening * LARGEST_DEPTH + b"1" + closing * LARGEST_DEPTH)
    assert too_deep(opening * (LARGEST_DEPTH + 1) + b"1" + closing * (LARGEST_DEPTH + 1))
    assert too_deep(opening * 200_000)


def test_many_lists_beside_one_another_and_brackets_of_texts_are_not_deep() -> None:
    assert not too_deep(json.dumps([[]] * 1_000).encode())
    for text in ("[" * 1_000, '"' + "[" * 1_000, "\\" + "{" * 1_000, '\\"[' * 1_000, "[\\\\" * 1_000):
        assert not too_deep(json.dumps({text: [text]}).encode())


def test_texts_do_not_hide_a_depth() -> None:
    for text in ('"', "\\", '\\"', "]", '"]'):
        assert too_deep(f"[{json.dumps(text)},".encode() * (LARGEST_DEPTH + 1))
