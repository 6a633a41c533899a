"""Prepared corpora of either kind: sentences or vectors."""

from pathlib import Path

from smim.errors import UserError
from smim.text.corpus import Corpus, PreparedCorpus
from smim.vectors.corpus import KIND, VectorCorpus


def open_corpus(directory: Path | str, *, teacher: Path | str | None = None) -> Corpus | VectorCorpus:
    """Open a prepared corpus; raises `UserError` if it is missing, damaged or inconsistent.

    `teacher`: a directory that `smim teach` made from it; only for corpora of sentences.
    """
    card = PreparedCorpus.read_card(Path(directory))
    if card.get("kind") != KIND:
        return Corpus.open(directory, teacher=teacher)
    if teacher is not None:
        raise UserError(f"corpus.teacher={teacher} is for sentences, but {directory} holds vectors; leave it out")
    return VectorCorpus.open(directory)
