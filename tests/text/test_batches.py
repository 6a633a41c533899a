import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from smim.text.batches import collate, evaluation_order, training_order
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
    batch_size: int = 20,
    length_window: int = 100,
    shuffle_window: int = 1_000_000,
    seed: int = 0,
    epoch: int = 0,
) -> list[np.ndarray]:
    settings = {"batch_size": batch_size, "length_window": length_window, "shuffle_window": shuffle_window}
    return list(training_order(split_of(lengths, chunks=chunks), **settings, seed=seed, epoch=epoch))


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


@pytest.mark.parametrize("shuffle_window", [1_000_000, 1000])
def test_order_is_a_function_of_seed_and_epoch(shuffle_window):
    def rows(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in order(shuffle_window=shuffle_window, seed=seed, epoch=epoch)]

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


def test_memory_is_bounded_by_the_shuffle_window():
    split = split_of(np.resize(LENGTHS, 5_000_000), chunks=[5000] * 1000)
    tracemalloc.start()
    batches = training_order(split, batch_size=20, length_window=100, shuffle_window=100_000, seed=0, epoch=0)
    assert sum(len(rows) for rows in batches) == 5_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * 100_000


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
