"""Batches of sentences, and words drawn at random in some of them."""

import torch

from smim.text.batch import collate, with_random_words
from smim.text.tokenizer import PAD_ID, SPECIAL

WORDS = 20


def test_words_are_drawn_anew_in_a_share_of_the_sentences():
    lengths = 1 + torch.arange(400) % 5
    batch = collate([[len(SPECIAL)] * int(length) for length in lengths], range(400))
    torch.manual_seed(0)
    drawn = with_random_words(batch, 0.25, WORDS)
    assert 70 < drawn.random.sum() < 130
    assert drawn.tokens[~drawn.random].equal(batch.tokens[~drawn.random])
    assert (drawn.tokens == PAD_ID).equal(batch.tokens == PAD_ID) and drawn.lengths.equal(batch.lengths)
    words = drawn.tokens[drawn.random & (drawn.lengths == 5)].flatten()
    assert {*words.tolist()} == {*range(len(SPECIAL), WORDS)}


def test_no_teacher_has_seen_words_that_were_drawn():
    batch = collate([[7, 8], [9], [8]] * 20, range(60))
    assert with_random_words(batch, 0.5, WORDS).view is None
    taught = batch.__class__(batch.rows, batch.tokens, batch.lengths, view=torch.ones(60, 3))
    drawn = with_random_words(taught, 0.5, WORDS)
    assert drawn.view is not None and drawn.random is not None
    assert drawn.view.any(-1).equal(~drawn.random) and 0 < drawn.random.sum() < 60
