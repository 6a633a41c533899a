"""An index of the meaning part of codes alone, and what a model's own metric decides."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smim
from smim.errors import Unsupported, UserError
from smim.generation import SentenceModel
from smim.model.directory import save_model
from smim.search import Index, IndexWriter, build_index, index_texts, open_index
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.errors import Unreadable
from smim.search.latents import Latents
from smim.search.manifest import Manifest
from smim.search.query import Line, Options, Query, Sum
from smim.text.corpus import Corpus

ONE, OTHER = "a bank sold shares", "her brother lost a small house"


@pytest.fixture(scope="module")
def free(meaning_model: Path) -> SentenceModel:
    return smim.load(meaning_model, device="cpu")


def meanings(model: SentenceModel, texts: list[str]) -> np.ndarray:
    codes = model.encode(texts)[:, :6]
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


@pytest.fixture
def meant(free: SentenceModel, corpus: Corpus, meaning_model: Path, tmp_path: Path) -> Index:
    return build_index(free, corpus, tmp_path / "meant", model_dir=meaning_model, part="meaning")


def hits(index: Index, queries: Any, k: int = 5, **options: Any) -> list[list[tuple[int, Any]]]:
    return [[(hit.id, pytest.approx(hit.distance, abs=1e-5)) for hit in found] for found in index.search(queries, k)]


@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize("factory", ["Flat", "HNSW16"])
def test_it_compares_meaning_parts_and_takes_their_room(
    latents: bool, factory: str, free: SentenceModel, corpus: Corpus, meaning_model: Path, tmp_path: Path
) -> None:
    given = {}
    if latents:
        encode_corpus(meaning_model, corpus.directory, tmp_path / "latents", args=EncodeArgs())
        given = {"latents": Latents.open(tmp_path / "latents")}
    options = {"model_dir": meaning_model, "factory": factory, **given}
    part = build_index(free, corpus, tmp_path / "part", part="meaning", **options)
    assert (part.manifest.part, part.manifest.dimension, part.manifest.metric) == ("meaning", 6, "cosine")
    stored = meanings(free, corpus.split("train").texts())
    np.testing.assert_allclose(part.codes(range(40)), stored, atol=1e-6)
    [query] = meanings(free, [ONE])
    [found] = part.search([ONE], 40)
    assert [hit.distance for hit in found] == pytest.approx(sorted(1 - stored @ query), abs=1e-5)
    whole = build_index(free, corpus, tmp_path / "whole", **options)
    sizes = [each.manifest.segments[0].files["vectors.faiss"].bytes for each in (part, whole)]
    assert sizes[1] - sizes[0] >= 40 * 4 * 18 * (factory == "Flat") and sizes[0] < sizes[1]


def test_a_query_may_be_a_whole_code_or_its_meaning_part(meant: Index, free: SentenceModel) -> None:
    codes = free.encode([ONE, OTHER])
    assert hits(meant, codes) == hits(meant, codes[:, :6]) == hits(meant, [ONE, OTHER])
    mixed = [Query(code=codes[0].tolist()), Query(id=3)]
    assert hits(meant, mixed) == [*hits(meant, [ONE]), *[hits(meant, [Query(id=3)])[0]]]
    for width in (5, 7, 23):
        with pytest.raises(UserError, match=rf"shape \(1, {width}\), but this index's are \[N, 24\] or \[N, 6\]"):
            meant.search(np.zeros((1, width)))


def test_a_meaning_part_is_no_query_of_an_index_of_whole_codes(
    free: SentenceModel, corpus: Corpus, meaning_model: Path, tmp_path: Path
) -> None:
    whole = build_index(free, corpus, tmp_path / "whole", model_dir=meaning_model)
    assert whole.manifest.part is None and whole.manifest.dimension == 24
    with pytest.raises(UserError, match=r"shape \(1, 6\), but this index's are \[N, 24\]$"):
        whole.search(np.zeros((1, 6)))


def test_what_it_decodes_comes_of_whole_codes_where_there_is_one(meant: Index, free: SentenceModel) -> None:
    [code] = free.encode([ONE])
    queries = [
        Query(text=ONE),
        Query(id=3),
        Query(code=code.tolist()),
        Query(line=Line(ONE, OTHER, 0.5)),
        Query(line=Line(ONE, OTHER, 1.0)),
        Query(sum=Sum([ONE, OTHER], [ONE])),
    ]
    results = meant.results(queries, Options(3, decode=True, reconstruct=True))
    own = meant.get([3])[0].text
    blends = [free.interpolation(ONE, OTHER, steps=3)[1], free.arithmetic([ONE, OTHER], [ONE])]
    between, of_sum = free.decode(np.stack(blends), literal=0.0)
    expected = [*free.reconstruct([ONE, own, ONE]), between, *free.reconstruct([OTHER]), of_sum]
    assert [result.decoded for result in results] == expected
    for result in results:
        assert [hit.reconstruction for hit in result.hits] == free.reconstruct([hit.text for hit in result.hits])
    [of_meaning] = meant.results([Query(code=code[:6].tolist())], Options(3, decode=True))
    assert [of_meaning.decoded] == free.reconstruct([ONE], literal=0.0) and of_meaning.hits
    [scored] = meant.search([ONE], 2, score=True)
    assert all(np.isfinite(hit.score) for hit in scored if hit.score is not None) and scored[0].score is not None


def test_hits_and_queries_are_decoded_as_literally_as_is_asked(meant: Index, free: SentenceModel) -> None:
    [result] = meant.results([Query(text=ONE)], Options(3, decode=True, reconstruct=True, literal=0.0))
    assert [result.decoded] == free.reconstruct([ONE], literal=0.0)
    texts = [hit.text for hit in result.hits]
    assert [hit.reconstruction for hit in result.hits] == free.reconstruct(texts, literal=0.0)
    with pytest.raises(UserError, match=r"literal is 1\.5"):
        Options(literal=1.5)


def test_it_is_changed_as_any_other(meant: Index, free: SentenceModel, corpus: Corpus) -> None:
    with IndexWriter(meant.directory, model=free) as writer:
        assert writer.add([OTHER], labels={"topic": ["home"]}) == [40]
        writer.upsert([ONE], ids=[3])
        np.testing.assert_allclose(meant.codes([40, 3]), meanings(free, [OTHER, ONE]), atol=1e-6)
        writer.delete([0])
        before = hits(meant, [ONE, OTHER], 40)
        writer.compact()
    assert len(meant.manifest.segments) == 1 and hits(meant, [ONE, OTHER], 40) == before
    again = open_index(meant.directory, model=free)
    assert (again.manifest.part, again.manifest.dimension) == ("meaning", 6)


def test_texts_are_indexed_by_their_meaning_too(free: SentenceModel, meaning_model: Path, tmp_path: Path) -> None:
    index = index_texts(free, [ONE, OTHER], tmp_path / "two", model_dir=meaning_model, part="meaning")
    np.testing.assert_allclose(index.codes([0, 1]), meanings(free, [ONE, OTHER]), atol=1e-6)


def test_codes_without_a_meaning_part_are_indexed_whole(
    model: SentenceModel, free: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match="codes have no meaning part; leave out `part`"):
        build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, part="meaning")
    with pytest.raises(UserError, match=r"part is .order.; .*meaning"):
        build_index(free, corpus, tmp_path / "index", model_dir=tiny_model, part="order")
    assert not (tmp_path / "index").exists()


def test_an_index_that_says_another_part_than_it_holds_is_refused(meant: Index, free: SentenceModel) -> None:
    manifest = meant.manifest
    manifest.changed(part=None).write(meant.directory)
    with pytest.raises(Unreadable, match="of 6 dimensions, but those of its model have 24"):
        open_index(meant.directory, model=free)
    with pytest.raises(UserError, match=r"manifest\.part is 'order'"):
        manifest.changed(part="order")


def test_a_manifest_of_whole_codes_is_as_before(index: Index) -> None:
    assert "part" not in (index.directory / "manifest.json").read_text()
    assert Manifest.read(index.directory).part is None


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_codes_are_compared_by_the_models_own_metric_unless_another_is_given(
    metric: str, model: SentenceModel, corpus: Corpus, tmp_path: Path
) -> None:
    training = {"objective": "amim"}
    save_model(tmp_path / "model", model.autoencoder, model.tokenizer, training=training, use={"metric": metric})
    own = smim.load(tmp_path / "model", device="cpu")
    index = build_index(own, corpus, tmp_path / "index", model_dir=tmp_path / "model")
    assert index.manifest.metric == metric
    texts = index_texts(own, [ONE, OTHER], tmp_path / "texts", model_dir=tmp_path / "model")
    assert texts.manifest.metric == metric
    other = build_index(own, corpus, tmp_path / "other", model_dir=tmp_path / "model", metric="cosine")
    assert other.manifest.metric == "cosine"


def test_shards_search_and_give_meaning_parts(meant: Index, free: SentenceModel) -> None:
    from tests.serve.test_cluster import cluster, rows

    with IndexWriter(meant.directory, model=free) as writer:
        writer.add([OTHER, ONE])
    backend = cluster(meant, shards=2)
    codes = free.encode([ONE, OTHER])
    for given in (codes, codes[:, :6].copy()):
        found = asyncio.run(backend.search(given, Options(6)))
        assert rows(found) == [[hit.as_dict() for hit in each] for each in meant.search(codes, 6)]
    np.testing.assert_array_equal(asyncio.run(backend.codes([41, 3])), meant.codes([41, 3]))
    assert asyncio.run(backend.describe()).part == "meaning"
