"""Prepared corpora of either kind: of sentences, or of vectors."""

from pathlib import Path

from smim.text.corpus import Corpus, PreparedCorpus
from smim.vectors.corpus import KIND, VectorCorpus


def open_corpus(directory: Path | str) -> Corpus | VectorCorpus:
    """Opens a prepared corpus; raises `UserError` where it is missing, damaged or inconsistent."""
    card = PreparedCorpus.read_card(Path(directory))
    return VectorCorpus.open(directory) if card.get("kind") == KIND else Corpus.open(directory)
