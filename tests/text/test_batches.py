import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smim.text.batch import collate
from smim.text.batches import epoch_batches, evaluation_order, share_of_rank, training_order
from smim.text.corpus import Split
from smim.text.tokenizer import PAD_ID

LENGTHS = np.random.default_rng(0).integers(1, 80, size=5003).astype(np.int32)
CHUNKS = [300, 2500, 40, 2163]


def split_of(lengths: np.ndarray, *, chunks: list[int]) -> Split:
    """A split of the given lengths and nothing else, in chunks of so many rows."""
    parts = [pa.array(lengths[start:end]) for start, end in pairwise([0, *np.cumsum(chunks)])]
    return Split(name="train", table=pa.table({"length": pa.chunked_array(parts)}))


def order(
    lengths: np.ndarray = LENGTHS,
    *,
    chunks: list[int] = CHUNKS,
    batch_size: int | None = 20,
    tokens_per_batch: int | None = None,
    length_window: int = 100,
    shuffle_window: int = 1_000_000,
    seed: int = 0,
    epoch: int = 0,
    max_length: int | None = None,
) -> list[np.ndarray]:
    settings = {"batch_size": batch_size, "tokens_per_batch": tokens_per_batch, "max_length": max_length}
    settings |= {"length_window": length_window, "shuffle_window": shuffle_window}
    return list(training_order(split_of(lengths, chunks=chunks), **settings, seed=seed, epoch=epoch))


def padded_tokens(rows: np.ndarray, lengths: np.ndarray = LENGTHS) -> int:
    """What a batch of rows takes in a decoder, `<eos>` and padding counted."""
    return len(rows) * (int(lengths[rows].max()) + 1)


# One group; several, one chunk being larger than a group; groups smaller than a batch.
@pytest.mark.parametrize("shuffle_window", [1_000_000, 1010, 7])
def test_each_row_comes_once_an_epoch_and_one_batch_at_most_is_not_full(shuffle_window):
    batches = order(shuffle_window=shuffle_window)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(LENGTHS)))
    assert len(batches) == math.ceil(len(LENGTHS) / 20)
    sizes = [len(rows) for rows in batches]
    assert sorted(sizes) == [3, *[20] * (len(batches) - 1)]
    last_group = math.ceil((min(shuffle_window, len(LENGTHS)) + 19) / 20)
    assert 3 in sizes[-last_group:]


@pytest.mark.parametrize("size", [{"batch_size": 20}, {"batch_size": None, "tokens_per_batch": 800}], ids=str)
@pytest.mark.parametrize("shuffle_window", [1_000_000, 1000])
def test_order_is_a_function_of_seed_and_epoch(shuffle_window, size):
    def rows(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in order(shuffle_window=shuffle_window, seed=seed, epoch=epoch, **size)]

    assert rows(1, 2) == rows(1, 2)
    assert rows(1, 2) != rows(1, 3)
    assert rows(1, 2) != rows(2, 2)


@pytest.mark.parametrize("chunks", [[23], [9, 4, 3, 7]])
def test_a_corpus_of_one_group_has_the_order_of_a_permutation_of_the_whole(chunks):
    lengths = np.array([8, 6, 5, 3, 3, 1, 1, 1, 2, 8, 6, 9, 5, 6, 9, 7, 6, 5, 6, 9, 3, 8, 7], np.int32)
    # Made by the version before groups.
    expected = [[13, 22, 15, 21], [10, 1, 9, 0], [17, 12, 16, 18], [6, 5, 8, 20], [19, 14, 11], [7, 4, 3, 2]]
    batches = order(lengths, chunks=chunks, batch_size=4, length_window=3, shuffle_window=23, seed=3, epoch=2)
    assert [rows.tolist() for rows in batches] == expected


def test_a_group_is_whole_chunks_from_random_places():
    def groups(epoch: int) -> list[set[int]]:
        batches = order(LENGTHS[:5000], chunks=[100] * 50, shuffle_window=1000, epoch=epoch)
        return [{int(row) // 100 for row in np.concatenate(batches[i : i + 50])} for i in range(0, 250, 50)]

    assert [len(chunks) for chunks in groups(0)] == [10] * 5
    assert all(max(chunks) - min(chunks) > 10 for chunks in groups(0))
    assert groups(0) != groups(1)


def test_a_batch_mixes_the_chunks_of_its_group():
    batches = order(LENGTHS[:5000], chunks=[100] * 50, shuffle_window=1000, length_window=1)
    assert np.mean([len(set(rows // 100)) for rows in batches]) > 7


@pytest.mark.parametrize(("batch_size", "tokens_per_batch"), [(20, None), (None, 820)])
def test_memory_is_bounded_by_the_shuffle_window(batch_size, tokens_per_batch):
    split = split_of(np.resize(LENGTHS, 1_000_000), chunks=[5000] * 200)
    size = {"batch_size": batch_size, "tokens_per_batch": tokens_per_batch}
    tracemalloc.start()
    batches = training_order(split, **size, length_window=100, shuffle_window=40_000, seed=0, epoch=0)
    assert sum(len(rows) for rows in batches) == 1_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 70 * 40_000


def test_rows_of_many_chunks_are_read_in_the_order_asked_for():
    sentences = [list(range(i, i + 1 + i % 3)) for i in range(50)]
    table = pa.table({"text": [str(i) for i in range(50)], "ids": pa.array(sentences, pa.list_(pa.int32()))})
    chunks = [table.slice(start, end - start) for start, end in pairwise([0, 7, 7, 8, 31, 50])]
    split = Split(name="train", table=pa.concat_tables(chunks))
    rows = [49, 0, 7, 6, 31, 30, 8, 7]
    assert [ids.tolist() for ids in split.ids(rows)] == [sentences[row] for row in rows]
    assert split.texts(np.array(rows)) == [str(row) for row in rows]


def test_batches_hold_sentences_of_like_length():
    batches = order()
    padded = sum(len(rows) * LENGTHS[rows].max() for rows in batches)
    assert padded < 1.05 * LENGTHS.sum()


def test_batches_of_short_and_long_sentences_are_mixed_over_the_epoch():
    batches = order()
    means = [LENGTHS[rows].mean() for rows in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


@given(
    lengths=st.integers(1, 50).flatmap(lambda size: st.lists(st.integers(1, 9), min_size=size, max_size=size)),
    budget=st.integers(1, 40),
    window=st.integers(1, 4),
    group=st.integers(1, 60),
    max_length=st.none() | st.integers(1, 10),
)
def test_a_token_budget_holds_every_row_once_and_is_kept(lengths, budget, window, group, max_length):
    lengths = np.array(lengths, np.int32)
    chunks = [len(lengths) // 3, len(lengths) - len(lengths) // 3]
    settings = {"length_window": window, "shuffle_window": group, "max_length": max_length}
    batches = order(lengths, chunks=chunks, batch_size=None, tokens_per_batch=budget, **settings)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(lengths)))
    cut = np.minimum(lengths, max_length or 9)
    assert all(padded_tokens(rows, cut) <= budget or len(rows) == 1 for rows in batches)


# Lengths like those of the Penn Treebank: 21.9 words on average, standard deviation 10.6.
PTB_LENGTHS = np.random.default_rng(1).gamma(4.3, 5.1, size=42_000).clip(1, 82).astype(np.int32)
DEFAULTS = {"tokens_per_batch": None, "length_window": 100, "shuffle_window": 1_000_000, "max_length": None}
BUDGETS = [
    {"batch_size": 20},
    {"batch_size": None, "tokens_per_batch": 460},
    {"batch_size": None, "tokens_per_batch": 3000},
]


@pytest.mark.parametrize("size", BUDGETS, ids=str)
@pytest.mark.parametrize("shuffle_window", [1_000_000, 20_000])
def test_less_than_three_percent_is_padding(size, shuffle_window):
    batches = order(PTB_LENGTHS, chunks=[2000] * 21, shuffle_window=shuffle_window, **size)
    padded = sum(padded_tokens(rows, PTB_LENGTHS) for rows in batches)
    assert (PTB_LENGTHS + 1).sum() > 0.97 * padded


def test_a_batch_over_the_border_of_two_length_windows_holds_like_lengths_too():
    batches = order(PTB_LENGTHS, chunks=[42_000], length_window=5, batch_size=None, tokens_per_batch=3000)
    padded = sum(padded_tokens(rows, PTB_LENGTHS) for rows in batches)
    # 0.84; it would be 0.77 if each window began anew with its shortest sentences.
    assert (PTB_LENGTHS + 1).sum() > 0.81 * padded


def test_sentences_are_counted_after_the_cut():
    batches = order(np.full(40, 99, np.int32), chunks=[40], batch_size=None, tokens_per_batch=100, max_length=9)
    assert [len(rows) for rows in batches] == [10] * 4


def test_batches_fill_their_budget():
    batches = order(PTB_LENGTHS, chunks=[2000] * 21, shuffle_window=4000, batch_size=None, tokens_per_batch=3000)
    # The room of a sentence is left over where no other one fits: half of 22 tokens of 3000 on average.
    assert sum(padded_tokens(rows, PTB_LENGTHS) for rows in batches) > 0.98 * 3000 * len(batches)


def test_batches_of_short_and_long_sentences_are_mixed_under_a_budget_too():
    batches = order(batch_size=None, tokens_per_batch=800)
    means = [LENGTHS[rows].mean() for rows in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


@pytest.mark.parametrize("size", BUDGETS, ids=str)
@pytest.mark.parametrize("settings", [{}, {"length_window": 1}, {"shuffle_window": 8000}, {"max_length": 15}], ids=str)
def test_the_number_of_batches_and_their_mean_size_are_known_before(size, settings):
    split = split_of(PTB_LENGTHS, chunks=[2000] * 21)
    settings = {**DEFAULTS, **size, **settings}
    batches = order(PTB_LENGTHS, chunks=[2000] * 21, seed=5, epoch=3, **settings)
    exact = settings["batch_size"] is not None
    assert epoch_batches(split, **settings) == pytest.approx(len(batches), rel=0 if exact else 0.01)
    mean = np.mean([len(rows) for rows in batches])
    assert len(split) / epoch_batches(split, **settings) == pytest.approx(mean, rel=0.01)


def test_a_large_corpus_has_its_number_of_batches_estimated_from_a_part(monkeypatch):
    monkeypatch.setattr("smim.text.batches._ROWS_OF_AN_ESTIMATE", 10_000)
    size = {"batch_size": None, "tokens_per_batch": 460}
    batches = order(PTB_LENGTHS, chunks=[2000] * 21, **size)
    estimate = epoch_batches(split_of(PTB_LENGTHS, chunks=[2000] * 21), **{**DEFAULTS, **size})
    assert estimate == pytest.approx(len(batches), rel=0.03)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_the_shares_of_all_ranks_are_the_batch(world_size):
    for rows in order(LENGTHS[:103], chunks=[103], length_window=1):
        shares = [
            rows[share_of_rank(rows, LENGTHS[rows], rank=rank, world_size=world_size)] for rank in range(world_size)
        ]
        assert sorted(np.concatenate(shares)) == sorted(rows)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_takes_the_batch_as_it_is():
    for rows in order(length_window=1):
        assert np.array_equal(rows[share_of_rank(rows, LENGTHS[rows], rank=0, world_size=1)], rows)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize(
    "settings",
    [{"batch_size": None, "tokens_per_batch": 3000}, {"batch_size": 20, "length_window": 1}],
    ids=["token budget", "mixed lengths"],
)
def test_all_ranks_have_like_costs_over_an_epoch(settings, world_size):
    costs = np.zeros(world_size)
    for rows in order(PTB_LENGTHS, chunks=[2000] * 21, **settings):
        for rank in range(world_size):
            share = rows[share_of_rank(rows, PTB_LENGTHS[rows], rank=rank, world_size=world_size)]
            costs[rank] += padded_tokens(share, PTB_LENGTHS)
    assert costs.max() < 1.02 * costs.min()


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_ranks_have_like_costs_in_each_batch_of_a_token_budget(world_size):
    slowest = mean = 0.0
    for rows in order(PTB_LENGTHS, chunks=[2000] * 21, batch_size=None, tokens_per_batch=3000):
        shares = [
            rows[share_of_rank(rows, PTB_LENGTHS[rows], rank=r, world_size=world_size)] for r in range(world_size)
        ]
        costs = [padded_tokens(share, PTB_LENGTHS) for share in shares]
        slowest, mean = slowest + max(costs), mean + np.mean(costs)
    assert slowest < 1.03 * mean


def test_evaluation_keeps_every_row_within_the_token_budget():
    batches = evaluation_order(LENGTHS, tokens_per_batch=1000)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(LENGTHS)))
    assert all(len(rows) * (LENGTHS[rows].max() + 1) <= 1000 for rows in batches)


def test_a_sentence_over_the_token_budget_is_a_batch_of_its_own():
    assert [len(rows) for rows in evaluation_order(np.array([500, 3, 3]), tokens_per_batch=100)] == [1, 2]


def test_padding_is_on_the_right():
    batch = collate([[5, 6, 7], [8]], rows=[10, 11])
    assert batch.tokens.tolist() == [[5, 6, 7], [8, PAD_ID, PAD_ID]]
    assert batch.lengths.tolist() == [3, 1] and batch.rows.tolist() == [10, 11]


def test_sentences_are_cut_after_max_length():
    sentences = pa.array([[5, 6, 7], [8], [9, 10]], pa.list_(pa.int32()))
    split = Split(name="train", table=pa.table({"ids": sentences}))
    batch = split.batch([0, 1], max_length=2)
    assert batch.tokens.tolist() == [[5, 6], [8, PAD_ID]] and batch.lengths.tolist() == [2, 1]


@given(st.lists(st.lists(st.integers(3, 30_000), max_size=9), min_size=1, max_size=20))
def test_a_batch_gives_its_sentences_back(sentences):
    batch = collate(sentences, range(len(sentences)))
    given_back = [row[:length].tolist() for row, length in zip(batch.tokens, batch.lengths, strict=True)]
    assert given_back == sentences
    assert int((batch.tokens != PAD_ID).sum()) == sum(map(len, sentences))
    assert str(batch.tokens.dtype) == str(batch.lengths.dtype) == "torch.int64"


def split_with_views() -> Split:
    """Six sentences of the token 10 + i, with pairs of 100 + i, and [i, i] as the teacher's vector."""
    lists = pa.list_(pa.int32())
    ids, pairs = [[10 + i] * (i + 1) for i in range(6)], [[100 + i] * (6 - i) for i in range(6)]
    table = pa.table({
        "text": [str(i) for i in range(6)], "ids": pa.array(ids, lists), "length": pa.array(range(1, 7), pa.int32()),
        "pair_text": ["p"] * 6, "pair_ids": pa.array(pairs, lists), "topic": ["a"] * 6,
    })  # fmt: skip
    return Split(name="train", table=table, view=lambda rows: np.stack([rows, rows], axis=1).astype(np.float32))


def test_vectors_of_a_teacher_and_pairs_go_with_their_sentences_into_every_share_of_every_batch():
    split = split_with_views()
    settings = {"batch_size": 4, "tokens_per_batch": None, "length_window": 2, "shuffle_window": 5}
    seen = []
    for rows in training_order(split, **settings, seed=0, epoch=0):
        read = split.read(rows)
        for rank in range(2):
            batch = read.batch(share_of_rank(rows, read.lengths, rank=rank, world_size=2)).padded_to(8)
            assert batch.pair is not None and batch.view is not None and batch.view.shape == (len(batch), 2)
            assert batch.rows.tolist() == (batch.tokens[:, 0] - 10).tolist() == (batch.pair.tokens[:, 0] - 100).tolist()
            assert batch.view.tolist() == [[row, row] for row in batch.rows.tolist()]
            assert batch.pair.lengths.tolist() == (6 - batch.rows).tolist()
            assert batch.tokens.shape == batch.pair.tokens.shape == (len(batch), 8)
            seen += batch.rows.tolist()
    assert sorted(seen) == list(range(6))


def test_a_batch_goes_to_a_device_with_all_that_it_holds():
    batch = split_with_views().batch([2, 4], max_length=2).to(torch.device("meta"))
    assert batch.pair is not None and batch.view is not None
    held = [batch.rows, batch.tokens, batch.lengths, batch.view, batch.pair.tokens, batch.pair.lengths]
    assert all(tensor.is_meta for tensor in held)
    assert batch.tokens.shape == batch.pair.tokens.shape == (2, 2) and batch.longest == 2


def test_pairs_and_vectors_are_no_labels_and_a_label_may_be_called_like_them():
    assert split_with_views().label_columns == ["topic"]
    labelled = Split("train", pa.table({"text": ["a"], "pair_ids": ["b"]}))
    assert labelled.label_columns == ["pair_ids"] and not labelled.has_pairs
