"""The interface of all tokenizers: text to vocabulary ids and back, saved without pickle.

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

# Padding and the marks of a sentence's ends do not belong to its text.
NOT_TEXT = (PAD_ID, SOS_ID, EOS_ID)

FILE = "tokenizer.json"


class Tokenizer(ABC):
    """Maps text to the ids of a vocabulary and back; the first ids are `<pad> <sos> <eos> <unk>`.

    `kind` is `word`, `unigram` or `bpe`. The literal `<unk>` in a text means the unknown token; no other text is read
    as a special token. Texts must not contain surrogates (U+D800 to U+DFFF), which UTF-8 cannot encode.
    """

    kind: str

    @staticmethod
    def load(directory: Path | str) -> "Tokenizer":
        """Read a tokenizer directory of any kind.

        Raises `UserError` if it is missing, damaged, edited or of an unknown kind.
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
        """Write the tokenizer as a directory of its own, and replace what was there."""
        with storage.new_directory(directory) as partial:
            state = {"kind": self.kind, "hash": self.hash, **self._write(partial)}
            storage.write_json(partial / FILE, state)

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """The number of ids, including the four special ones."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """SHA-256 of everything that determines the ids of a text, hexadecimal."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Convert a text to the ids of its tokens, without `<sos>` and `<eos>`."""

    @abstractmethod
    def encode_batch(self, texts: pa.StringArray | Sequence[str]) -> pa.ListArray:
        """Encode N texts (none of them null) together, as `encode` does, into N lists of int32."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Convert `ids` to a text, without padding, `<sos>` and `<eos>`. Never fails on ids of the vocabulary."""

    @abstractmethod
    def token(self, id: int) -> str:
        """Return one token of the vocabulary as text for people."""

    @abstractmethod
    def _write(self, directory: Path) -> dict[str, Any]:
        """Write the parts that do not fit into JSON, and return the state that does."""

    @classmethod
    @abstractmethod
    def _read(cls, kind: str, state: dict[str, Any], directory: Path) -> "Tokenizer":
        """Read the files and the state of `_write`. Raises `UserError` if they are damaged."""


def string_array(texts: pa.StringArray | Sequence[str]) -> pa.StringArray:
    """Convert texts to one Arrow array."""
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
