"""What is searched for and how, checked in one place, and the same for every caller."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index
from smim.search.query import Hit, Line, Options, Query, Sum

ONE, OTHER = "the company sold shares", "her brother lost a small house"


@pytest.mark.parametrize("module", ["smim.search.query", "smim.serve.client", "smim.cli"])
def test_a_query_can_be_made_and_sent_without_torch_or_faiss(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'faiss') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("given", [{}, {"text": ONE, "id": 3}, {"line": Line(ONE, OTHER), "sum": Sum([ONE])}], ids=str)
def test_a_query_is_of_one_kind(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="exactly one of text, id, code, line, sum"):
        Query(**given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"offset": -1}, "offset must not be negative"),
        ({"k": 2.0}, "k is 2.0, but it must be a whole number"),
        ({"max_distance": float("nan")}, "max_distance is nan"),
        ({"max_distance": "far"}, "max_distance is 'far'"),
        ({"settings": {"nprobes": 1}}, "did you mean 'nprobe'"),
        ({"settings": {"nprobe": 0}}, "nprobe is 0, but it must be at least 1"),
        ({"settings": {"refine": -1}}, "refine is -1, but it must be at least 0"),
    ],
)
def test_what_no_search_can_be_asked_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Options(**options)
    assert Options(settings={"nprobe": 1, "ef_search": 1, "refine": 0}).k == 5


def test_a_page_is_the_part_of_a_wide_search_that_was_asked_for() -> None:
    options = Options(k=2, offset=1, max_distance=5.0, settings={"nprobe": np.int64(4)})
    assert options.wide({"nprobe": 8, "refine": 2}, extra=1) == Options(
        k=4, max_distance=5.0, settings={"nprobe": 4, "refine": 2}
    )
    hits = [Hit(id, "", {}, float(id)) for id in range(8)]
    assert [hit.id for hit in options.page(options.near(hits, Query(id=1)))] == [2, 3]
    near = options.near(hits, Query(text=ONE))
    assert [hit.id for hit in near] == list(range(6)) and [hit.id for hit in options.page(near)] == [1, 2]
    assert [hit.id for hit in Options(k=9, offset=3, max_distance=5.0).page(near[:6])] == [3, 4, 5]


def test_every_kind_of_query_is_that_of_its_code(index: Index, model: SentenceModel) -> None:
    start, end = model.encode([ONE, OTHER])
    queries = [
        Query(text=ONE),
        Query(code=end),
        Query(line=Line(ONE, OTHER, 0.25)),
        Query(sum=Sum([ONE, OTHER], [ONE])),
    ]
    codes = np.stack([start, end, start + 0.25 * (end - start), end])
    found, expected = index.search(queries, 4, offset=1), index.search(codes, 4, offset=1)
    assert [[hit.id for hit in hits] for hits in found] == [[hit.id for hit in hits] for hits in expected]
    results = index.results([*queries, Query(id=3)], Options(4, decode=True))
    assert [result.decoded for result in results] == model.decode(np.concatenate([codes, index.codes([3])]))
    assert results[-1].hits == index.more_like([3], 4)[0]
