"""Limits of a request, the same for all interfaces of a service (HTTP, page, cluster)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smim.errors import UserError, refuse_if
from smim.search.filters import parse
from smim.search.ids import as_ids
from smim.search.query import Options, Query

LARGEST_SEED = 2**53 - 1  # the largest whole number that every JSON reader represents exactly
# Largest number in codes and scales; in fp32, the sum of squares of such numbers does not overflow.
LARGEST_NUMBER = 1e6
# Largest search settings, to limit what one query reads.
LARGEST_SETTING = {"nprobe": 65_536, "ef_search": 65_536, "refine": 32}

# Deepest nesting of lists and objects: more than a filter may have, less than a parser supports.
LARGEST_DEPTH = 400
_NO_BRACKET_OR_QUOTE = bytes(set(range(256)) - set(b'[]{}"'))

_CONNECTIONS = 1_000  # idle ones, and ones about to be refused


@dataclass(frozen=True)
class Limits:
    """Limits of one request, and of the waiting work.

    `max_body`: bytes of a request. `max_batch`: texts, codes, ids or queries of a request, and of a batch. `max_text`:
    characters of a text. `max_k`: k + offset of a search. `max_hits`: k + offset, times the queries. `max_num`:
    sentences of a perturbation, an interpolation or a sample, words of an answer. `queue_size`: texts, codes or queries
    that wait; a code counts once per candidate. Raises `UserError` if the queue could never take a request.
    """

    max_body: int = 1_000_000
    max_batch: int = 256
    max_text: int = 10_000
    max_k: int = 1_000
    max_hits: int = 10_000
    max_num: int = 256
    queue_size: int = 1_024

    def __post_init__(self) -> None:
        refuse_if({
            **{f"the limit {name} is {value}, but it must be at least 1":
                value < 1 for name, value in vars(self).items()},
            f"the limit queue_size is {self.queue_size}, but it must be at least max_batch, which is "
            f"{self.max_batch}, and max_num, which is {self.max_num}":
                self.queue_size < max(self.max_batch, self.max_num),
        })  # fmt: skip

    @property
    def most_requests(self) -> int:
        """The most requests that a process holds: more than may wait, so that the queue refuses, not the server."""
        return self.queue_size + self.max_batch + _CONNECTIONS

    def check_search(self, queries: Sequence[Query], options: Options) -> None:
        """Raise `UserError` for a search beyond the limits."""
        self.check_count("queries", queries)
        num, k, wanted = len(queries), options.k, options.depth
        refuse_if({
            f"{num} queries ask to rerank {options.rerank} hits each; at most {self.max_batch} in all are allowed":
                num * options.rerank > self.max_batch,
            f"k + offset, or rerank, is {wanted}, but at most {self.max_k} is allowed": wanted > self.max_k,
            f"{num} queries ask for {wanted} hits each; at most {self.max_hits} in all are allowed":
                num * wanted > self.max_hits,
            f"{num} queries ask for {k} hits each; at most {self.max_batch} in all can be reconstructed or scored":
                (options.reconstruct or options.score) and num * k > self.max_batch,
            **{f"the search setting {name} is {value}, but at most {LARGEST_SETTING[name]} is allowed":
                value > LARGEST_SETTING[name] for name, value in (options.settings or {}).items()},
        })  # fmt: skip
        for line in (query.line for query in queries if query.line):
            check_within("at", line.at, -LARGEST_NUMBER, LARGEST_NUMBER)
        parse(options.where or {})

    def check_texts(self, texts: Sequence[str | None]) -> None:
        self.check_count("texts", texts)
        longest = max(len(text) if isinstance(text, str) else 0 for text in texts)
        if longest > self.max_text:
            raise UserError(f"a text has {longest} characters, but at most {self.max_text} are allowed")

    def check_ids(self, ids: Sequence[int]) -> None:
        self.check_count("ids", ids)
        as_ids(ids)

    def check_drawn(self, num: int, candidates: int) -> None:
        """Raise `UserError` if a request needs more sentences than may wait."""
        if num * candidates > self.queue_size:
            raise UserError(
                f"the request is for {num} codes with {candidates} candidates each, but at most {self.queue_size} "
                "sentences in all can be drawn; ask for fewer codes, candidates or hypotheses of a beam"
            )

    def check_count(self, name: str, values: Sequence[Any]) -> None:
        if not 1 <= len(values) <= self.max_batch:
            raise UserError(f"{len(values)} {name} were given; 1 to {self.max_batch} are allowed")


def too_deep(json: bytes) -> bool:
    """Whether lists and objects are nested deeper than `LARGEST_DEPTH`, found without parsing."""
    if json.count(b"[") + json.count(b"{") <= LARGEST_DEPTH:
        return False
    unescaped = json.replace(rb"\\", b"").replace(rb"\"", b"")
    outside_of_strings = unescaped.translate(None, _NO_BRACKET_OR_QUOTE).split(b'"')[::2]
    brackets = np.frombuffer(b"".join(outside_of_strings), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return bool((steps.cumsum() > LARGEST_DEPTH).any())


def check_within(name: str, value: float, least: float, most: float) -> None:
    """Raise `UserError` for NaN and for numbers outside of `least` to `most`."""
    if not least <= value <= most:
        raise UserError(f"{name} is {value}, but it must be from {least:,.0f} to {most:,.0f}")
