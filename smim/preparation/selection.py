"""Assignment of sentences to splits: deduplication and seeded draws, from 16 bytes per sentence.

A draw sorts sentences by a key that depends only on (seed, text). Equal sentences have equal keys. So shares put them
into the same split, independent of their positions and of the number of workers. Numbers of sentences are exact: equal
sentences at the border between two splits may be divided.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from smim.preparation.recipe import Amount

UNUSED = 255
_ROWS_PER_BUCKET = 8_000_000


def assign(
    keys: Sequence[np.ndarray], draws: Mapping[str, Amount], numbers: Mapping[str, int], *, seed: int
) -> list[np.ndarray]:
    """Assign a split to each sentence of one pool.

    `keys`: uint64 [n] for each part of the pool, in order. `numbers`: the number of each split. Returns uint8 [n] for
    each part, with `UNUSED` for sentences in no split. If a pool has fewer sentences than its splits request, each
    split gets its proportion.
    """
    if list(draws.values()) == [None]:
        [split] = draws
        return [np.full(len(part), numbers[split], np.uint8) for part in keys]
    drawn = [_mix(part, seed) for part in keys]
    if any(isinstance(amount, int) for amount in draws.values()):
        return _assign_counts(drawn, draws, numbers)
    return [_assign_shares(part, draws, numbers) for part in drawn]


def duplicates(hashes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mark repeated sentences of a pool: bool [n] for each part of uint64 [n, 2]."""
    repeated = [np.zeros(len(part), bool) for part in hashes]
    num_buckets = 1 + sum(map(len, hashes)) // _ROWS_PER_BUCKET
    for bucket in range(num_buckets):
        rows = [np.flatnonzero(part[:, 0] % np.uint64(num_buckets) == bucket) for part in hashes]
        parts = np.repeat(np.arange(len(hashes)), [len(found) for found in rows])
        found = np.concatenate([part[chosen] for part, chosen in zip(hashes, rows, strict=True)])
        position = np.concatenate(rows)
        order = np.lexsort((np.arange(len(found)), found[:, 1], found[:, 0]))
        again = order[1:][(found[order[1:]] == found[order[:-1]]).all(axis=1)]
        for number, part in enumerate(repeated):
            part[position[again[parts[again] == number]]] = True
    return repeated


def count_in(hashes: np.ndarray, others: Iterable[np.ndarray]) -> int:
    """Count the `hashes` (uint64 [n]) that occur in any of `others`, which are read one by one."""
    values, counts = np.unique(hashes, return_counts=True)
    found = np.zeros(len(values), bool)
    for part in others:
        found |= np.isin(values, part)
    return int(counts[found].sum())


def _assign_shares(keys: np.ndarray, draws: Mapping[str, Amount], numbers: Mapping[str, int]) -> np.ndarray:
    assigned = np.full(len(keys), UNUSED, np.uint8)
    uniform = keys / 2.0**64
    start = 0.0
    for split, amount in draws.items():
        if amount is None:
            assigned[assigned == UNUSED] = numbers[split]
        else:
            assigned[(uniform >= start) & (uniform < start + amount)] = numbers[split]
            start += amount
    return assigned


def _assign_counts(
    keys: Sequence[np.ndarray], draws: Mapping[str, Amount], numbers: Mapping[str, int]
) -> list[np.ndarray]:
    counts = {split: amount for split, amount in draws.items() if isinstance(amount, int)}  # all of them are
    total, wanted = sum(map(len, keys)), sum(counts.values())
    if total < wanted:
        counts = {split: count * total // wanted for split, count in counts.items()}
    order = np.argsort(np.concatenate(keys), kind="stable")
    assigned = np.full(total, UNUSED, np.uint8)
    start = 0
    for split, count in counts.items():
        assigned[order[start : start + count]] = numbers[split]
        start += count
    return np.split(assigned, np.cumsum([len(part) for part in keys])[:-1])


def _mix(keys: np.ndarray, seed: int) -> np.ndarray:
    """Compute splitmix64 (Steele et al. 2014) of key + seed, so that each seed gives another order."""
    x = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
