"""Draws and deduplication, from 64-bit keys alone."""

import numpy as np
import pytest

from smim.preparation import selection
from smim.preparation.selection import UNUSED, assign, count_in, duplicates

NUMBERS = {"train": 0, "valid": 1, "test": 2}
SHARES = {"valid": 0.1, "test": 0.2, "train": None}


def keys(num: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, size=num, dtype=np.uint64)


def test_shares_are_met():
    [splits] = assign([keys(20_000)], SHARES, NUMBERS, seed=0)
    found = np.bincount(splits, minlength=3) / len(splits)
    assert np.allclose(found, [0.7, 0.1, 0.2], atol=0.01)


def test_each_of_several_shares_begins_where_the_one_before_ends():
    shares = {"a": 0.1, "b": 0.2, "c": 0.3, "rest": None}
    [splits] = assign([keys(100_000)], shares, {name: number for number, name in enumerate(shares)}, seed=0)
    assert np.allclose(np.bincount(splits) / len(splits), [0.1, 0.2, 0.3, 0.4], atol=0.01)


def test_a_draw_is_by_splitmix64_so_that_a_corpus_prepared_again_has_the_same_splits():
    # The generator's first numbers from 0, as Steele et al. and the reference code have them.
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(selection._mix(np.zeros(1, np.uint64), seed)[0]) for seed in range(3)] == known
    all_keys = keys(1000)
    order = np.argsort([int(value) for value in selection._mix(all_keys, 5)], kind="stable")
    [splits] = assign([all_keys], {"valid": 10, "train": 20}, NUMBERS, seed=5)
    assert set(np.flatnonzero(splits == 1)) == set(order[:10]) and set(np.flatnonzero(splits == 0)) == set(order[10:30])


def test_equal_keys_go_to_the_same_split_however_the_parts_are_cut():
    all_keys = np.tile(keys(1000), 3)
    whole = assign([all_keys], SHARES, NUMBERS, seed=0)[0]
    parts = assign(np.array_split(all_keys, 7), SHARES, NUMBERS, seed=0)
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(whole[:1000], whole[1000:2000])


def test_counts_are_exact_and_drawn_without_regard_to_the_parts():
    draws = {"train": 300, "valid": 50, "test": 40}
    whole = assign([keys(1000)], draws, NUMBERS, seed=0)[0]
    assert np.bincount(whole, minlength=256)[[0, 1, 2, UNUSED]].tolist() == [300, 50, 40, 610]
    parts = assign(np.array_split(keys(1000), 3), draws, NUMBERS, seed=0)
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_pool_that_is_too_small_is_shared_out_in_proportion():
    [splits] = assign([keys(110)], {"train": 10_000, "valid": 1000}, NUMBERS, seed=0)
    assert np.bincount(splits).tolist() == [100, 10]


def test_another_seed_draws_others():
    draws = {"train": 100, "valid": 100}
    first, second = (assign([keys(1000)], draws, NUMBERS, seed=seed)[0] for seed in (0, 1))
    assert (first != second).mean() > 0.1


def test_a_pool_with_one_split_is_taken_whole():
    assert assign([keys(3), keys(2)], {"test": None}, NUMBERS, seed=0)[1].tolist() == [2, 2]


@pytest.mark.parametrize("rows_per_bucket", [8_000_000, 7])
def test_the_first_of_equal_sentences_stays(monkeypatch, rows_per_bucket):
    monkeypatch.setattr(selection, "_ROWS_PER_BUCKET", rows_per_bucket)
    hashes = np.random.default_rng(0).integers(0, 6, size=(60, 2), dtype=np.uint64)
    seen, expected = set(), []
    for row in map(tuple, hashes.tolist()):
        expected.append(row in seen)
        seen.add(row)
    found = duplicates(np.array_split(hashes, 4))
    assert np.concatenate(found).tolist() == expected and 0 < sum(expected) < 60


def test_overlap_counts_every_repeated_sentence():
    assert count_in(np.array([1, 1, 2, 3], np.uint64), [np.array([1, 9], np.uint64), np.array([3], np.uint64)]) == 3
