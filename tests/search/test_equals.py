"""Approximate indexes of many equal sentences: they answer as an exact one does."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, index_texts, open_index, report
from smim.search import factory as factories
from smim.search import writer as writer_module
from smim.search.equals import ROWS_OF, STARTS, VECTOR_OF
from smim.search.manifest import FileInfo, Manifest
from smim.search.report import measure

WORDS = [
    "the",
    "a",
    "company",
    "bank",
    "her",
    "brother",
    "old",
    "minister",
    "sold",
    "bought",
    "wrote",
    "about",
    "never",
    "liked",
    "lost",
    "shares",
    "small",
    "house",
    "law",
]
NUM_ROWS = 3000
FACTORIES = ["HNSW32,SQfp16", "IVF16,SQ8", "IVF16,PQ4x4"]

Answers = list[list[tuple[int, float]]]


def sentences() -> list[str]:
    """In sorted order: 1,500 distinct, some of them once, one of them 600 times."""
    chance = random.Random(0)
    distinct = sorted({" ".join(chance.choices(WORDS, k=chance.randrange(3, 9))) for _ in range(1500)})
    return sorted([*distinct, *[distinct[700]] * 600, *chance.choices(distinct, k=NUM_ROWS - 600 - len(distinct))])


@pytest.fixture(scope="module")
def both(
    request: pytest.FixtureRequest, model: SentenceModel, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Index, Index]:
    """An approximate index, and the exact one of the same sentences, both with a label."""
    folder, texts = tmp_path_factory.mktemp("equals"), sentences()
    labels = {"third": [i % 3 for i in range(len(texts))]}
    approximate, exact = (
        index_texts(model, texts, folder / name, model_dir=tiny_model, labels=labels, factory=factory)
        for name, factory in (("approximate", request.param), ("exact", "Flat"))
    )
    return approximate, exact


def answers(index: Index, queries: Any, k: int, **options: Any) -> Answers:
    return [[(hit.id, round(hit.distance, 4)) for hit in hits] for hits in index.search(queries, k, **options)]


def distances(index: Index, queries: Any, k: int, **options: Any) -> list[list[float]]:
    return [[hit.distance for hit in hits] for hits in index.search(queries, k, **options)]


def check(approximate: Index, exact: Index, most: dict[str, int]) -> None:
    """Every query has its equals first, in order of their ids, and hardly anything is missing behind them."""
    texts = sorted(set(sentences()))[::150]
    rows = exact.get(sorted(int(i) for s in exact.snapshot.segments for i in s.ids[s.live_positions()]))
    for where in (None, {"third": 1}):
        for k in (1, 10, 700):
            found = approximate.search(texts, k, where=where, **most)
            for text, hits in zip(texts, found, strict=True):
                equals = [r.id for r in rows if r.text == text and (not where or r.labels["third"] == 1)]
                assert [hit.id for hit in hits if hit.text == text] == equals[:k]
                order = [(hit.distance, hit.id) for hit in hits]
                assert order == sorted(order) and len({hit.id for hit in hits}) == k
            ours, theirs = (np.array(distances(i, texts, k, where=where, **most)) for i in (approximate, exact))
            assert (ours <= theirs[:, -1:] + 1e-4).mean() > 0.98


MOST = {"nprobe": 16, "ef_search": 256, "refine": 16}


@pytest.mark.parametrize("both", FACTORIES, indirect=True)
def test_equal_sentences_share_a_vector_and_expand_to_their_rows(both: tuple[Index, Index]) -> None:
    approximate, exact = both
    [segment] = approximate.snapshot.segments
    assert segment.vectors.ntotal == len(segment.stored) == len(set(sentences())) < segment.info.count == NUM_ROWS
    check(approximate, exact, MOST)
    np.testing.assert_allclose(approximate.codes(range(0, NUM_ROWS, 7)), exact.codes(range(0, NUM_ROWS, 7)), atol=1e-5)


@pytest.mark.parametrize("both", FACTORIES, indirect=True)
def test_all_rows_are_found_where_as_many_are_asked_for(both: tuple[Index, Index]) -> None:
    approximate, exact = both
    queries = exact.codes([0, 1000])
    ours, theirs = (index.search(queries, NUM_ROWS + 1) for index in both)
    for found, wanted in zip(ours, theirs, strict=True):
        assert len({hit.id for hit in found}) == NUM_ROWS
        assert [hit.distance for hit in found] == pytest.approx([hit.distance for hit in wanted], abs=1e-4)
    assert approximate.count() == NUM_ROWS and approximate.count({"third": 0}) == 1000


@pytest.mark.parametrize("both", FACTORIES[:2], indirect=True)
def test_a_sentence_is_found_by_its_text_with_the_settings_that_the_build_chose(both: tuple[Index, Index]) -> None:
    approximate, _ = both
    measured = approximate.manifest.measured
    assert measured["recall"] >= 0.98 and measured["seconds"] > 0 and (measured["k"], measured["queries"]) == (10, 300)
    found = measure(approximate, queries=300, tune=False)
    assert found.current.settings == approximate.manifest.search and found.current.recall == measured["recall"]
    texts = sentences()
    assert [hits[0].text for hits in approximate.search(texts, 1)] == texts


@pytest.mark.parametrize("both", FACTORIES[:1], indirect=True)
def test_more_like_leaves_the_sentence_out_and_finds_its_equals(both: tuple[Index, Index]) -> None:
    approximate, exact = both
    ids = list(range(0, NUM_ROWS, 100))
    for hits, wanted in zip(approximate.more_like(ids, 5), exact.more_like(ids, 5), strict=True):
        equal = [hit.id for hit in wanted if hit.distance < 1e-4]
        assert [hit.id for hit in hits][: len(equal)] == equal
    assert all(len(hits) == NUM_ROWS - 1 for hits in approximate.more_like([0, 900], NUM_ROWS))


@pytest.mark.parametrize("factory", FACTORIES)
def test_changes_of_equal_sentences(factory: str, model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    texts = sentences()
    labels = {"third": [i % 3 for i in range(len(texts))]}
    both = [
        index_texts(model, texts, tmp_path / kind, model_dir=tiny_model, labels=labels, factory=kind)
        for kind in (factory, "Flat")
    ]
    most = max(set(texts), key=texts.count)
    some = [i for i, text in enumerate(texts) if text == most]
    for index in both:
        with IndexWriter(index.directory, model=model) as writer:
            assert writer.delete([*some[:300], 0, 1, 2]) == 303
            writer.add([most, texts[0], "a bank sold her law"] * 5, labels={"third": [1] * 15})
            writer.upsert([most, texts[5]], ids=[some[400], 2], labels={"third": [0, 2]})
    check(*both, MOST)
    for index in both:
        with IndexWriter(index.directory, model=model) as writer:
            writer.compact()
    [segment] = both[0].snapshot.segments
    assert segment.vectors.ntotal < segment.info.count == len(both[1])
    assert both[0].manifest.measured["recall"] > 0.9
    check(*both, MOST)


def test_small_segments_that_are_merged_to_an_approximate_one_share_vectors(
    model: SentenceModel, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_EXACT_BELOW", 100)
    texts = sentences()
    index = index_texts(model, texts[:1000], tmp_path / "index", model_dir=tiny_model, factory="HNSW32,SQfp16")
    with IndexWriter(index.directory, model=model) as writer:
        for _ in range(writer_module._MOST_SEGMENTS):
            writer.add(texts[1000:1100])
    large, merged = index.snapshot.segments
    assert (large.info.count, merged.info.count) == (1000, 800)
    assert merged.vectors.ntotal == len(set(texts[1000:1100]))
    assert index.manifest.measured["recall"] >= 0.98
    [hits] = index.search([texts[1050]], 9)
    assert [hit.text for hit in hits[:8]] == [texts[1050]] * 8 and [hit.id for hit in hits] != []


def test_every_vector_of_a_graph_is_found_by_its_own_code() -> None:
    random = np.random.default_rng(0)
    # Few of them are among the nearest of others: most have their nearest in the dense middle.
    codes = (random.standard_normal((4000, 64)) * random.uniform(0.5, 2, (4000, 1))).astype(np.float32)
    vectors = factories.make_vectors("HNSW16,SQfp16", "l2", 64)
    vectors.train(codes)
    vectors.add(codes)
    parameters = factories.search_parameters(vectors, {"ef_search": report._EF_SEARCH[0]}, None)

    def num_lost() -> int:
        _, found = vectors.search(codes, 1, params=parameters)
        return int((found != np.arange(4000)[:, None]).all(1).sum())

    assert num_lost() > 100
    factories.link_lost(vectors, codes)
    assert num_lost() == 0


def test_a_recall_below_the_target_is_told_and_kept(
    model: SentenceModel, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(report, "_REFINE", [1])
    index = index_texts(model, sentences(), tmp_path / "index", model_dir=tiny_model, factory="IVF16,PQ1x2")
    recall = index.manifest.measured["recall"]
    assert recall < report.TARGET
    assert f"warning: recall@10 is {recall:.3f}, below 0.98, with all search settings" in capsys.readouterr().err


def test_an_exact_index_has_nothing_measured_as_older_ones(index: Index) -> None:
    assert Manifest.read(index.directory).measured == {}
    assert "measured" not in (index.directory / "manifest.json").read_text()


@pytest.mark.parametrize(("name", "rows"), [(VECTOR_OF, 1), (STARTS, 3)])
def test_a_map_of_other_rows_is_refused(
    name: str, rows: int, model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    index = index_texts(model, sentences()[:300], tmp_path / "index", model_dir=tiny_model, factory="HNSW8")
    [info] = index.manifest.segments
    path = info.path(index.directory, name)
    np.save(path, np.zeros(rows, np.int64))
    info.files[name] = FileInfo.of(path)
    index.manifest.write(index.directory)
    with pytest.raises(UserError, match=rf"{name} holds int64 \({rows},\), but it must hold"):
        open_index(index.directory, model=model)


@pytest.mark.parametrize("name", [VECTOR_OF, ROWS_OF, STARTS])
@pytest.mark.parametrize("number", [-1, 10**9])
def test_numbers_in_a_map_that_cannot_be_are_refused_where_they_are_read(
    name: str, number: int, model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    index = index_texts(model, sentences()[:300], tmp_path / "index", model_dir=tiny_model, factory="HNSW8")
    [info] = index.manifest.segments
    path = info.path(index.directory, name)
    np.save(path, np.full_like(np.load(path), number))
    info.files[name] = FileInfo.of(path)
    index.manifest.write(index.directory)
    with pytest.raises(UserError, match=f"{name} holds numbers out of range"):
        open_index(index.directory, model=model).more_like([7])
