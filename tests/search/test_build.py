"""Indexes built from latents and in segments: they answer as one that was built at once."""

from pathlib import Path

import faiss
import numpy as np
import pytest

import smim
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import IndexWriter, build_index, open_index
from smim.search import factory as factories
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.files import flat_file
from smim.search.latents import Latents, LatentsCard, write_card
from smim.shards import write_shard
from smim.text.corpus import Corpus
from tests.corpora import write_corpus
from tests.search.test_index import other_model

NUM_ROWS = 3001


@pytest.fixture(scope="module")
def latents(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Latents:
    directory = tmp_path_factory.mktemp("latents") / "tiny"
    encode_corpus(tiny_model, tiny_corpus, directory, args=EncodeArgs(rows_per_shard=7))
    return Latents.open(directory)


@pytest.fixture(scope="module")
def many(model: SentenceModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Latents]:
    """3001 sentences that have random codes."""
    folder = tmp_path_factory.mktemp("many")
    rows = [{"text": f"a bank sold {i}", "kind": ["even", "odd"][i % 2]} for i in range(NUM_ROWS)]
    write_corpus(folder / "corpus", {"train": rows}, model.tokenizer, name="many")
    corpus = Corpus.open(folder / "corpus")
    card = LatentsCard(
        model="model",
        model_hash=model.hash,
        tokenizer_hash=model.tokenizer.hash,
        corpus="corpus",
        corpus_name="many",
        corpus_hash=corpus.hash_of("train"),
        split="train",
        count=NUM_ROWS,
        dimension=8,
        dtype="fp32",
        has_log_variance=False,
        rows_per_shard=1000,
    )
    random = np.random.default_rng(0)
    (folder / "latents").mkdir()
    codes = [random.standard_normal((len(card.rows_of(i)), 8)).astype(np.float32) for i in range(card.num_shards)]
    write_card(folder / "latents", card, [write_shard(folder / "latents", i, {"mean": c}) for i, c in enumerate(codes)])
    return corpus, Latents.open(folder / "latents")


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_three_segments_from_latents_answer_as_one_built_directly(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, latents: Latents, tmp_path: Path, metric: str
) -> None:
    at_once = build_index(model, corpus, tmp_path / "one", model_dir=tiny_model, metric=metric)
    options = {"model_dir": tiny_model, "metric": metric, "latents": latents, "num_segments": 3}
    index = build_index(model, corpus, tmp_path / "three", **options)
    assert [info.count for info in index.manifest.segments] == [13, 13, 14]
    for where in (None, {"topic": "money"}):
        texts = corpus.split("test").texts()
        ours, theirs = (i.search(texts, k=12, where=where) for i in (index, at_once))
        for a, b in zip(ours, theirs, strict=True):
            assert [(hit.id, hit.text, hit.labels) for hit in a] == [(hit.id, hit.text, hit.labels) for hit in b]
            assert [hit.distance for hit in a] == pytest.approx([hit.distance for hit in b], abs=1e-5)


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "PCA4,IVF8,Flat", "IVF16,PQ4x4"])
def test_segments_share_what_was_trained_and_find_what_one_segment_finds(
    many: tuple[Corpus, Latents], model: SentenceModel, tiny_model: Path, tmp_path: Path, factory: str
) -> None:
    corpus, latents = many
    options = {"model_dir": tiny_model, "factory": factory, "latents": latents}
    one = build_index(model, corpus, tmp_path / "one", **options)
    three = build_index(model, corpus, tmp_path / "three", num_segments=3, **options)
    queries = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    # Rounded codes may tie: without `refine` the order among ties is FAISS's own.
    settings = {"nprobe": 3, "refine": 100}
    assert three.search(queries, k=10, **settings) == one.search(queries, k=10, **settings)
    assert len(three.manifest.segments) == 3


def test_more_segments_are_made_where_one_would_not_fit_into_the_memory(
    many: tuple[Corpus, Latents], model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    corpus, latents = many
    options = {"model_dir": tiny_model, "factory": "IVF16,Flat", "latents": latents}
    index = build_index(model, corpus, tmp_path / "index", memory=50_000, **options)
    sizes = [info.files["vectors.faiss"].bytes for info in index.manifest.segments]
    assert sum(info.count for info in index.manifest.segments) == NUM_ROWS
    assert len(sizes) == 3 and max(sizes) < 50_000


@pytest.mark.parametrize(("memory", "factory"), [(2 * 10**6, "HNSW32,SQfp16"), (3 * 10**5, "IVF256,PQ1x8")])
def test_auto_builds_what_the_memory_allows_and_finds_what_exact_search_finds(
    many: tuple[Corpus, Latents],
    model: SentenceModel,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: int,
    factory: str,
) -> None:
    monkeypatch.setattr(factories, "_EXACT_UP_TO", 3000)
    corpus, latents = many
    options = {"model_dir": tiny_model, "latents": latents}
    exact = build_index(model, corpus, tmp_path / "exact", factory="Flat", **options)
    index = build_index(model, corpus, tmp_path / "index", memory=memory, **options)
    [info] = index.manifest.segments
    assert info.factory == factory
    queries = latents.mean(range(0, NUM_ROWS, 60))
    pairs = zip(index.search(queries, k=10), exact.search(queries, k=10), strict=True)
    found = [len({hit.id for hit in ours} & {hit.id for hit in theirs}) for ours, theirs in pairs]
    assert np.mean(found) / 10 > 0.9


@pytest.mark.parametrize(("memory", "factory"), [(2 * 10**6, "HNSW32,SQfp16"), (3 * 10**5, "IVF256,PQ1x8")])
def test_an_auto_index_that_has_grown_is_compacted_to_what_is_built_anew(
    many: tuple[Corpus, Latents],
    model: SentenceModel,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: int,
    factory: str,
) -> None:
    monkeypatch.setattr(factories, "_EXACT_UP_TO", NUM_ROWS)
    corpus, latents = many
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, latents=latents, memory=memory)
    with IndexWriter(index.directory, model=model) as writer:
        writer.add(["a bank sold"])
        assert {info.factory for info in index.manifest.segments} == {"Flat"}
        writer.compact()
        assert [info.factory for info in index.manifest.segments] == [factory]
        assert index.manifest.search.keys() == factories.default_search(factory).keys()
        assert index.manifest.measured["recall"] >= 0.98
        tuned = {**index.manifest.search, "refine": 100}
        writer.set_search(tuned)
        writer.delete([0])
        writer.compact()
        assert [info.factory for info in index.manifest.segments] == ["Flat"]
        assert index.manifest.search == {}
        writer.set_search(tuned)
        writer.delete([1])
        writer.compact()
    assert index.manifest.search == tuned


def test_latents_of_something_else_are_refused(
    model: SentenceModel,
    corpus: Corpus,
    tiny_model: Path,
    latents: Latents,
    many: tuple[Corpus, Latents],
    tmp_path: Path,
) -> None:
    other = smim.load(other_model(tmp_path / "other", tiny_model), device="cpu")
    for named, arguments in {
        "model": {"model": other, "corpus": corpus, "latents": latents},
        "corpus": {"model": model, "corpus": corpus, "latents": many[1]},
        "split": {"model": model, "corpus": corpus, "latents": latents, "split": "test"},
    }.items():
        with pytest.raises(UserError, match=f"holds latents of another {named}: (tiny|many) train was"):
            build_index(**arguments, output=tmp_path / "index", model_dir=tiny_model)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("number", [0, 41])
def test_a_number_of_segments_that_cannot_be_is_refused(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path, number: int
) -> None:
    with pytest.raises(UserError, match=f"num_segments is {number}; it must be from 1 to 40"):
        build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, num_segments=number)


def test_labels_that_are_numbers_are_compared_as_numbers(
    model: SentenceModel, tiny_model: Path, tmp_path: Path
) -> None:
    stars, codes, mixed = ["9", "10", "-2"], ["007", "10", "11"], ["1", "2", "many"]
    rows = [
        {"text": f"a bank sold {i}", "stars": stars[i], "code": codes[i], "mixed": mixed[i]} for i in range(len(stars))
    ]
    write_corpus(tmp_path / "corpus", {"train": rows}, model.tokenizer, name="numbers")
    index = build_index(model, Corpus.open(tmp_path / "corpus"), tmp_path / "index", model_dir=tiny_model)
    assert [row.labels for row in index.get([0, 2])] == [
        {"stars": 9, "code": "007", "mixed": "1"},
        {"stars": -2, "code": "11", "mixed": "many"},
    ]
    [hits] = index.search(["a bank sold"], k=3, where={"stars": {"$gt": 8}})
    assert sorted(hit.id for hit in hits) == [0, 1]


def test_changes_of_many_segments_merge_only_what_was_added(
    model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, num_segments=8)
    built = [info.name for info in index.manifest.segments]
    numbers = []
    for text in corpus.split("test").texts():
        with IndexWriter(index.directory, model=model) as writer:
            writer.add([text], labels={"topic": ["new"]})
        names = [info.name for info in index.manifest.segments]
        assert names[:8] == built
        numbers.append(len(names))
    assert numbers == [9, 10, 11, 12, 13, 14, 15, 9, 10, 11]
    assert len(index) == 50 and len(index.search(["a bank sold shares"], k=50)[0]) == 50
    with IndexWriter(index.directory, model=model) as writer:
        writer.compact()
    assert [info.count for info in open_index(index.directory, model=model).manifest.segments] == [50]
    assert index.manifest.num_segments == 1


@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
def test_an_exact_index_is_written_as_faiss_itself_writes_it(tmp_path: Path, metric: int) -> None:
    codes = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    vectors = faiss.IndexFlat(8, metric)
    with flat_file(tmp_path / "ours", vectors, len(codes)) as file:
        file.write(codes[:30].tobytes())
        file.write(codes[30:].tobytes())
    assert vectors.ntotal == 0
    vectors.add(codes)
    faiss.write_index(vectors, str(tmp_path / "theirs"))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
