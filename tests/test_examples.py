"""The examples of the documentation run as they are written."""

import json
import runpy
import sys
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest

import smim
from smim.evaluation.semantic_sets import read_sets
from smim.evaluation.semantics import measure
from smim.search import index_texts
from smim.search.encode import EncodeArgs, encode_corpus
from smim.text.corpus import Corpus

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


class Example(Protocol):
    """Runs an example with arguments; the lines that it prints."""

    def __call__(self, name: str, *arguments: object) -> list[str]: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Example:
    def lines(name: str, *arguments: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return lines


def test_a_dataset_gets_codes_and_finds_the_query_itself(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, run: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    texts = Corpus.open(tiny_corpus).split("train").texts()
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    lines = run("encode_datasets.py", tiny_model, tmp_path / "texts.jsonl", texts[7])
    assert lines[0] == "40 sentences, columns text, code, 8 dimensions"
    assert lines[3].split(maxsplit=1) == ["0.000", texts[7]]
    assert len(lines) == 3 + 5 + 2 + 5


def test_a_vector_database_is_fed_from_latents_and_finds_the_query_itself(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, run: Example
) -> None:
    pytest.importorskip("qdrant_client")
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "latents", args=EncodeArgs(rows_per_shard=16))
    text = Corpus.open(tiny_corpus).split("train").texts([33])[0]
    arguments = tiny_model, tiny_corpus, tmp_path / "latents", text, "--database", tmp_path / "database"
    first, second = (run("vector_database.py", *arguments) for _ in range(2))
    assert first == second  # the second time the sentences are there
    assert first[0].startswith("40 sentences of 8 dimensions")
    assert first[1].split(maxsplit=1) == ["0.000", text]
    assert sum(line.startswith("   decoded: ") for line in first) == 5


def test_mteb_measures_what_the_evaluation_does(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, run: Example
) -> None:
    pytest.importorskip("mteb")
    from smim.sentence_transformer import export

    texts = Corpus.open(tiny_corpus).split("train").texts()
    lines = [f"{row % 7}\t{one}\t{other}" for row, (one, other) in enumerate(pairwise(texts))]
    (tmp_path / "near-dev.tsv").write_text("\n".join(lines))
    export(tiny_model, tmp_path / "exported", similarity="cosine")
    [line] = run("mteb_local.py", tmp_path / "exported", tmp_path / "near-dev.tsv")
    found = measure(smim.load(tiny_model, device="cpu").encode, read_sets(tmp_path / "near-dev.tsv"))
    assert line.split() == ["near-dev", "cosine_spearman", f"{found['spearman:near-dev'].value:.4f}"]


def test_langchain_finds_what_the_index_does(tiny_model: Path, tiny_corpus: Path, tmp_path: Path, run: Example) -> None:
    pytest.importorskip("langchain_core")
    texts = Corpus.open(tiny_corpus).split("train").texts()
    (tmp_path / "texts.txt").write_text("\n".join([*texts, texts[7]]) + "\n")
    lines = run("langchain_store.py", tiny_model, tmp_path / "texts.txt", texts[7])
    assert lines[0].split(maxsplit=1) == ["7", texts[7]] and len(lines) == 6
    assert sum(line.startswith("   decoded: ") for line in lines) == 3

    example = runpy.run_path(str(EXAMPLES / "langchain_store.py"))
    embeddings = example["SmimEmbeddings"](smim.load(tiny_model, device="cpu"))
    assert embeddings.embed_query(texts[0]) == pytest.approx(embeddings.embed_documents(texts[:2])[0], abs=1e-5)
    metadatas = [{"number": number} for number in range(10)]
    store = example["SmimStore"].from_texts(
        texts[:10], embeddings, metadatas, directory=tmp_path / "index", model_dir=tiny_model
    )
    assert store.add_texts([texts[10]], [{"number": 10}]) == ["10"]
    [document] = store.get_by_ids(["10"])
    assert (document.page_content, document.metadata, document.id) == (texts[10], {"number": 10}, "10")
    assert store.similarity_search(texts[10], k=1)[0] == document
    [(_, similarity)] = store.similarity_search_with_relevance_scores(texts[10], k=1)
    assert similarity == pytest.approx(1, abs=1e-5)
    found = store.similarity_search(texts[10], k=20, filter={"number": {"$lt": 5}})
    assert found and all(document.metadata["number"] < 5 for document in found)
    assert store.delete(["10"]) and not store.delete(["10"])


def test_haystack_finds_what_the_index_does(tiny_model: Path, tiny_corpus: Path, tmp_path: Path, run: Example) -> None:
    haystack = pytest.importorskip("haystack")
    texts = Corpus.open(tiny_corpus).split("train").texts()
    (tmp_path / "texts.txt").write_text("\n".join([*texts, texts[7]]) + "\n")
    lines = run("haystack_retriever.py", tiny_model, tmp_path / "texts.txt", texts[7])
    assert lines[0] == f"1.000  {texts[7]}" and len(lines) == 3

    example = runpy.run_path(str(EXAMPLES / "haystack_retriever.py"))
    labels = {"number": list(range(10))}
    index = index_texts(
        smim.load(tiny_model, device="cpu"), texts[:10], tmp_path / "index", model_dir=tiny_model, labels=labels
    )
    retriever = example["SmimRetriever"](str(tmp_path / "index"), options={"mode": "dense"})
    found = retriever.run(texts[3], top_k=4, filters={"number": {"$lt": 5}})["documents"]
    hits = index.search([texts[3]], 4, where={"number": {"$lt": 5}})[0]
    assert [(each.id, each.content, each.meta) for each in found] == [(str(h.id), h.text, h.labels) for h in hits]
    assert retriever.to_dict()["init_parameters"] == {
        "directory": str(tmp_path / "index"),
        "top_k": 10,
        "options": {"mode": "dense"},
    }
    one = example["SmimTextEmbedder"](str(tiny_model)).run(texts[0])["embedding"]
    [document] = example["SmimDocumentEmbedder"](str(tiny_model)).run([haystack.Document(content=texts[0])])[
        "documents"
    ]
    assert document.embedding == pytest.approx(one, abs=1e-6) and document.content == texts[0]
