import numpy as np

from smim.text.batches import collate, evaluation_order, training_order
from smim.text.tokenizer import PAD_ID

LENGTHS = np.random.default_rng(0).integers(1, 80, size=5003).astype(np.int32)


def test_each_row_comes_once_an_epoch():
    batches = training_order(LENGTHS, batch_size=20, length_window=100, seed=0, epoch=0)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(LENGTHS)))


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> np.ndarray:
        return np.concatenate(training_order(LENGTHS, batch_size=20, length_window=100, seed=seed, epoch=epoch))

    assert np.array_equal(order(1, 2), order(1, 2))
    assert not np.array_equal(order(1, 2), order(1, 3))
    assert not np.array_equal(order(1, 2), order(2, 2))


def test_batches_hold_sentences_of_like_length():
    batches = training_order(LENGTHS, batch_size=20, length_window=100, seed=0, epoch=0)
    padded = sum(len(rows) * LENGTHS[rows].max() for rows in batches)
    assert padded < 1.05 * LENGTHS.sum()


def test_batches_of_short_and_long_sentences_are_mixed_over_the_epoch():
    batches = training_order(LENGTHS, batch_size=20, length_window=100, seed=0, epoch=0)
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
