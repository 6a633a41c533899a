"""Search of a segment by words, and by words and codes together.

In the combined search, a sentence's similarity is the weighted mean of its code's and its words' similarity. The first
k sentences are exact: candidates are taken from both rankings, deeper and deeper, until no other sentence can be among
them (the threshold algorithm of Fagin, Lotem and Naor 2003). The results therefore do not depend on pages or segments.

Shapes: R rows of the segment, C candidates, K results, D latent dimensions.
"""

from dataclasses import dataclass

import numpy as np

from smim.search.segment import Allowed, Segment
from smim.search.words import WordQuery
from smim.similarity import similarity

_LEAST_DEPTH = 128
_DEEPER = 4


@dataclass(frozen=True)
class Found:
    """Sentences, most similar first, ties in order of position: positions int64 [K], and similarities fp64 [K].

    `of_codes` is None if codes were not compared.
    """

    positions: np.ndarray
    similarities: np.ndarray
    of_words: np.ndarray
    of_codes: np.ndarray | None = None


def by_words(segment: Segment, query: WordQuery, k: int, allowed: Allowed | None) -> Found:
    """At most k sentences that share a word with the query, or whose text does."""
    of_words_R = _of_words(segment, query, allowed)
    if segment.texts is None:
        positions = _first(of_words_R, k)
    else:
        # Within a text, the sentence with the most of the words comes first.
        own_R = np.minimum(segment.words.similarities(query), 1.0)
        rows = np.flatnonzero(of_words_R)
        positions = rows[np.lexsort((rows, -own_R[rows], -of_words_R[rows]))[:k]]
    return Found(positions, of_words_R[positions], of_words_R[positions])


def by_both(
    segment: Segment, code_D: np.ndarray, query: WordQuery, k: int, settings: dict[str, int], allowed: Allowed | None
) -> Found:
    """The k sentences with the largest mean of both similarities, weighted by the query's `share`.

    In an approximate segment, only the sentences that its search reaches are candidates.
    """
    of_words_R, share, code_1D = _of_words(segment, query, allowed), query.share, code_D[None]
    k = min(k, segment.info.count if allowed is None else allowed.count)
    depth = max(_LEAST_DEPTH, _DEEPER * k)
    while True:
        _, [near_C] = segment.search(code_1D, depth, settings, allowed)
        near_C = near_C[near_C >= 0]
        worded_C = _first(of_words_R, depth)
        positions_C = np.union1d(near_C, worded_C)
        [distances_C] = segment.distances(code_1D, positions_C[None])
        of_codes_C, of_words_C = similarity(segment.metric, distances_C), of_words_R[positions_C]
        both_C = (1 - share) * of_codes_C + share * of_words_C
        best = np.lexsort((positions_C, -both_C))[:k]
        # A sentence that a ranking has not reached is at most as similar as the last one reached.
        least_near = of_codes_C[np.isin(positions_C, near_C)].min(initial=np.inf)
        least_worded = of_words_R[worded_C[-1]] if len(worded_C) == depth else 0.0
        bound = (1 - share) * least_near + share * least_worded
        if len(near_C) < depth or not k or both_C[best[-1]] > bound:
            return Found(positions_C[best], both_C[best], of_words_C[best], of_codes_C[best])
        depth *= _DEEPER


def _of_words(segment: Segment, query: WordQuery, allowed: Allowed | None) -> np.ndarray:
    """Word similarities of all rows, fp64 [R] from 0 to 1; 0 for rows that are not allowed."""
    of_words_R = np.minimum(segment.words.similarities(query, segment.texts), 1.0)
    return of_words_R if allowed is None else of_words_R * allowed.rows


def _first(of_words_R: np.ndarray, k: int) -> np.ndarray:
    """The rows of the k largest positive values, ties in order of position."""
    rows = np.flatnonzero(of_words_R)
    if len(rows) > k:
        least = np.partition(of_words_R[rows], len(rows) - k)[len(rows) - k]
        rows = rows[of_words_R[rows] >= least]
    return rows[np.lexsort((rows, -of_words_R[rows]))[:k]]
