"""Word-level tokenizer: text to vocabulary ids and back, saved without pickle."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from smim import storage
from smim.errors import UserError, nearest

PAD, SOS, EOS, UNK = "<pad>", "<sos>", "<eos>", "<unk>"
PAD_ID, SOS_ID, EOS_ID, UNK_ID = range(4)
_SPECIAL = [PAD, SOS, EOS, UNK]

_FILE = "tokenizer.json"


def _tweet_splitter() -> Callable[[str], list[str]]:
    from nltk.tokenize import TweetTokenizer  # importing NLTK takes a second

    return TweetTokenizer(preserve_case=False).tokenize


_SPLITTERS: dict[str, Callable[[], Callable[[str], list[str]]]] = {
    "whitespace": lambda: str.split,
    "tweet": _tweet_splitter,
}


@dataclass(frozen=True)
class Tokenizer:
    """Splits text into words and maps each one to its id.

    `splitter` is `whitespace`, or `tweet` for NLTK's `TweetTokenizer(preserve_case=False)`, the
    thesis's. `words` starts with `<pad> <sos> <eos> <unk>`; a word's id is its place in it.
    """

    splitter: str
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_splitter(self.splitter)
        if list(self.words[:4]) != _SPECIAL or len(set(self.words)) != len(self.words):
            raise UserError(f"a vocabulary starts with {' '.join(_SPECIAL)} and holds each word once")

    @classmethod
    def train(cls, texts: Iterable[str], *, splitter: str, min_count: int = 1) -> "Tokenizer":
        """Builds the vocabulary: words seen at least `min_count` times, most frequent first, ties by spelling."""
        _check_splitter(splitter)
        split = _SPLITTERS[splitter]()
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split(text))
        kept = [word for word, count in counts.items() if count >= min_count and word not in _SPECIAL]
        kept.sort(key=lambda word: (-counts[word], word))
        return cls(splitter=splitter, words=(*_SPECIAL, *kept))

    @classmethod
    def load(cls, directory: Path | str) -> "Tokenizer":
        """Reads a tokenizer directory; raises `UserError` where it is missing, damaged or of a newer format."""
        path = Path(directory) / _FILE
        state = storage.read_json(path)
        try:
            if state["kind"] != "word":
                raise UserError(f"{path} holds a tokenizer of kind {state['kind']!r}; this version reads 'word'")
            tokenizer = cls(splitter=state["splitter"], words=tuple(state["words"]))
        except (KeyError, TypeError):
            raise UserError(f"{path} is not a tokenizer file; it is damaged") from None
        if tokenizer.hash != state.get("hash"):
            raise UserError(f"{path} does not match its own hash; it was edited or damaged")
        return tokenizer

    def save(self, directory: Path | str) -> None:
        """Writes `tokenizer.json` into `directory`, which is created."""
        state = {"kind": "word", "splitter": self.splitter, "hash": self.hash, "words": list(self.words)}
        storage.write_json(Path(directory) / _FILE, state)

    def encode(self, text: str) -> list[int]:
        """The ids of a sentence's words, without `<sos>` and `<eos>`; a word never seen becomes `<unk>`."""
        ids = self._ids
        return [ids.get(word, UNK_ID) for word in self._split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of `ids` with spaces between; padding, `<sos>` and `<eos>` are left out."""
        return " ".join(self.words[i] for i in ids if i not in (PAD_ID, SOS_ID, EOS_ID))

    @property
    def vocabulary_size(self) -> int:
        return len(self.words)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything that decides which ids a text gets."""
        content = json.dumps(["word", self.splitter, self.words], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def _ids(self) -> dict[str, int]:
        # Special symbols other than <unk> are never words of a text: as input they are unknown.
        return {word: i for i, word in enumerate(self.words) if i >= UNK_ID}

    @cached_property
    def _split(self) -> Callable[[str], list[str]]:
        return _SPLITTERS[self.splitter]()


def _check_splitter(splitter: str) -> None:
    if splitter not in _SPLITTERS:
        raise UserError(f"unknown word splitter {splitter!r}; {nearest(splitter, list(_SPLITTERS))}")
