"""Equal sentences as one hit: as folding the answer that has all of them."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from smim.cli import app
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, index_texts
from smim.search.folding import key_of
from smim.search.query import Hit

TEXTS = [
    "a bank sold shares",
    "A bank sold shares!",
    "her brother lost a small house",
    "the company bought shares",
    "!",
    "?",
]
QUERIES = ["a bank sold shares", "her brother bought a small house"]


def make(model: SentenceModel, model_dir: Path, output: Path, texts: list[str], **how: Any) -> Index:
    labels = {"number": [i % 5 for i in range(len(texts))]}
    return index_texts(model, texts, output, model_dir=model_dir, labels=labels, **how)


@pytest.fixture
def texts() -> list[str]:
    """Few different sentences, one of them most of the time."""
    chance = Random(0)
    return [chance.choice([*TEXTS[:4], *[TEXTS[0]] * 5]) for _ in range(120)] + ["the old minister sold shares"]


def expected(index: Index, query: str, fold: str, **options: Any) -> list[tuple[int, float, int, list[int]]]:
    """Of each text its first id and distance, how many there are, and their ids, from the whole answer."""
    [hits] = index.search([query], k=10**6, **options)
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(key_of(hit.text, fold), []).append(hit)
    return [
        (group[0].id, group[0].distance, len(group), sorted(hit.id for hit in group)[:100]) for group in groups.values()
    ]


def found(hits: list[Hit]) -> list[tuple[int, float, int | None, list[int] | None]]:
    return [(hit.id, hit.distance, hit.count, hit.ids) for hit in hits]


@pytest.mark.parametrize("fold", ["text", "words"])
@pytest.mark.parametrize("mode", ["dense", "hybrid"])
@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat"])
def test_folded_hits_are_those_of_the_whole_answer(
    factory: str, mode: str, fold: str, texts: list[str], model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    index = make(model, tiny_model, tmp_path / "index", texts, factory=factory)
    with IndexWriter(index.directory, model=model) as writer:
        writer.add(["a bank sold shares", "The company bought: shares"], labels={"number": [0, 1]})
        writer.delete([0, 7, 12])
    for where in (None, {"number": {"$lt": 3}}):
        options = {"mode": mode, "where": where, **({"nprobe": 2} if factory != "Flat" else {})}
        for query in QUERIES:
            whole = expected(index, query, fold, **options)
            assert len(whole) >= 4
            for k in (1, 2, 10):
                assert found(index.search([query], k=k, fold=fold, **options)[0]) == whole[:k]
            assert found(index.search([query], k=2, offset=1, fold=fold, **options)[0]) == whole[1:3]


def test_sentences_without_words_are_folded_by_their_text() -> None:
    assert key_of("A bank, sold!", "words") == key_of("a  bank sold", "words") == "a bank sold"
    assert key_of("!", "words") == "!" and key_of("?", "words") == "?"
    assert key_of("A bank", "text") == "A bank"


def test_without_folding_nothing_is_counted(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    index = make(model, tiny_model, tmp_path / "index", [TEXTS[0]] * 3)
    assert [(hit.count, hit.ids) for hit in index.search([TEXTS[0]], k=3)[0]] == [(None, None)] * 3
    with pytest.raises(UserError, match="fold is 'word'; did you mean 'words'"):
        index.search([TEXTS[0]], fold="word")


def test_the_command_line_folds(texts: list[str], model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    index = make(model, tiny_model, tmp_path / "index", texts)
    command = ["search", str(index.directory), QUERIES[0], "-k", "3", "--fold", "words", "--json"]
    hits = json.loads(CliRunner().invoke(app, command).stdout)["hits"]
    whole = expected(index, QUERIES[0], "words")[:3]
    assert [(hit["id"], hit["distance"], hit["count"], hit["ids"]) for hit in hits] == whole
    plain = CliRunner().invoke(app, command[:-1]).stdout.splitlines()
    assert [f"({each[2]} times)" in line for line, each in zip(plain, whole, strict=True)] == [
        n > 1 for _, _, n, _ in whole
    ]
