"""The judge: an n-gram language model that scores written sentences, made from text that no judged model has seen.

    judge = Judge.open("judges/everyday")
    nats, words = judge.nats(["i need some sleep .", "the was bridge in destroyed ."])

It counts pieces of words, down to bytes, so any text has a probability. It is made in seconds. The same text makes the
same judge, which its hash identifies. All text is normalised (`words_of`), so the form in which a model writes does not
matter: "Don't go!" is the same as "do n't go !".

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
# An n-gram is stored as one number of 63 bits, whose digits are its pieces.
_LARGEST_VOCABULARY = int((2**63) ** (1 / ORDER))
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_APART = re.compile(r"\s+(?=n['’]t\b)")
_PLAIN = str.maketrans("’‘“”", "''\"\"")


def words_of(text: str) -> list[str]:
    """Split a text into words and punctuation marks in lower case, the form in which texts are compared."""
    return _WORD.findall(_APART.sub("", text.lower()).translate(_PLAIN))


def fingerprints(texts: Iterable[str]) -> np.ndarray:
    """Compute a number for each text, equal for texts with the same words; int64 [N], not negative."""
    digests = [hashlib.sha256(" ".join(words_of(text)).encode()).digest()[:8] for text in texts]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.int64) & np.int64(2**63 - 1)


def for_judge(texts: Sequence[str], share: float) -> np.ndarray:
    """Choose about `share` of the texts for the judge, bool [N]. The choice depends only on a text's words."""
    return fingerprints(texts) < share * 2.0**63


@dataclass(frozen=True)
class Card:
    """The content of `judge.json`: the judge's sources, and the hashes of its files."""

    format: int
    sentences: int
    words: int
    sources: dict[str, str]
    tokenizer_hash: str
    counts_sha256: str


@dataclass(frozen=True)
class Judge:
    """An n-gram model with interpolated Kneser-Ney smoothing (Kneser and Ney 1995; Chen and Goodman 1999, eq. 21).

    `grams` int64 [G], ascending: the n-grams of the text, as numbers in the base of the vocabulary's size. `counts`
    int64 [G]: how often each occurs. `known` int64, ascending: the `fingerprints` of the text's sentences. `hash`: the
    name of the judge.
    """

    tokenizer: Tokenizer
    grams: np.ndarray
    counts: np.ndarray
    known: np.ndarray
    card: Card
    hash: str

    @classmethod
    def open(cls, directory: Path | str) -> "Judge":
        """Read a judge. Raises `UserError` if there is none, or if a file differs from the one that the card names."""
        directory = Path(directory)
        path = storage.own_file(directory, CARD)
        if not path.exists():
            raise UserError(f"{directory} is no judge (no {CARD} in it); make one with `smim judge make TEXT...`")
        card = schema.make(Card, storage.read_json(path), path)
        if card.format != FORMAT:
            raise UserError(f"{path} has format {card.format}, but this version reads {FORMAT}; make the judge again")
        tokenizer = Tokenizer.load(storage.own_path(directory, "tokenizer"))
        counts = storage.own_file(directory, COUNTS)
        if tokenizer.hash != card.tokenizer_hash or storage.sha256(counts) != card.counts_sha256:
            raise UserError(f"{directory}: a file does not have the hash in {CARD}; make the judge again")
        try:
            judge = cls(tokenizer, **load_file(counts), card=card, hash=storage.sha256(path))
        except (SafetensorError, TypeError) as error:
            raise UserError(f"{counts} is damaged ({error}); make the judge again") from None
        if not judge._is_whole():
            raise UserError(f"{counts} has no valid n-grams of its tokenizer's pieces; make the judge again")
        return judge

    def nats(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Compute -log p of each text with its end in nats, fp64 [N], and its number of words, int64 [N].

        Punctuation marks and the end count as words.
        """
        ids = [self.tokenizer.encode(" ".join(words_of(text))) for text in texts]
        ends = np.cumsum([len(each) + 1 for each in ids])
        nats = -np.log(self.probabilities(_windows(ids)))
        return np.add.reduceat(nats, [0, *ends[:-1]]), np.array([len(words_of(text)) + 1 for text in texts])

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        """Compute p of each window's last piece after the others, fp64 [P]. `windows`: int64 [P, ORDER]."""
        base = self.tokenizer.vocabulary_size
        numbers = _numbers(windows, base)
        found = np.full(len(windows), 1 / base)
        for order, level in enumerate(self._levels, start=1):
            found = level.interpolated(numbers % base**order, base, found)
        return found

    def _is_whole(self) -> bool:
        """Check that the arrays have the form that `probabilities` needs."""
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
        """The levels, from single pieces up. Lower levels count the different pieces that precede an n-gram."""
        base = self.tokenizer.vocabulary_size
        levels = [_Level.of(self.grams, self.counts, base)]
        for order in range(ORDER - 1, 0, -1):
            grams, counts = np.unique(levels[0].grams % base**order, return_counts=True)
            levels.insert(0, _Level.of(grams, counts, base))
        return levels


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length with discounted probabilities, and the weight left for shorter ones by context."""

    grams: np.ndarray
    discounted: np.ndarray
    contexts: np.ndarray
    left: np.ndarray

    @classmethod
    def of(cls, grams: np.ndarray, counts: np.ndarray, base: int) -> "_Level":
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        discount = (once + 0.5) / (once + 2 * twice + 1)  # Ney et al. 1994, smoothed to be in (0, 1) for little text
        contexts, starts, kinds = np.unique(grams // base, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, starts)
        return cls(grams, (counts - discount) / np.repeat(totals, kinds), contexts, discount * kinds / totals)

    def interpolated(self, numbers: np.ndarray, base: int, shorter: np.ndarray) -> np.ndarray:
        """Compute the probability of each n-gram [P] from its probability with a context one piece `shorter`."""
        place, seen = _find(self.contexts, numbers // base)
        gram, known = _find(self.grams, numbers)
        return np.where(seen, np.where(known, self.discounted[gram], 0) + self.left[place] * shorter, shorter)


def make(files: Sequence[Path], output: Path, *, without: Sequence[Path] = (), vocabulary_size: int = 4000) -> Judge:
    """Make a judge from the distinct sentences of text files (`read_sentences`), except those in the files `without`.

    Sentences with `<unk>` are left out, so that the judge does not expect it. Raises `UserError` for files without
    text, and for a vocabulary that is too large for the text or for a judge.
    """
    if vocabulary_size > _LARGEST_VOCABULARY:
        raise UserError(
            f"a vocabulary of {vocabulary_size:,} pieces is too large; a judge takes at most {_LARGEST_VOCABULARY:,}"
        )
    if output.exists() and not (output / CARD).is_file():
        raise UserError(f"{output} exists and is no judge; give another output, so that nothing is overwritten")
    texts = [text for text in read_sentences(files, columns=None).texts if UNK not in text]
    excluded = fingerprints(read_sentences(without, columns=None).texts if without else [])
    left = ~np.isin(fingerprints(texts), excluded)
    forms = list(dict.fromkeys(" ".join(words_of(text)) for text, keep in zip(texts, left, strict=True) if keep))
    # BPE counts pairs in whole numbers. The EM of a unigram model would round differently on other kinds of CPUs.
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
    """Make a window for each piece and each sentence end, with the pieces before it; int64 [P, ORDER].

    `<sos>` fills the places before the first piece.
    """
    before = [SOS_ID] * (ORDER - 1)
    flat = np.array([i for sentence in ids for i in (*before, *sentence, EOS_ID)], np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(flat, ORDER)
    return windows[windows[:, -1] != SOS_ID]


def _numbers(windows: np.ndarray, base: int) -> np.ndarray:
    """Convert windows to numbers whose lowest digit is the last piece; int64 [P]."""
    return windows @ base ** np.arange(ORDER - 1, -1, -1, dtype=np.int64)


def _find(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the place of each element of `wanted` [P] in an ascending array, and whether the array contains it."""
    place = np.searchsorted(ascending, wanted).clip(max=len(ascending) - 1)
    return place, ascending[place] == wanted
