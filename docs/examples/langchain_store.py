"""A model as LangChain's `Embeddings`, and an index as its `VectorStore`.

    pip install langchain-core==1.2.0
    python docs/examples/langchain_store.py english-small mine.txt "The waiter was rude."

The index is made of a file of sentences, one a line. It is searched by codes and words together, with equal sentences
once, and each hit is also given back from its code.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

import smim
from smim.generation import SentenceModel
from smim.search import IndexWriter, index_texts, open_index
from smim.search.query import Hit


class SmimEmbeddings(Embeddings):
    """The codes of sentences, for any store of LangChain's; compare them by the metric in `model.use.metric`."""

    def __init__(self, model: SentenceModel) -> None:
        self.model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.model.encode(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


class SmimStore(VectorStore):
    """An index on disk. Metadata are its labels: the same columns for all sentences, text or numbers."""

    def __init__(self, directory: Path | str, model: SentenceModel) -> None:
        self.index = open_index(directory, model=model)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        directory: Path | str = "",
        model_dir: Path | str = "english-small",
        **_: Any,
    ) -> Self:
        """Builds the index at `directory`."""
        assert isinstance(embedding, SmimEmbeddings) and directory
        numbers = None if ids is None else [int(id) for id in ids]
        labels = _columns(metadatas or [])
        index_texts(embedding.model, texts, directory, ids=numbers, labels=labels)
        return cls(directory, embedding.model)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **_: Any,
    ) -> list[str]:
        numbers = None if ids is None else [int(id) for id in ids]
        with IndexWriter(self.index.directory, model=self.index.model) as writer:
            return [str(id) for id in writer.add(list(texts), ids=numbers, labels=_columns(metadatas or []))]

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        with IndexWriter(self.index.directory, model=self.index.model) as writer:
            return writer.delete([int(id) for id in ids or []]) > 0

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(**vars(row)) for row in self.index.get([int(id) for id in ids])]

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        """The smaller the score, a distance, the nearer. `filter` is on labels; other options are those of `search`."""
        return [(_document(hit.id, hit.text, hit.labels), hit.distance) for hit in self.hits(query, k, **options)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return [(_document(hit.id, hit.text, hit.labels), hit.similarity) for hit in self.hits(query, k, **options)]

    def hits(self, query: str, k: int, *, filter: dict[str, Any] | None = None, **options: Any) -> list[Hit]:
        [hits] = self.index.search([query], k, where=filter, **{"mode": "hybrid", "fold": "words", **options})
        return hits


def _document(id: int, text: str, labels: dict[str, Any]) -> Document:
    return Document(id=str(id), page_content=text, metadata=labels)


def _columns(metadatas: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for metadata in metadatas for name in metadata)
    return {name: [metadata.get(name) for metadata in metadatas] for name in names}


def main() -> None:
    model_dir, file, query = sys.argv[1:]
    embeddings = SmimEmbeddings(smim.load(model_dir))
    texts = list(filter(None, Path(file).read_text(encoding="utf-8").splitlines()))
    with tempfile.TemporaryDirectory() as folder:
        store = SmimStore.from_texts(texts, embeddings, directory=Path(folder) / "index", model_dir=model_dir)
        retriever = store.as_retriever(search_kwargs={"k": 3})
        for document in retriever.invoke(query):
            print(f"{document.id}  {document.page_content}")
            print("   decoded: " + embeddings.model.reconstruct([document.page_content])[0])


if __name__ == "__main__":
    main()
