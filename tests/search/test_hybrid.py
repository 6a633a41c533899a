"""Searches by words, and by words and codes together: their answers are those of comparing every sentence."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from smim.cli import app
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, Query, index_texts, open_index
from smim.search import hybrid as hybrid_module
from smim.search.query import Hit, Line
from smim.search.words import FILES, Statistics, WordQuery, words_of

OF = ["the company", "a bank", "her brother", "the old minister"], ["sold", "lost", "never liked", "bought"]
WHAT = ["shares", "a small house", "the new law", "the company"]
MODES = ["dense", "sparse", "hybrid"]


def sentences(num: int, seed: int = 0) -> list[str]:
    chance = Random(seed)
    return [" ".join(map(chance.choice, (*OF, WHAT))) for _ in range(num)]


def make(model: SentenceModel, model_dir: Path, output: Path, texts: list[str], **how: Any) -> Index:
    labels = {"number": list(range(len(texts)))}
    return index_texts(model, texts, output, model_dir=model_dir, labels=labels, **how)


def answers(index: Index, queries: list[str], **options: Any) -> list[list[tuple[int, float]]]:
    return [[(hit.id, hit.distance) for hit in hits] for hits in index.search(queries, **options)]


def compared(index: Index, model: SentenceModel, query: str) -> list[tuple[int, float]]:
    """All sentences of an index by their distance in a hybrid search, from the definition."""
    rows = index.get([int(id) for segment in index.snapshot.segments for id in segment.ids[segment.live_positions()]])
    lengths, words = [len(words_of(row.text)) for row in rows], words_of(query)
    holding = {word: sum(word in words_of(row.text) for row in rows) for word in words}
    asked = WordQuery(query, Statistics(len(rows), sum(lengths), holding))
    [code], metric = model.encode([query]), index.manifest.metric
    found = []
    for row, length in zip(rows, lengths, strict=True):
        [own] = model.encode([row.text])
        if metric == "cosine":
            of_code = max(0.0, float(own @ code / np.linalg.norm(own) / np.linalg.norm(code)))
        elif metric == "l2":
            of_code = 1 / (1 + float(np.linalg.norm(own - code)))
        else:
            of_code = 1 / (1 + np.exp(-float(own @ code)))
        count = {word: words_of(row.text).count(word) for word in asked.counts}
        gains = [asked.gain(word, np.array([n]), np.array([length]))[0] for word, n in count.items() if n]
        similar = (1 - asked.share) * of_code + asked.share * min(1.0, sum(gains) / asked.most)
        found.append((row.id, 1 - similar))
    return sorted(found, key=lambda pair: (round(pair[1], 5), pair[0]))


def same(found: list[Hit], expected: list[Hit]) -> None:
    """Up to the rounding of codes that were encoded beside others."""
    assert [(hit.id, hit.words) for hit in found] == [(hit.id, hit.words) for hit in expected]
    assert [hit.distance for hit in found] == pytest.approx([hit.distance for hit in expected], abs=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_hybrid_hits_are_those_of_comparing_every_sentence(
    metric: str, model: SentenceModel, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hybrid_module, "_LEAST_DEPTH", 1)  # so that it has to go deeper
    index = make(model, tiny_model, tmp_path / "index", sentences(60), metric=metric)
    for query in ["a bank sold the new law", "minister shares", "her brother bought a small house"]:
        expected = compared(index, model, query)
        [hits] = index.search([query], k=60, mode="hybrid")
        assert [hit.distance for hit in hits] == pytest.approx([distance for _, distance in expected], abs=2e-5)
        for k in (1, 3, 10):
            assert answers(index, [query], k=k, mode="hybrid") == [[(hit.id, hit.distance) for hit in hits[:k]]]


def test_hits_by_words_share_one_and_say_which(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    texts = ["a bank sold shares", "the company lost shares", "her brother lost a small house", "a bank lost a bank"]
    index = make(model, tiny_model, tmp_path / "index", texts)
    [hits] = index.search(["SHARES bank"], k=10, mode="sparse")
    assert [hit.id for hit in hits] == [0, 3, 1]
    assert hits[0].words == ["shares", "bank"] and hits[0].word_similarity == 1 - hits[0].distance
    assert all(hit.code_similarity is None and 0 < (hit.word_similarity or 0) <= 1 for hit in hits)
    assert index.search(["politics"], k=10, mode="sparse") == [[]]
    [[hit]] = index.search(["a bank sold shares"], k=1, mode="hybrid")
    assert (hit.id, hit.words) == (0, ["a", "bank", "sold", "shares"])
    assert (hit.code_similarity, hit.word_similarity) == pytest.approx((1, 1))


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_does_not_depend_on_segments_and_on_what_was_deleted(
    mode: str, model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    texts, queries = sentences(50), ["a bank sold the new law", "minister shares", "house"]
    whole = make(model, tiny_model, tmp_path / "whole", texts)
    others = make(model, tiny_model, tmp_path / "others", texts[:20])
    with IndexWriter(others.directory, model=model) as writer:
        numbers = list(range(20, 50))
        writer.add(["the company sold the company"] * 3, ids=[100, 101, 102], labels={"number": [1, 2, 3]})
        writer.add(texts[20:35], ids=numbers[:15], labels={"number": numbers[:15]})
        writer.add(texts[35:], ids=numbers[15:], labels={"number": numbers[15:]})
        writer.delete([100, 101, 102])
    assert len(others.manifest.segments) > 2
    where = {"number": {"$gte": 30}}
    for options in ({"k": 50}, {"k": 5}, {"k": 5, "offset": 5}, {"k": 7, "where": where}):
        expected = answers(whole, queries, mode=mode, **options)
        assert answers(others, queries, mode=mode, **options) == expected
        assert all(expected)
    with IndexWriter(others.directory, model=model) as writer:
        writer.compact()
    assert answers(others, queries, k=50, mode=mode) == answers(whole, queries, k=50, mode=mode)


def test_pages_of_a_hybrid_search_are_its_whole_answer(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    index = make(model, tiny_model, tmp_path / "index", sentences(300), factory="IVF8,Flat")
    [whole] = answers(index, ["a bank sold the new law"], k=300, mode="hybrid")
    assert len(whole) == 300
    pages = [
        answers(index, ["a bank sold the new law"], k=7, offset=start, mode="hybrid", nprobe=8)[0]
        for start in range(0, 70, 7)
    ]
    assert [hit for page in pages for hit in page] == whole[:70]


def test_what_has_no_words_is_searched_by_its_code(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    index = make(model, tiny_model, tmp_path / "index", sentences(40))
    codes = model.encode(["a bank sold shares"])
    assert answers(index, codes, mode="hybrid") == answers(index, codes)
    line = Query(line=Line("a bank sold shares", "her brother lost a small house"))
    [mixed, text] = index.search([line, Query(text="a bank")], mode="hybrid")
    [alone], [text_alone] = index.search([line]), index.search(["a bank"], mode="hybrid")
    same(mixed, alone)
    same(text, text_alone)
    [like] = index.more_like([3], k=5, mode="hybrid")
    [itself] = index.search([index.get([3])[0].text], k=6, mode="hybrid")
    same(like, [hit for hit in itself if hit.id != 3][:5])
    for query in (line, Query(code=codes[0])):
        with pytest.raises(UserError, match=r"mode sparse compares words, so queries must be sentences"):
            index.search([query], mode="sparse")
    with pytest.raises(UserError, match="mode is 'hybird'; did you mean 'hybrid'"):
        index.search(["a bank"], mode="hybird")


def test_a_word_that_the_model_does_not_know_is_found(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    index = make(model, tiny_model, tmp_path / "index", ["a bank sold zebras", "a bank sold shares"])
    assert [hit.id for hit in index.search(["Zebras"], mode="sparse")[0]] == [0]
    with pytest.raises(UserError, match="has no word of"):
        index.search(["Zebras"])


def test_an_index_of_an_older_version_is_searched_by_codes_until_it_is_compacted(
    model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    index = make(model, tiny_model, tmp_path / "index", sentences(40))
    expected = {mode: answers(index, ["a bank sold"], mode=mode) for mode in MODES}
    [info] = index.manifest.segments
    kept = {name: file for name, file in info.files.items() if name not in FILES}
    index.manifest.changed(segments=[replace(info, files=kept)]).write(index.directory)
    for name in FILES:
        (index.directory / info.name / name).unlink()
    old = open_index(index.directory, model=model)
    assert answers(old, ["a bank sold"]) == expected["dense"]
    for mode in ("sparse", "hybrid"):
        with pytest.raises(UserError, match=r"older version.*smim index compact"):
            old.search(["a bank sold"], mode=mode)
    with IndexWriter(index.directory, model=model) as writer:
        writer.compact()
    assert {mode: answers(old, ["a bank sold"], mode=mode) for mode in MODES} == expected


def test_the_command_line_searches_by_words_and_codes(model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    index = make(model, tiny_model, tmp_path / "index", sentences(40))
    for flags, mode in ([["--hybrid"], "hybrid"], [["--mode", "sparse"], "sparse"], [[], "dense"]):
        result = CliRunner().invoke(app, ["search", str(index.directory), "minister shares", "--json", *flags])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["hits"]
        assert [(hit["id"], hit["distance"]) for hit in found] == answers(index, ["minister shares"], mode=mode)[0]
    for flags in (["--mode", "words"], ["--mode", "sparse", "--hybrid"]):
        result = CliRunner().invoke(app, ["search", str(index.directory), "shares", *flags])
        assert isinstance(result.exception, UserError) and "mode" in str(result.exception)
