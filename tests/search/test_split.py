"""Texts of several sentences: each sentence has a code, a hit is a text, and changes and filters are of texts."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from smim.cli import app
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, index_texts, open_index, rebuild_index
from smim.search.query import Hit, Options
from smim.search.report import measure
from smim.search.sample import columns
from smim.text.fitting import TextsChanged
from smim.text.sentences import sentences_of, split_text

SENTENCES = ["a bank sold shares", "her brother lost a small house", "the company never liked the new law",
             "the old minister wrote about shares", "a bank lost"]  # fmt: skip
QUERIES = ["a bank sold shares", "her brother bought a small house", "the law"]


@pytest.fixture
def texts() -> list[str]:
    """Texts of one to five sentences, of which many are the same; an empty line ends a sentence."""
    chance = Random(1)
    return ["\n\n".join(chance.choices(SENTENCES, k=chance.randint(1, 5))) for _ in range(60)]


@pytest.fixture
def split(texts: list[str], model: SentenceModel, tmp_path: Path) -> Index:
    """An index of two segments, from which texts were deleted."""
    labels = {"number": [i % 5 for i in range(60)]}
    index_texts(model, texts[:50], tmp_path / "split", labels={"number": labels["number"][:50]}, split="sentences")
    with IndexWriter(tmp_path / "split", model=model) as writer:
        writer.add(texts[50:], labels={"number": labels["number"][50:]})
        assert writer.delete([0, 7, 55]) == 3
    return open_index(tmp_path / "split", model=model)


def nearest_of_each(hits: list[Hit], *, equal: bool = False) -> list[dict[str, Any]]:
    """The first hit of each text, and among those of equal ones with `equal`, from hits that are sentences."""
    first: dict[int, Hit] = {}
    for hit in hits:
        first.setdefault(hit.id, hit)
    of_texts: dict[Any, Hit] = {}
    for hit in first.values():
        of_texts.setdefault(hit.text if equal else hit.id, hit)
    return [hit.as_dict() | {"count": None, "ids": None} for hit in of_texts.values()]


def test_sentences_end_at_full_stops_and_empty_lines_and_short_texts_stay_whole() -> None:
    text = "Dr. Smith came late. He left!\n\nAnd so"
    assert sentences_of(text) == ["Dr. Smith came late.", "He left!", "And so"]
    words = str.split
    for split, expected in (
        ("none", [text]),
        ("auto", [text]),
        ("sentences", sentences_of(text)),
    ):
        found = split_text(text, lambda text: [1] * len(words(text)), split)
        assert found == [(each, [1] * len(words(each))) for each in expected]
    long = "He came. " * 31
    assert [each for each, _ in split_text(long, lambda text: [1] * len(words(text)), "auto")] == ["He came."] * 31
    assert split_text("", lambda text: [], "sentences") == [("", [])]


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
def test_a_hit_is_a_text_by_its_nearest_sentence(mode: str, split: Index) -> None:
    for where in (None, {"number": {"$lt": 3}}):
        for query in QUERIES:
            [whole] = split.search([query], k=10**6, mode=mode, fold="none", where=where)
            texts, equal = nearest_of_each(whole), nearest_of_each(whole, equal=True)
            assert len(texts) > 10 and len({hit.id for hit in whole}) == len(texts) < len(whole)
            for k in (1, 3, 20, 100):
                [found] = split.search([query], k=k, mode=mode, where=where)
                assert [hit.as_dict() | {"count": None, "ids": None} for hit in found] == texts[:k]
                [folded] = split.search([query], k=k, mode=mode, where=where, fold="text")
                assert [hit.as_dict() | {"count": None, "ids": None} for hit in folded] == equal[:k]
            [page] = split.search([query], k=5, offset=5, mode=mode, where=where)
            assert [hit.id for hit in page] == [each["id"] for each in texts[5:10]]


def test_unless_it_is_said_codes_and_the_words_of_whole_texts_are_compared(
    model: SentenceModel, tmp_path: Path
) -> None:
    texts = ["a bank lost\n\nher brother sold the new law", "a bank lost\n\nthe company never liked shares"]
    index = index_texts(model, texts, tmp_path / "index", split="sentences")
    [hits] = index.search(["a bank lost the law"])
    assert [(hit.id, hit.text) for hit in hits] == [(0, "a bank lost"), (1, "a bank lost")]
    assert hits[0].code_similarity == hits[1].code_similarity
    assert hits[0].word_similarity > hits[1].word_similarity  # "law" is in another sentence
    [worded] = index.search(["the law"], mode="sparse")
    assert worded[0].text == "her brother sold the new law"
    assert "word_similarity" not in index.search(["a bank"], mode="dense")[0][0].as_dict()
    assert index.search(index.codes([0]))[0][0].word_similarity is None  # a code has no words


def test_texts_are_counted_and_given_back_whole(texts: list[str], split: Index) -> None:
    live = [i for i in range(60) if i not in (0, 7, 55)]
    assert len(split) == split.count() == 57
    assert split.manifest.num_sentences == sum(len(sentences_of(texts[i])) for i in live)
    assert repr(split).startswith(f"<Index {split.directory}: 57 texts, as {split.manifest.num_sentences} sentences")
    rows = split.get(live)
    assert [(row.id, row.text, row.labels) for row in rows] == [
        (i, " ".join(sentences_of(texts[i])), {"number": i % 5}) for i in live
    ]
    codes = split.model.encode(sentences_of(texts[3]))
    np.testing.assert_allclose(split.codes([3])[0], codes.mean(0), atol=1e-5)
    assert split.count({"number": 1}) == sum(i % 5 == 1 for i in live)


def test_values_of_labels_are_counted_by_texts(split: Index) -> None:
    [number] = columns(split.snapshot)
    assert {each.value: each.count for each in number.values} == {i: split.count({"number": i}) for i in range(5)}
    assert sum(each.count for each in number.values) == len(split) == 57


def test_more_like_a_text_leaves_all_of_it_out(split: Index) -> None:
    for options in ({}, {"mode": "dense"}, {"fold": "text"}):
        [hits] = split.more_like([3], k=8, **options)
        assert len({hit.id for hit in hits}) == 8 or options == {"fold": "text"}
        assert 3 not in {hit.id for hit in hits}
    result = split.more_like([3], k=2, reconstruct=True, score=True)[0]
    assert all(hit.reconstruction and hit.score is not None for hit in result)


def test_a_filter_on_text_is_of_the_whole_text(texts: list[str], split: Index) -> None:
    live = [i for i in range(60) if i not in (0, 7, 55)]

    def of(where: dict[str, Any]) -> list[int]:
        [hits] = split.search([QUERIES[0]], k=100, where=where)
        assert split.count(where) == len(hits)
        return sorted(hit.id for hit in hits)

    bank, house = ([i for i in live if word in texts[i]] for word in ("bank", "house"))
    assert of({"text": {"$contains": "bank"}}) == bank
    assert of({"$not": {"text": {"$contains": "bank"}}}) == sorted({*live} - {*bank})
    assert of({"$and": [{"text": {"$contains": "bank"}}, {"text": {"$contains": "house"}}]}) == sorted(
        {*bank} & {*house}
    )
    assert of({"text": "a bank lost"}) == [i for i in live if "a bank lost" in sentences_of(texts[i])]
    assert of({"text": {"$ne": "a bank lost"}}) == [i for i in live if "a bank lost" not in sentences_of(texts[i])]
    assert of({"text": {"$contains": "bank"}, "number": 2}) == [i for i in bank if i % 5 == 2]


def test_changes_are_of_texts(texts: list[str], split: Index) -> None:
    with IndexWriter(split.directory, model=split.model) as writer:
        with pytest.raises(UserError, match="holds a sentence with id 3 already"):
            writer.add(["a bank"], ids=[3])
        assert writer.upsert(["a bank lost\n\nshares", "the law"], ids=[3, 90], labels={"number": [1, None]}) == [3, 90]
        assert [(row.text, row.labels) for row in split.get([3, 90])] == [
            ("a bank lost shares", {"number": 1}),
            ("the law", {"number": None}),
        ]
        assert len(split) == 58
        holding = split.count({"text": {"$contains": "house"}})
        assert writer.delete(where={"text": {"$contains": "house"}}) == holding > 5
        assert len(split) == 58 - holding
        before = [hit.as_dict() for hit in split.search([QUERIES[0]], k=100)[0]]
        writer.compact()
    after = [hit.as_dict() for hit in split.search([QUERIES[0]], k=100)[0]]
    assert [hit["id"] for hit in after] == [hit["id"] for hit in before]
    assert [hit["text"] for hit in after] == [hit["text"] for hit in before]
    assert len(split.snapshot.segments) == 1 and len(split) == 58 - holding
    rebuilt = rebuild_index(split.directory, split.model)
    assert [hit.id for hit in rebuilt.search([QUERIES[0]], k=100)[0]] == [hit["id"] for hit in before]
    assert rebuilt.manifest.split == "sentences" and len(rebuilt) == len(before)


def test_a_text_lies_in_one_segment_and_what_is_measured_is_of_sentences(
    texts: list[str], model: SentenceModel, tmp_path: Path
) -> None:
    index = index_texts(model, texts, tmp_path / "index", split="sentences", memory=2000, factory="IVF2,Flat")
    own = [set(np.asarray(segment.ids).tolist()) for segment in index.snapshot.segments]
    assert len(own) > 2 and sum(map(len, own)) == len(set.union(*own)) == 60
    whole = index_texts(model, texts, tmp_path / "whole", split="sentences", factory="Flat")
    for query in QUERIES:
        found, expected = (each.search([query], k=30, nprobe=2)[0] for each in (index, whole))
        assert [(hit.id, hit.text) for hit in found] == [(hit.id, hit.text) for hit in expected]
    report = measure(whole, k=3, queries=10)
    assert (report.count, report.current.recall) == (whole.manifest.num_sentences, 1.0)


def test_what_does_not_fit_is_of_texts(model: SentenceModel, tmp_path: Path) -> None:
    long = "a bank\n\n" + "bank " * 25
    rows = ["a bank\n\n!!\n\nzyzzyva", long, " ", "zyzzyva\n\n?"]
    with pytest.warns(TextsChanged) as told:
        index = index_texts(model, rows, tmp_path / "index", split="sentences")
    assert [each.message.rows for each in told] == [[1], [2, 3]]
    assert [(row.id, row.text) for row in index.get([0, 1])] == [(0, "a bank"), (1, "a bank " + long[8:].strip())]
    with pytest.warns(TextsChanged) as told:
        skipped = index_texts(model, rows, tmp_path / "skipped", split="sentences", too_long="skip")
    assert len(skipped) == 1 and [each.message.rows for each in told] == [[1], [2, 3]]
    with pytest.raises(
        UserError, match=r"sentence 2: the text 'bank .*' has 25 tokens, but this model takes at most 20"
    ):
        index_texts(model, rows, tmp_path / "refused", split="sentences", too_long="error")
    with pytest.raises(UserError, match=r"sentence 3: the text ' ' is empty"):
        index_texts(model, rows, tmp_path / "refused", split="sentences", empty="error")
    with pytest.raises(UserError, match="split is 'sentence'; did you mean 'sentences'"):
        index_texts(model, rows, tmp_path / "refused", split="sentence")


def test_texts_of_one_sentence_are_an_index_as_ever(model: SentenceModel, tmp_path: Path) -> None:
    index = index_texts(model, SENTENCES, tmp_path / "index")
    assert not index.manifest.is_split and index.manifest.split == "auto"
    assert index.search(QUERIES)[0][0].word_similarity is None
    found, alone = (index.search(QUERIES, fold=fold) for fold in ("row", "none"))
    assert found == alone
    assert Options().chosen(is_split=False) == Options(mode="dense", fold="none")


def test_the_command_line_indexes_the_sentences_of_long_rows(tiny_model: Path, tmp_path: Path) -> None:
    rows = [["id", "review", "stars"], ["4", '"a bank lost\n\n' + "her brother sold shares\n\n" * 20 + '"', "1"]]
    rows += [["9", "the company bought the law", "5"], ["11", '"', "3"]]
    (tmp_path / "reviews.csv").write_text("\n".join(map(",".join, rows[:3])) + "\n12,,2\n")
    index, command = str(tmp_path / "index"), CliRunner()
    given = [str(tiny_model), str(tmp_path / "reviews.csv"), "--text-column", "review", "-o", index]
    built = command.invoke(app, ["index", "build", *given])
    assert built.stdout.startswith("2 texts, as 22 sentences in "), built.output
    [hit, *_] = json.loads(command.invoke(app, ["search", index, "a bank lost", "--json"]).stdout)["hits"]
    assert (hit["id"], hit["text"], hit["labels"]) == (4, "a bank lost", {"stars": 1})
    assert command.invoke(app, ["index", "delete", index, "4"]).stdout == "1 texts deleted, 1 left\n"
    refused = command.invoke(app, ["index", "build", *given, "--force", "--split", "test"])
    assert "split is 'test'; valid: auto, none, sentences" in str(refused.exception or refused.output)
