"""Search in the latent space: build an index of a corpus's codes, then query it for the nearest sentences.

from smim.search import open_index
open_index("indexes/ptb").search(["the company said profit rose"], k=5)
"""

from typing import TYPE_CHECKING, Any

__all__ = [
    "Hit",
    "Index",
    "IndexWriter",
    "Options",
    "Query",
    "build_index",
    "index_texts",
    "open_index",
    "rebuild_index",
]

if TYPE_CHECKING:
    from smim.search.build import build_index, index_texts, rebuild_index
    from smim.search.index import Index, open_index
    from smim.search.query import Hit, Options, Query
    from smim.search.writer import IndexWriter


def __getattr__(name: str) -> Any:
    # Importing FAISS and torch takes seconds; importing the package should not wait for them.
    if name in __all__:
        from smim.search import build, index, writer

        return getattr(next(module for module in (build, writer, index) if hasattr(module, name)), name)
    raise AttributeError(f"module 'smim.search' has no attribute {name!r}")
