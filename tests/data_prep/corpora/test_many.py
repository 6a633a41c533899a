"""The numbered sentences of the grammar: no two are equal, and a seed determines their order."""

from itertools import combinations
from math import gcd, prod

import pytest

from data_prep.corpora.many import Many


def test_no_two_of_the_first_sentences_are_equal():
    many = Many(seed=3)
    assert len(many) > 100_000_000
    assert len({many[number] for number in range(50_000)}) == 50_000


def test_topics_frames_agents_and_acts_give_distinct_sentences():
    found = []
    for block in Many().blocks:
        agents, acts, *_ = block.slots
        # The later slots are in their first form, "".
        found += [block[number] for number in range(len(agents) * len(acts))]
    assert len(set(found)) == len(found) > 40_000


def test_two_slots_of_a_block_never_give_the_same_sentence():
    for block in Many().blocks[:10]:
        sizes = [len(slot) for slot in block.slots]
        strides = [prod(sizes[:place]) for place in range(len(sizes))]
        for (a, step), (b, other) in combinations(zip(sizes, strides, strict=True), 2):
            numbers = [i * step + j * other for i in range(a) for j in range(b)]
            assert len({block[number] for number in numbers}) == len(numbers)


def test_the_order_depends_on_the_seed_and_visits_every_sentence():
    many = Many(seed=0)
    assert gcd(many.step, len(many)) == 1
    assert many[0] == Many(seed=0)[0] != Many(seed=1)[0]


def test_a_number_beyond_the_last_sentence_is_refused():
    with pytest.raises(IndexError):
        Many()[len(Many())]


def test_a_file_holds_its_range_and_is_not_written_again(tmp_path):
    many = Many()
    path = many.write(tmp_path, range(10, 13))
    assert path.read_text().splitlines() == [many[10], many[11], many[12]]
    path.write_text("kept\n")
    assert many.write(tmp_path, range(10, 13)).read_text() == "kept\n"
