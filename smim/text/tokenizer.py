"""What every tokenizer does: text to vocabulary ids and back, saved without pickle.

`smim.text.words` splits text into words, `smim.text.pieces` into SentencePiece's pieces.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from smim import storage
from smim.errors import UserError

PAD, SOS, EOS, UNK = SPECIAL = ("<pad>", "<sos>", "<eos>", "<unk>")
PAD_ID, SOS_ID, EOS_ID, UNK_ID = range(4)

# Padding and the marks of a sentence's ends are no part of its text.
NOT_TEXT = (PAD_ID, SOS_ID, EOS_ID)

FILE = "tokenizer.json"


class Tokenizer(ABC):
    """Maps text to the ids of a vocabulary and back; its first ids are `<pad> <sos> <eos> <unk>`.

    `kind` is `word`, `unigram` or `bpe`. The literal `<unk>` in a text means the unknown token; no other
    text is ever read as a special token. Texts hold no surrogates (U+D800 to U+DFFF), which UTF-8 has not.
    """

    kind: str

    @staticmethod
    def load(directory: Path | str) -> "Tokenizer":
        """Reads a tokenizer directory of any kind.

        Raises `UserError` where it is missing, damaged, edited, of a kind that this version does not
        know, or where the library that its kind needs is not installed.
        """
        path = Path(directory) / FILE
        state = storage.read_json(storage.own_file(Path(directory), FILE))
        kind, hash = (state.pop(name, None) for name in ("kind", "hash"))
        try:
            tokenizer = _class_of(kind, path)._read(kind, state, path.parent)
            same = tokenizer.hash == hash
        except UnicodeEncodeError:  # half of a surrogate pair
            same = False
        if not same:
            raise UserError(f"{path} does not match its own hash; the tokenizer was edited or damaged")
        return tokenizer

    def save(self, directory: Path | str) -> None:
        """Writes the tokenizer as a directory of its own, which takes the place of what was there."""
        with storage.new_directory(directory) as partial:
            state = {"kind": self.kind, "hash": self.hash, **self._write(partial)}
            storage.write_json(partial / FILE, state)

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """Number of ids, the four special ones included."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """SHA-256 of everything that decides which ids a text gets, hexadecimal."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens, without `<sos>` and `<eos>`."""

    @abstractmethod
    def encode_batch(self, texts: pa.StringArray | Sequence[str]) -> pa.ListArray:
        """What `encode` gives for each of N texts (none of them null), in one go: N lists of int32."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; padding, `<sos>` and `<eos>` are left out. Never fails on ids of the vocabulary."""

    @abstractmethod
    def token(self, id: int) -> str:
        """How one token of the vocabulary is shown to people."""

    @abstractmethod
    def _write(self, directory: Path) -> dict[str, Any]:
        """Writes what does not fit into JSON, and returns what does."""

    @classmethod
    @abstractmethod
    def _read(cls, kind: str, state: dict[str, Any], directory: Path) -> "Tokenizer":
        """The tokenizer that `_write` wrote; raises `UserError` where it is damaged."""


def string_array(texts: pa.StringArray | Sequence[str]) -> pa.StringArray:
    """The texts as one Arrow array."""
    return texts if isinstance(texts, pa.StringArray) else pa.array(texts, pa.string())


def _class_of(kind: Any, path: Path) -> type[Tokenizer]:
    # Imported here because they import this module.
    from smim.text.pieces import ALGORITHMS, SentencePieceTokenizer
    from smim.text.words import WordTokenizer

    classes: dict[str, type[Tokenizer]] = {WordTokenizer.kind: WordTokenizer}
    classes.update(dict.fromkeys(ALGORITHMS, SentencePieceTokenizer))
    if not isinstance(kind, str) or kind not in classes:
        known = ", ".join(classes)
        raise UserError(f"{path} holds a tokenizer of kind {kind!r}; this version reads {known}")
    return classes[kind]
