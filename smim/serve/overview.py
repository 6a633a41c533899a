"""An overview for new users: the index, the model's abilities, the labels, and sentences to try.

Shapes: N sentences of a sample, D latent dimensions.
"""

import asyncio
from dataclasses import asdict

import numpy as np

from smim.generation import SentenceModel
from smim.search import Index, open_index
from smim.search.query import Description, Options, Sentence
from smim.search.sample import columns, sentences, spread
from smim.search.snapshot import Snapshot
from smim.search.words import words_of
from smim.serve.backend import Backend
from smim.serve.schemas import Abilities, Overview, Tries

_SIZE = 1_500  # of the sample
_SEARCHES, _WALKS, _QUESTIONS = 6, 3, 4
# Candidate sentences for searches, the hits that judge each, and the most words that two may share (as a share).
_TRIED, _NEAREST, _SHARED = 80, 4, 0.3
_LETTERS, _WALKED = (25, 90), 45  # characters of a sentence to try, and the most at the end of a walk
# Similarity of the ends of a walk: 0 at the sample's mean distance, 1 at the same point.
_APART = 0.35


class Overviews:
    """The overview of a service's index, made once for each version."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = asyncio.Lock()
        self._index: Index | None = getattr(backend, "index", None)
        self._made: Overview | None = None

    async def overview(self) -> Overview:
        description = await self._backend.describe()
        async with self._lock:
            if self._made is None or self._made.index != description:
                self._made = await asyncio.to_thread(self._make, description)
            return self._made

    def snapshot(self) -> Snapshot:
        """The newest version. In a cluster, the index's files are here too, so the shards are not asked."""
        if self._index is None:
            self._index = open_index(self._backend.directory, model=self._backend.model)
        return self._index.snapshot

    def _make(self, description: Description) -> Overview:
        snapshot = self.snapshot()
        numbers, positions = spread(snapshot, _SIZE)
        found, codes_ND = sentences(snapshot, numbers, positions), snapshot.codes(numbers, positions)
        abilities = abilities_of(self._backend.model)
        return Overview(
            self._backend.directory.resolve().name,
            description,
            all(segment.has_words for segment in snapshot.segments),
            snapshot.manifest.is_split,
            abilities,
            columns(snapshot),
            tries_of(snapshot, found, codes_ND),
        )


def abilities_of(model: SentenceModel) -> Abilities:
    known = model.has_meaning_part, model.use.answers, model.deterministic
    return Abilities(model.latent_dim, model.config["training"].get("corpus"), *known, asdict(model.use))


def tries_of(snapshot: Snapshot, found: list[Sentence], codes_ND: np.ndarray) -> Tries:
    """Sentences to try, where codes compare more than words."""
    first = {each.text: row for row, each in reversed(list(enumerate(found)))}
    short = [text for text in first if _LETTERS[0] <= len(text) <= _LETTERS[1]]
    texts = short if len(short) > 2 else list(first)
    if len(texts) < 3:
        return Tries(texts, [texts] if len(texts) == 2 else [])
    codes_ND = codes_ND[[first[text] for text in texts]]
    squares = (codes_ND**2).sum(1)
    squares = np.maximum(squares[:, None] + squares - 2 * codes_ND @ codes_ND.T, 0)
    # 0 at the mean distance, 1 at the same point; the diagonal is excluded.
    alike = 1 - squares / max(float(squares.mean()), 1e-9)
    np.fill_diagonal(alike, -np.inf)
    chosen = _telling(snapshot, texts, codes_ND)
    # Prefer short ends: a short walk is read quickly.
    starts = sorted(chosen, key=lambda row: len(texts[row]))[:_WALKS]
    long = np.array([len(text) > _WALKED for text in texts])
    ends = [int((np.abs(alike[row] - _APART) + long).argmin()) for row in starts]
    one, less = np.unravel_index(alike.argmax(), alike.shape)
    from_one = np.abs(alike[one] - _APART)
    from_one[less] = np.inf
    begun = (each.text.partition("?")[0].strip() for each in found if "?" in each.text.rstrip(" ?"))
    return Tries(
        searches=[texts[row] for row in chosen],
        walks=[[texts[row], texts[end]] for row, end in zip(starts, ends, strict=True)],
        sum=[texts[row] for row in (one, less, from_one.argmin())],
        questions=list(dict.fromkeys(f"{text} ?" for text in begun))[:_QUESTIONS],
    )


def _telling(snapshot: Snapshot, texts: list[str], codes_ND: np.ndarray) -> list[int]:
    """Sentences whose nearest hits share few words with them, and that share few words with each other."""
    rows = np.linspace(0, len(texts) - 1, min(_TRIED, len(texts))).astype(int)
    words = {row: set(words_of(texts[row])) for row in rows.tolist()}
    found = snapshot.hits(codes_ND[rows], Options(k=1 + _NEAREST).wide(snapshot.manifest.search))
    told = {}
    for (row, own), hits in zip(words.items(), found, strict=True):
        others = [(hit.similarity, own & held) for hit in hits if (held := set(words_of(hit.text))) != own]
        told[row] = sum(similar * (1 - len(shared) / max(1, len(own))) for similar, shared in others)
    chosen: list[int] = []
    for row in sorted(words, key=lambda row: -told[row]):
        if all(len(words[row] & words[other]) <= _SHARED * len(words[row]) for other in chosen):
            chosen.append(row)
    return chosen[:_SEARCHES]
