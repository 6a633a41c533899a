"""FAISS on a GPU: the answers of the CPU. Where FAISS has no GPU, copies on the CPU stand for what would be on one."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from typer.testing import CliRunner

from smim.cli import app
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search import Index, IndexWriter, build_index, index_texts, open_index
from smim.search import factory as factories
from smim.search.gpu import VectorsOnGpu
from smim.text.corpus import Corpus
from tests.search.codes import index_of_codes

NUM = 3000
HAS_GPU = faiss.get_num_gpus() > 0
FACTORIES = ["Flat", "IVF16,Flat", "IVF16,SQ8", "IVF16,PQ4x4", "PCA8,IVF16,Flat"]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many results each search on the GPU was for."""
    if not HAS_GPU:
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(
            faiss, "index_cpu_to_gpu", lambda _resources, _device, vectors: faiss.clone_index(vectors), raising=False
        )
        monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", faiss.clone_index, raising=False)
        monkeypatch.setattr(faiss, "index_gpu_to_cpu", faiss.clone_index, raising=False)
    wanted, search = list[int](), VectorsOnGpu.search

    def counted(self: VectorsOnGpu, queries: np.ndarray, k: int, settings: dict[str, int]) -> object:
        wanted.append(k)
        return search(self, queries, k, settings)

    monkeypatch.setattr(VectorsOnGpu, "search", counted)
    return wanted


@pytest.fixture
def codes(model: SentenceModel) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((NUM, model.latent_dim)).astype(np.float32)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_hits_are_those_of_the_cpu(
    factory: str, metric: str, model: SentenceModel, codes: np.ndarray, searched: list[int], tmp_path: Path
) -> None:
    stars = {"stars": np.arange(NUM) % 5}
    alone = index_of_codes(tmp_path / "index", model, codes, labels=stars, factory=factory, metric=metric)
    on_gpu = open_index(tmp_path / "index", model=model, gpu=True)
    expected = alone.search(codes[:20], 10)
    assert not searched
    found = on_gpu.search(codes[:20], 10)
    assert len(searched) == 1
    assert [[hit.id for hit in hits] for hits in found] == [[hit.id for hit in hits] for hits in expected]
    for hits, others in zip(found, expected, strict=True):
        np.testing.assert_allclose([h.distance for h in hits], [h.distance for h in others], rtol=1e-4, atol=1e-5)
    # What FAISS cannot do on a GPU, the CPU does.
    where = {"stars": {"$gte": 3}}
    assert on_gpu.search(codes[:5], 10, where=where) == alone.search(codes[:5], 10, where=where)
    assert on_gpu.search(codes[:2], 2100) == alone.search(codes[:2], 2100)
    assert len(searched) == 1


def test_an_index_is_built_there_and_searched_without_it(
    tiny_model: Path, model: SentenceModel, corpus: Corpus, searched: list[int], tmp_path: Path
) -> None:
    settings = {"model_dir": tiny_model, "factory": "IVF2,Flat"}
    built = build_index(model, corpus, tmp_path / "gpu", gpu=True, **settings)
    alone = build_index(model, corpus, tmp_path / "cpu", **settings)
    queries = corpus.split("test").texts()[:5]
    found, expected = built.search(queries, 3), open_index(tmp_path / "gpu", model=model).search(queries, 3)
    assert searched and found == expected
    assert [hits[0].distance for hits in alone.search(queries, 3)] == pytest.approx([h[0].distance for h in found])


def test_a_changed_index_is_still_searched_there(index: Index, model: SentenceModel, searched: list[int]) -> None:
    opened = open_index(index.directory, model=model, gpu=True)
    opened.search(["a bank"], 2)
    with IndexWriter(index.directory, model=model, gpu=True) as writer:
        [id] = writer.add(["a bank sold shares"])
        before = len(searched)
        assert opened.search(["a bank sold shares"], 1)[0][0].text == "a bank sold shares"
        assert len(searched) == before + 2  # segments
        writer.compact()
    assert opened.get([id])[0].text == "a bank sold shares"


def test_graphs_stay_on_the_cpu_and_auto_takes_none(
    model: SentenceModel, codes: np.ndarray, searched: list[int], tmp_path: Path
) -> None:
    index = index_of_codes(tmp_path / "index", model, codes, labels={}, factory="HNSW8")
    assert open_index(tmp_path / "index", model=model, gpu=True).search(codes[:3], 4) == index.search(codes[:3], 4)
    assert not searched
    assert factories.resolve("auto", 200_000, 64, 10**12).startswith("HNSW")
    assert factories.resolve("auto", 200_000, 64, 10**12, gpu=True).startswith("IVF")


@pytest.mark.skipif(HAS_GPU, reason="has a GPU")
def test_a_gpu_that_is_not_there_is_named(index: Index, model: SentenceModel, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="faiss-gpu and a GPU"):
        open_index(index.directory, model=model, gpu=True)
    with pytest.raises(UserError, match="faiss-gpu and a GPU"):
        index_texts(model, ["a bank"], tmp_path / "new", model_dir=tiny_model, gpu=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="faiss-gpu and a GPU"):
        IndexWriter(index.directory, gpu=True)
    for command in (
        ["search", str(index.directory), "a bank", "--gpu"],
        ["serve", "--index", str(index.directory), "--gpu", "--port", "0"],
    ):
        ended = CliRunner().invoke(app, command)
        assert ended.exit_code and "faiss-gpu and a GPU" in str(ended.exception) + ended.output
