"""An index as a retriever of Haystack, and a model as its embedders.

    pip install haystack-ai==3.4.1
    python docs/examples/haystack_retriever.py english-small mine.txt "The waiter was rude."

The index is made of a file of sentences, one a line. The retriever searches it by codes and words together, and shows
equal sentences once; a document's score is the similarity, from 0 to 1.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack import Document, Pipeline, component, default_from_dict, default_to_dict

import smim
from smim.search import index_texts, open_index


@component
class SmimRetriever:
    """The documents of an index that are nearest to a query; their `meta` are the index's labels.

    `filters` are those of `smim.search`, such as `{"stars": {"$gte": 4}}`, and `options` those of `Index.search`.
    """

    def __init__(self, directory: str, top_k: int = 10, options: dict[str, Any] | None = None) -> None:
        self.directory, self.top_k, self.options = directory, top_k, options or {}
        self.index = open_index(directory)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, top_k: int | None = None, filters: dict[str, Any] | None = None
    ) -> dict[str, list[Document]]:
        options = {"mode": "hybrid", "fold": "words", **self.options}
        [hits] = self.index.search([query], top_k or self.top_k, where=filters, **options)
        found = [Document(id=str(hit.id), content=hit.text, meta=hit.labels, score=hit.similarity) for hit in hits]
        return {"documents": found}

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(self, directory=self.directory, top_k=self.top_k, options=self.options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "SmimRetriever":
        return default_from_dict(cls, data)


@component
class SmimTextEmbedder:
    """The code of a text, for any document store of Haystack's; compare codes by the metric in `model.use.metric`."""

    def __init__(self, model: str = "english-small") -> None:
        self.model = smim.load(model)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        return {"embedding": self.model.encode([text])[0].tolist()}


@component
class SmimDocumentEmbedder:
    """Documents with their codes."""

    def __init__(self, model: str = "english-small") -> None:
        self.model = smim.load(model)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        codes = self.model.encode([document.content or "" for document in documents]).tolist() if documents else []
        return {"documents": [replace(each, embedding=code) for each, code in zip(documents, codes, strict=True)]}


def main() -> None:
    model_dir, file, query = sys.argv[1:]
    texts = list(filter(None, Path(file).read_text(encoding="utf-8").splitlines()))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "index"
        index_texts(smim.load(model_dir), texts, directory)
        pipeline = Pipeline()
        pipeline.add_component("retriever", SmimRetriever(str(directory), top_k=3))
        found = pipeline.run({"retriever": {"query": query}})["retriever"]["documents"]
        for document in found:
            print(f"{document.score:.3f}  {document.content}")


if __name__ == "__main__":
    main()
