"""SentencePiece tokenizers: the vocabulary is learned from text, and decoding recovers any text exactly."""

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smim import storage
from smim.errors import UserError, nearest
from smim.text.tokenizer import (
    EOS,
    EOS_ID,
    FILE,
    NOT_TEXT,
    PAD,
    PAD_ID,
    SOS,
    SOS_ID,
    SPECIAL,
    UNK,
    UNK_ID,
    Tokenizer,
    string_array,
)

ALGORITHMS = ("unigram", "bpe")

_MODEL_FILE = "sentencepiece.model"
_LARGEST_MODEL = 2**27

# SentencePiece writes U+2581 for the space, so a text's own U+2581 is encoded as bytes.
_SPACE_MARK = "\u2581"
# NUL is always the byte piece <0x00>, never part of another piece. It replaces <unk>, which a model cannot read.
_NUL = "\0"
_APART = re.compile(f"([{_NUL}{_SPACE_MARK}])")
# SentencePiece drops training texts with U+2585, its own placeholder for rare characters.
_NEVER_LEARNED = rf"{UNK}|[\x00{_SPACE_MARK}\x{{2585}}]"
# Letters, with apostrophes between and before them, or a run of other characters. A space before belongs to the word.
_APOSTROPHE = "['\u2019]"
_WORD = rf"\s*?( ?{_APOSTROPHE}?[\p{{L}}\p{{M}}]+(?:{_APOSTROPHE}[\p{{L}}\p{{M}}]+)*| ?[^\s\p{{L}}\p{{M}}]+)"

_PREFIX = " "

_OPTIONS: dict[str, Any] = {
    "pad_id": PAD_ID, "bos_id": SOS_ID, "eos_id": EOS_ID, "unk_id": UNK_ID,
    "pad_piece": PAD, "bos_piece": SOS, "eos_piece": EOS, "unk_piece": UNK,
    "unk_surface": UNK,  # how <unk> is decoded
    # These settings keep every text unchanged:
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "max_sentence_length": 2**30,  # bytes, the library's maximum; it would silently skip longer texts
    "num_threads": 1,  # the results depend on the number of threads, and the model stores the number
    "minloglevel": 2,  # errors only
}  # fmt: skip
# For `bpe`, `_WORD` defines the boundaries that a piece may not cross.
_OF_WORDS = {"input_format": "tsv", "split_by_unicode_script": False, "split_by_number": False}

_TOO_LARGE = re.compile(r"Vocabulary size too high .*<= (\d+)")
_TOO_SMALL = re.compile(r"smaller than required_chars. \d+ vs (\d+)")
_NO_TEXT = "!sentences_.empty()"


@dataclass(frozen=True)
class SentencePieceTokenizer(Tokenizer):
    """Splits text into learned pieces, and into UTF-8 bytes where no piece fits; spaces are part of pieces.

    `decode(encode(text)) == text` for every text. `kind` is the algorithm, `unigram` or `bpe`. `model` is
    SentencePiece's model file. `prefix` is put before each text: with a space, the first word gets the same pieces as a
    later word. Tokenizers of earlier versions have no prefix. The tokenizer runs only in the calling thread.
    """

    kind: str
    model: bytes = field(repr=False)
    prefix: str = ""

    @classmethod
    def train(cls, texts: Iterable[str], *, algorithm: str, vocabulary_size: int) -> "SentencePieceTokenizer":
        """Learn a vocabulary of exactly `vocabulary_size` pieces, including 4 special ones and 256 bytes.

        `algorithm` is `unigram` or `bpe`. Pieces of `bpe` may have an apostrophe between letters, as in "don't" or
        "l'homme". Pieces of `unigram` have either letters or other characters. All texts are in memory at once. The
        same texts in the same order give the same model.

        Raises `UserError` for an unknown algorithm, if all texts are empty, and for a size that the texts do not allow.
        The message names the bound.
        """
        if algorithm not in ALGORITHMS:
            raise UserError(f"unknown algorithm {algorithm!r}; {nearest(algorithm, list(ALGORITHMS))}")
        # Read the texts here, because the library would replace reading errors by its own.
        prefixed = pa.array([_PREFIX + text for text in texts if text], pa.large_string())
        model = io.BytesIO()
        import sentencepiece  # word tokenizers do not need it

        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(_counted_words(prefixed) if algorithm == "bpe" else _sentences(prefixed)),
                model_writer=model,
                model_type=algorithm,
                vocab_size=max(vocabulary_size, len(SPECIAL)),  # below this, the library names no bound
                **_OPTIONS | (_OF_WORDS if algorithm == "bpe" else {}),
            )
        except RuntimeError as error:
            raise _explained(error, vocabulary_size) from None
        return cls(kind=algorithm, model=model.getvalue(), prefix=_PREFIX)

    @property
    def vocabulary_size(self) -> int:
        return self._processor.get_piece_size()

    @cached_property
    def hash(self) -> str:
        return hashlib.sha256(self.model + self.prefix.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in _APART.split(self._prefixed(text)):
            ids += self._apart_ids.get(part) or self._plain_ids(part)
        return ids

    def encode_batch(self, texts: pa.StringArray | Sequence[str]) -> pa.ListArray:
        array = string_array(texts)
        replaced = pc.replace_substring(array, pattern=UNK, replacement=_NUL)
        prefixed = [self._prefixed(text) for text in replaced.to_pylist()]
        ids = self._processor.encode(prefixed, out_type="numpy", num_threads=1)
        apart = pc.match_substring_regex(array, f"[\\x00{_SPACE_MARK}]").to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(apart):
            ids[row] = np.array(self.encode(array[int(row)].as_py()), np.int32)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        values = np.concatenate([np.empty(0, np.int32), *ids])
        values[(values == self._nul_id) & ~np.repeat(apart, lengths)] = UNK_ID
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))

    def decode(self, ids: Iterable[int]) -> str:
        """Convert `ids` to a text. A broken sequence of byte pieces becomes U+FFFD."""
        return self._processor.decode([int(i) for i in ids if i not in NOT_TEXT]).removeprefix(self.prefix)

    def token(self, id: int) -> str:
        """Return a piece as SentencePiece writes it: U+2581 for a space, `<0xE2>` for a byte."""
        return self._processor.id_to_piece(int(id))

    def _write(self, directory: Path) -> dict[str, Any]:
        (directory / _MODEL_FILE).write_bytes(self.model)
        return {"file": _MODEL_FILE} | ({"prefix": self.prefix} if self.prefix else {})

    @classmethod
    def _read(cls, kind: str, state: dict[str, Any], directory: Path) -> "SentencePieceTokenizer":
        prefix = state.pop("prefix", "")
        if state != {"file": _MODEL_FILE} or prefix not in ("", _PREFIX):
            raise UserError(f"{directory / FILE} is not a tokenizer file; it was edited or damaged")
        path = storage.own_file(directory, _MODEL_FILE)
        try:
            if path.stat().st_size > _LARGEST_MODEL:
                raise UserError(f"{path} is larger than {_LARGEST_MODEL:,} bytes, the limit for a tokenizer's model")
            tokenizer = cls(kind=kind, model=path.read_bytes(), prefix=prefix)
            known = tokenizer._processor.id_to_piece(list(range(tokenizer.vocabulary_size)))[: len(SPECIAL)]
            bytes_known = all(tokenizer._processor.is_byte(id) for ids in tokenizer._apart_ids.values() for id in ids)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); the tokenizer is not complete") from None
        except (RuntimeError, IndexError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a SentencePiece model ({error}); it is damaged") from None
        if known != list(SPECIAL) or not bytes_known:
            raise UserError(
                f"{path} is a SentencePiece model without the special tokens and bytes; make the tokenizer with sMIM"
            )
        return tokenizer

    def _prefixed(self, text: str) -> str:
        return self.prefix + text if text else text

    def _plain_ids(self, text: str) -> list[int]:
        ids = self._processor.encode(text.replace(UNK, _NUL))
        return [UNK_ID if i == self._nul_id else i for i in ids]

    @cached_property
    def _processor(self) -> Any:
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    @cached_property
    def _apart_ids(self) -> dict[str, list[int]]:
        return {
            character: [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in character.encode()]
            for character in (_NUL, _SPACE_MARK)
        }

    @cached_property
    def _nul_id(self) -> int:
        return self._apart_ids[_NUL][0]


def _sentences(texts: pa.LargeStringArray) -> list[str]:
    """Return the training texts, with <unk> in place of `_NEVER_LEARNED`. No piece crosses a special token."""
    return pc.replace_substring_regex(texts, _NEVER_LEARNED, UNK).to_pylist()


def _counted_words(texts: pa.LargeStringArray) -> list[str]:
    """Return each word, as `_WORD` defines it, followed by a tab and its count."""
    apart = pc.replace_substring_regex(texts, _NEVER_LEARNED, "\n")
    words = pc.split_pattern(pc.replace_substring_regex(apart, _WORD, "\\1\t"), "\t").flatten().value_counts()
    pairs = zip(words.field("values").to_pylist(), words.field("counts").to_pylist(), strict=True)
    return [f"{word}\t{count}" for word, count in pairs if word.strip(" \t\n\f\r")]  # white space is no word


def _explained(error: RuntimeError, vocabulary_size: int) -> Exception:
    """Convert the trainer's error to a `UserError` if the user can cause it. Otherwise return the error itself."""
    message = str(error)
    if bound := _TOO_LARGE.search(message):
        return UserError(f"the texts allow at most {bound[1]} pieces; vocabulary_size is {vocabulary_size}, lower it")
    if bound := _TOO_SMALL.search(message):
        return UserError(
            f"vocabulary_size is {vocabulary_size}; the special tokens, the bytes and the characters of the texts "
            f"need at least {bound[1]}"
        )
    if _NO_TEXT in message:
        return UserError("there is no text to learn pieces from: all texts are empty")
    return error
