from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

import smim
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model.directory import load_model, save_model
from smim.search import Index, build_index
from smim.search import factory as factories
from smim.search import segment as segment_module
from smim.search import snapshot as snapshot_module
from smim.text.corpus import Corpus
from tests.search.codes import index_of_codes

NUM_ROWS = 20_000
MAPS = Path("/proc/self/maps")


@pytest.fixture(scope="module")
def codes(model: SentenceModel) -> np.ndarray:
    """In clusters, one around each of forty places."""
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(40, model.latent_dim))
    spread = 0.3 * chance.normal(size=(NUM_ROWS, model.latent_dim))
    return (centres[chance.integers(40, size=NUM_ROWS)] + spread).astype(np.float32)


def test_interpolation_begins_and_ends_at_its_sentences(model: SentenceModel) -> None:
    first, second = "the company sold shares", "her brother lost a small house"
    codes = model.interpolation(first, second, steps=3)
    start, end = model.encode([first, second])
    np.testing.assert_allclose(codes, [start, (start + end) / 2, end], atol=1e-6)
    assert model.interpolate(first, second, steps=3) == model.decode(codes)
    assert len(set(model.decode(codes))) == 3


def test_arithmetic_adds_and_takes_away_codes(model: SentenceModel) -> None:
    texts = ["the company sold shares", "a bank lost shares", "her brother lost a small house"]
    a, b, c = model.encode(texts)
    np.testing.assert_allclose(model.arithmetic([texts[0], texts[2]], [texts[1]]), a - b + c, atol=1e-6)
    with pytest.raises(UserError, match="at least one sentence"):
        model.arithmetic([], ["a bank lost shares"])


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_score_is_the_querys_posterior_at_the_hits_code(
    metric: str, model: SentenceModel, corpus: Corpus, tiny_model: Path, tmp_path: Path
) -> None:
    index = build_index(model, corpus, tmp_path / "index", model_dir=tiny_model, metric=metric)
    queries = ["a bank sold shares", "the company lost the new law"]
    posterior = model.posterior(queries)
    for i, hits in enumerate(index.search(queries, k=3, score=True)):
        z = model.posterior([hit.text for hit in hits]).mean
        deviations = posterior.standard_deviation[i]
        expected = -0.5 * (((z - posterior.mean[i]) / deviations) ** 2 + np.log(2 * np.pi)) - deviations.log()
        assert [hit.score for hit in hits] == pytest.approx(expected.sum(-1).tolist(), rel=1e-5)
    [hits] = index.more_like([3], k=2, score=True)
    [itself] = index.search([index.get([3])[0].text], k=3, score=True)
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in itself if hit.id != 3])


def test_hits_are_reconstructed_where_that_is_asked_for(index: Index, model: SentenceModel) -> None:
    query = "a bank sold shares"
    [plain], [hits] = index.search([query], k=3), index.search([query], k=3, reconstruct=True)
    assert [hit.reconstruction for hit in hits] == model.reconstruct([hit.text for hit in hits])
    assert len({hit.reconstruction for hit in hits}) == 3
    assert [hit.reconstruction for hit in plain] == [None] * 3
    assert "reconstruction" in hits[0].as_dict() and "reconstruction" not in plain[0].as_dict()
    code = model.encode([query])
    assert index.search(code, k=3, reconstruct=True) == [[replace(hit, words=None) for hit in hits]]


def test_score_that_has_no_meaning_is_refused(index: Index, corpus: Corpus, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not codes"):
        index.search(index.codes([0]), k=1, score=True)
    autoencoder, tokenizer, _ = load_model(tiny_model)
    save_model(tmp_path / "ae", autoencoder, tokenizer, training={"objective": "autoencoder"})
    model = smim.load(tmp_path / "ae", device="cpu")
    other = build_index(model, corpus, tmp_path / "other", model_dir=tmp_path / "ae")
    with pytest.raises(UserError, match="variance was never trained"):
        other.search(["a bank sold shares"], k=1, score=True)


@pytest.mark.parametrize("factory", ["Flat", "IVF64,Flat", "HNSW16", "IVF64,PQ4x4"])
@pytest.mark.parametrize("share", [0.5, 0.01, 0.0001])
def test_filter_gives_what_brute_force_over_the_rows_that_pass_gives(
    factory: str,
    share: float,
    codes: np.ndarray,
    model: SentenceModel,
    tmp_path: Path,
) -> None:
    number = np.random.default_rng(1).permutation(NUM_ROWS)
    index = index_of_codes(tmp_path / "index", model, codes, labels={"number": number}, factory=factory)
    bound = int(share * NUM_ROWS)
    passing = np.flatnonzero(number < bound)
    queries = codes[:20] + 0.05
    distances = np.linalg.norm(queries[:, None] - codes[passing], axis=-1)
    k = min(10, bound)
    found = index.search(queries, k=k, where={"number": {"$lt": bound}})
    expected = passing[np.argsort(distances, axis=1, kind="stable")[:, :k]]
    assert [[hit.id for hit in hits] for hits in found] == expected.tolist()


@pytest.mark.parametrize(
    "factory",
    [
        *("Flat", "SQ8", "HNSW16,SQfp16", "HNSW16_SQ8", "PCA4,HNSW16,Flat", "IVF64,Flat", "IVF64_HNSW8,Flat"),
        *("IVF64,PQ4x4", "PCA4,IVF64,PQ4x4", "IVF64,PQ4x4fs", "PCA4,IVF64,SQ8", "IMI2x4,PQ4x4"),
    ],
)
def test_an_index_is_mapped_into_memory_and_searched_as_faiss_searches_it(
    factory: str, codes: np.ndarray, model: SentenceModel, tmp_path: Path
) -> None:
    index = index_of_codes(tmp_path / "index", model, codes, labels={}, factory=factory)
    file = index.directory / "00000001" / "vectors.faiss"
    if MAPS.exists():  # on Linux
        assert str(file) in MAPS.read_text()
    bare = faiss.read_index(str(file))
    queries = codes[:50] + 0.05
    parameters = factories.search_parameters(bare, index.manifest.search, None)
    squared, _ = bare.search(queries, 10, params=parameters)
    found = index.search(queries, k=10, refine=0)
    distances = [[hit.distance for hit in hits] for hits in found]
    np.testing.assert_allclose(distances, np.sqrt(squared), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("limit", [0, 2**20])
def test_tables_of_product_codes_are_computed_where_those_of_all_segments_are_small(
    limit: int, codes: np.ndarray, model: SentenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "_TABLE_BYTES", limit)
    index = index_of_codes(tmp_path / "index", model, codes, labels={}, factory="PCA4,IVF64,PQ4x4")
    [segment] = index.snapshot.segments
    assert factories.table_bytes(segment.vectors) == 4 * 64 * 4 * 16
    assert bool(faiss.downcast_index(faiss.extract_index_ivf(segment.vectors)).use_precomputed_table) == bool(limit)
    assert [hits[0].id for hits in index.search(codes[:50], k=1)] == list(range(50))


@pytest.mark.parametrize("factory", ["IVF64,Flat", "HNSW16"])
def test_filter_on_rows_far_from_the_query_still_gives_k(
    factory: str, codes: np.ndarray, model: SentenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_module, "_COMPARED_ONE_BY_ONE", 0)  # as if the rows that pass were many
    far = np.argsort(np.linalg.norm(codes - codes[0], axis=1))[-NUM_ROWS // 4 :]
    label = np.isin(np.arange(NUM_ROWS), far)
    index = index_of_codes(tmp_path / "index", model, codes, labels={"far": label}, factory=factory)
    [hits] = index.search(codes[:1], k=10, where={"far": True}, nprobe=1)
    distances = np.linalg.norm(codes[far] - codes[0], axis=1)
    assert [hit.distance for hit in hits] == pytest.approx(np.sort(distances)[:10], rel=1e-5)
