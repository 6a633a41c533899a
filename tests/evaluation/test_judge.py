"""The judge: probabilities that sum to one, of any text, the same ones for the same text; and what is not a judge."""

import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest

from smim.errors import UserError
from smim.evaluation import judge as judging
from smim.evaluation.judge import ORDER, Judge, fingerprints, for_judge, make, words_of
from smim.text.tokenizer import EOS_ID, SOS_ID


def nats(judge: Judge, text: str) -> float:
    return judge.nats([text])[0].item()


def kneser_ney(judge: Judge, sentences: list[list[int]]):
    """p(last | others) of an n-gram, with dictionaries, as Chen and Goodman write it."""
    padded = [[SOS_ID] * (ORDER - 1) + ids + [EOS_ID] for ids in sentences]
    counts = {ORDER: Counter(tuple(p[i - ORDER : i]) for p in padded for i in range(ORDER, len(p) + 1))}
    for order in range(ORDER - 1, 0, -1):
        counts[order] = Counter(gram[1:] for gram in counts[order + 1])

    def p(gram: tuple[int, ...]) -> float:
        if not gram:
            return 1 / judge.tokenizer.vocabulary_size
        own = counts[len(gram)]
        here = {each: count for each, count in own.items() if each[:-1] == gram[:-1]}
        if not here:
            return p(gram[1:])
        once, twice = (sum(count == n for count in own.values()) for n in (1, 2))
        discount, total = (once + 0.5) / (once + 2 * twice + 1), sum(here.values())
        return (max(here.get(gram, 0) - discount, 0) + discount * len(here) * p(gram[1:])) / total

    return p


def test_probabilities_are_those_of_kneser_ney(judge, text):
    sentences = [judge.tokenizer.encode(line) for line in text.read_text().splitlines()]
    p = kneser_ney(judge, sentences)
    for line in ("the company sold shares", "her brother the bank", "something else"):
        ids = [SOS_ID] * (ORDER - 1) + judge.tokenizer.encode(line) + [EOS_ID]
        expected = -sum(math.log(p(tuple(ids[i - ORDER : i]))) for i in range(ORDER, len(ids) + 1))
        assert nats(judge, line) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("before", ["", "the company", "zebra", "sold sold"])
def test_probabilities_behind_any_words_sum_to_one(judge, before):
    base = judge.tokenizer.vocabulary_size
    context = ([SOS_ID] * ORDER + judge.tokenizer.encode(before))[1 - ORDER :]
    windows = np.column_stack([np.tile(context, (base, 1)), np.arange(base)])
    assert judge.probabilities(windows).sum() == pytest.approx(1, abs=1e-12)


def test_a_sentence_is_likelier_than_its_words_in_another_order(judge):
    assert nats(judge, "her brother lost a small house") < nats(judge, "small brother a house lost her") - 3


def test_any_text_has_finite_nats_and_counts_its_words_and_its_end(judge):
    texts = ["", "🦓", "<unk>", "the company", "x" * 5000]
    found, words = judge.nats(texts)
    assert np.isfinite(found).all() and (found > 0).all()
    assert words.tolist() == [1, 2, 4, 3, 2]


def test_the_way_of_writing_does_not_matter(judge):
    assert words_of("Don't go, “Tom”!") == words_of('do n\'t go , " tom " !')
    assert nats(judge, "THE  Company sold shares") == nats(judge, "the company sold shares")


def test_the_same_text_makes_the_same_judge_and_other_text_another(judge, text, tmp_path):
    again = make([text], tmp_path / "again", vocabulary_size=290)
    assert again.hash == judge.hash == Judge.open(text.parent / "judge").hash
    (tmp_path / "text.txt").write_text(text.read_text() + "\none more\n")
    assert make([tmp_path / "text.txt"], tmp_path / "other", vocabulary_size=290).hash != judge.hash


def test_repeated_sentences_unknown_words_and_those_to_evaluate_on_are_left_out(judge, text, tmp_path):
    lines = text.read_text().splitlines()
    (tmp_path / "text.txt").write_text("\n".join([*lines, lines[0].upper(), "the <unk> sold"]))
    same = make([tmp_path / "text.txt"], tmp_path / "same", vocabulary_size=290)
    assert same.card.sentences == len(lines) and (same.grams == judge.grams).all()
    (tmp_path / "without.txt").write_text(lines[0].upper())
    fewer = make([text], tmp_path / "fewer", without=[tmp_path / "without.txt"], vocabulary_size=290)
    assert fewer.card.sentences == len(lines) - 1
    assert not np.isin(fingerprints(lines[:1]), fewer.known) and np.isin(fingerprints(lines[1:]), fewer.known).all()


def test_text_is_split_by_its_words_alone():
    texts = [f"sentence {i}" for i in range(2000)]
    chosen = for_judge(texts, 0.3)
    assert 0.27 < chosen.mean() < 0.33
    assert (for_judge([text.upper() for text in reversed(texts)], 0.3)[::-1] == chosen).all()
    assert (for_judge(texts, 0.5) >= chosen).all()


def test_what_is_no_judge_or_was_changed_is_refused(judge, text, tmp_path):
    with pytest.raises(UserError, match=r"is no judge.*smim judge make"):
        Judge.open(tmp_path)
    changed = tmp_path / "changed"
    shutil.copytree(text.parent / "judge", changed)
    content = bytearray((changed / judging.COUNTS).read_bytes())
    content[-1] ^= 1
    (changed / judging.COUNTS).write_bytes(content)
    with pytest.raises(UserError, match=r"does not have the hash in judge\.json"):
        Judge.open(changed)
    card = json.loads((changed / judging.CARD).read_text())
    (changed / judging.CARD).write_text(json.dumps(card | {"format": 9}))
    with pytest.raises(UserError, match="has format 9"):
        Judge.open(changed)


def test_what_is_there_is_not_lost_and_a_vocabulary_has_bounds(text, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="exists and is no judge"):
        make([text], tmp_path / "mine", vocabulary_size=290)
    with pytest.raises(UserError, match="at most 6,208"):
        make([text], tmp_path / "judge", vocabulary_size=7000)
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
