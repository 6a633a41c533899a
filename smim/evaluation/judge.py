"""The language model that judges what models write: n-grams of text that no judged decoder has seen.

    judge = Judge.open("judges/everyday")
    nats, words = judge.nats(["i need some sleep .", "the was bridge in destroyed ."])

It counts pieces of words, down to bytes, so that any text has a probability. It is made in seconds, the same for the
same text, and known by its hash. Text is read in one form (`words_of`), so that it does not matter how a model was
trained to write: "Don't go!" is "do n't go !".

Shapes: N sentences, P pieces of all of them with each sentence's end, G distinct n-grams.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from smim import schema, storage
from smim.errors import UserError
from smim.lock import own_place
from smim.search.sentences import read_sentences
from smim.text.pieces import SentencePieceTokenizer
from smim.text.tokenizer import EOS_ID, SOS_ID, UNK, Tokenizer

FORMAT = 1
CARD, COUNTS = "judge.json", "counts.safetensors"
ORDER = 5
# An n-gram is one number of 63 bits: its pieces are the digits.
_LARGEST_VOCABULARY = int((2**63) ** (1 / ORDER))
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_APART = re.compile(r"\s+(?=n['’]t\b)")
_PLAIN = str.maketrans("’‘“”", "''\"\"")


def words_of(text: str) -> list[str]:
    """The words and marks of a text in the form in which texts are compared: lower-case, marks apart."""
    return _WORD.findall(_APART.sub("", text.lower()).translate(_PLAIN))


def fingerprints(texts: Iterable[str]) -> np.ndarray:
    """A number for each text that those of the same words share; int64 [N], 0 and above."""
    digests = [hashlib.sha256(" ".join(words_of(text)).encode()).digest()[:8] for text in texts]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.int64) & np.int64(2**63 - 1)


def for_judge(texts: Sequence[str], share: float) -> np.ndarray:
    """Which texts are the judge's, about `share` of them, bool [N]: a function of their words alone."""
    return fingerprints(texts) < share * 2.0**63


@dataclass(frozen=True)
class Card:
    """What `judge.json` holds: what the judge was made of, and the hashes of its files."""

    format: int
    sentences: int
    words: int
    sources: dict[str, str]
    tokenizer_hash: str
    counts_sha256: str


@dataclass(frozen=True)
class Judge:
    """An n-gram model with interpolated Kneser-Ney smoothing (Kneser and Ney 1995; Chen and Goodman 1999, eq. 21).

    `grams` int64 [G], ascending: the n-grams that were seen, as numbers in the base of the vocabulary; `counts` int64
    [G]: how often; `known` int64: `fingerprints` of the sentences it was made of, ascending. `hash` names the judge.
    """

    tokenizer: Tokenizer
    grams: np.ndarray
    counts: np.ndarray
    known: np.ndarray
    card: Card
    hash: str

    @classmethod
    def open(cls, directory: Path | str) -> "Judge":
        """Reads a judge; raises `UserError` where there is none, or a file is not the one that the card names."""
        directory = Path(directory)
        path = storage.own_file(directory, CARD)
        if not path.exists():
            raise UserError(f"{directory} is no judge (no {CARD} in it); make one with `smim judge make TEXT...`")
        card = schema.make(Card, storage.read_json(path), path)
        if card.format != FORMAT:
            raise UserError(f"{path} has format {card.format}; this version reads {FORMAT}")
        tokenizer = Tokenizer.load(storage.own_path(directory, "tokenizer"))
        counts = storage.own_file(directory, COUNTS)
        if tokenizer.hash != card.tokenizer_hash or storage.sha256(counts) != card.counts_sha256:
            raise UserError(f"{directory}: a file is not the one that {CARD} names; make the judge again")
        try:
            judge = cls(tokenizer, **load_file(counts), card=card, hash=storage.sha256(path))
        except (SafetensorError, TypeError) as error:
            raise UserError(f"{counts} is damaged ({error}); make the judge again") from None
        if not judge._is_whole():
            raise UserError(f"{counts} does not hold n-grams of its tokenizer's pieces; make the judge again")
        return judge

    def nats(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """-log p of each text and its end, fp64 [N], and its words and marks, the end counted, int64 [N]."""
        ids = [self.tokenizer.encode(" ".join(words_of(text))) for text in texts]
        ends = np.cumsum([len(each) + 1 for each in ids])
        nats = -np.log(self.probabilities(_windows(ids)))
        return np.add.reduceat(nats, [0, *ends[:-1]]), np.array([len(words_of(text)) + 1 for text in texts])

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        """p of the last piece of each window behind the others, fp64 [P]; `windows` int64 [P, ORDER] of ids."""
        base = self.tokenizer.vocabulary_size
        numbers = _numbers(windows, base)
        found = np.full(len(windows), 1 / base)
        for order, level in enumerate(self._levels, start=1):
            found = level.interpolated(numbers % base**order, base, found)
        return found

    def _is_whole(self) -> bool:
        """Whether the arrays are what `probabilities` counts on."""
        grams, counts, base = self.grams, self.counts, self.tokenizer.vocabulary_size
        return (
            all(each.ndim == 1 and each.dtype == np.int64 for each in (grams, counts, self.known))
            and base <= _LARGEST_VOCABULARY
            and 0 < len(grams) == len(counts)
            and bool((np.diff(grams) > 0).all() and grams[0] >= 0 and grams[-1] < base**ORDER)
            and bool(counts.min() > 0 and counts.max() < 2**31)
        )

    @cached_property
    def _levels(self) -> list["_Level"]:
        """From single pieces up. Lower ones count behind how many different pieces an n-gram was seen."""
        base = self.tokenizer.vocabulary_size
        levels = [_Level.of(self.grams, self.counts, base)]
        for order in range(ORDER - 1, 0, -1):
            grams, counts = np.unique(levels[0].grams % base**order, return_counts=True)
            levels.insert(0, _Level.of(grams, counts, base))
        return levels


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length, their probability less the discount, and by context what is left for shorter ones."""

    grams: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    left: np.ndarray

    @classmethod
    def of(cls, grams: np.ndarray, counts: np.ndarray, base: int) -> "_Level":
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        discount = (once + 0.5) / (once + 2 * twice + 1)  # Ney et al. 1994; in (0, 1) for little text too
        contexts, starts, kinds = np.unique(grams // base, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, starts)
        return cls(grams, (counts - discount) / np.repeat(totals, kinds), contexts, discount * kinds / totals)

    def interpolated(self, numbers: np.ndarray, base: int, shorter: np.ndarray) -> np.ndarray:
        """The probability of each n-gram [P] from that behind a context one piece shorter."""
        place, seen = _find(self.contexts, numbers // base)
        gram, known = _find(self.grams, numbers)
        return np.where(seen, np.where(known, self.discounted[gram], 0) + self.left[place] * shorter, shorter)


def make(files: Sequence[Path], output: Path, *, without: Sequence[Path] = (), vocabulary_size: int = 4000) -> Judge:
    """Makes a judge of the distinct sentences of text files (`read_sentences`) but for those of the files `without`.

    Sentences with `<unk>` are left out: a judge should not expect it. Raises `UserError` for files that hold no text,
    and a vocabulary that is too large for them or for a judge.
    """
    if vocabulary_size > _LARGEST_VOCABULARY:
        raise UserError(f"the vocabulary is {vocabulary_size:,}; a judge takes at most {_LARGEST_VOCABULARY:,} pieces")
    if output.exists() and not (output / CARD).is_file():
        raise UserError(f"{output} exists and is no judge; give another place, so that it is not lost")
    texts = [text for text in read_sentences(files, columns=None).texts if UNK not in text]
    excluded = fingerprints(read_sentences(without, columns=None).texts if without else [])
    left = ~np.isin(fingerprints(texts), excluded)
    forms = list(dict.fromkeys(" ".join(words_of(text)) for text, keep in zip(texts, left, strict=True) if keep))
    # By counts of pairs, which are whole numbers: the sums of unigram's EM round otherwise on another kind of CPU.
    tokenizer = SentencePieceTokenizer.train(forms, algorithm="bpe", vocabulary_size=vocabulary_size)
    windows = _windows([tokenizer.encode(form) for form in forms])
    grams, counts = np.unique(_numbers(windows, tokenizer.vocabulary_size), return_counts=True)
    arrays = {"grams": grams, "counts": counts, "known": np.unique(fingerprints(forms))}
    with own_place(output), storage.new_directory(output) as partial:
        tokenizer.save(partial / "tokenizer")
        save_file(arrays, partial / COUNTS)
        card = {
            "format": FORMAT,
            "sentences": len(forms),
            "words": sum(len(form.split()) for form in forms),
            "sources": {path.name: storage.sha256(path) for path in files},
            "tokenizer_hash": tokenizer.hash,
            "counts_sha256": storage.sha256(partial / COUNTS),
        }
        storage.write_json(partial / CARD, card)
    return Judge.open(output)


def _windows(ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Each piece and each sentence's end with the pieces before it, `<sos>` before the first; int64 [P, ORDER]."""
    before = [SOS_ID] * (ORDER - 1)
    flat = np.array([i for sentence in ids for i in (*before, *sentence, EOS_ID)], np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(flat, ORDER)
    return windows[windows[:, -1] != SOS_ID]


def _numbers(windows: np.ndarray, base: int) -> np.ndarray:
    """Windows as numbers, their last piece the lowest digit; int64 [P]."""
    return windows @ base ** np.arange(ORDER - 1, -1, -1, dtype=np.int64)


def _find(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each of `wanted` [P] in an ascending array, and whether it is there."""
    place = np.searchsorted(ascending, wanted).clip(max=len(ascending) - 1)
    return place, ascending[place] == wanted
