import random
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from data_prep.corpora import grammar as demo

Splits = dict[str, list[demo.Row]]

SPLITS = ("train", "valid", "test")
# Beginnings whose first letter misleads about the sound.
CONSONANT_SOUND = ("uni", "use", "eu", "one")
VOWEL_SOUND = ("hour", "honest", "x-ray")


@pytest.fixture(scope="module")
def splits() -> Splits:
    return demo.generate(seed=0)


def rows_of_kind(splits: Splits, kind: str, names: tuple[str, ...] = SPLITS) -> list[demo.Row]:
    return [row for name in names for row in splits[name] if row["kind"] == kind]


def question(row: demo.Row) -> str:
    return row["text"].split(" ? ")[0]


def test_same_seed_gives_same_rows(splits: Splits) -> None:
    assert demo.generate(seed=0) == splits


def test_another_seed_gives_other_rows(splits: Splits) -> None:
    assert demo.generate(seed=1) != splits


@pytest.mark.parametrize("seed", range(3))
def test_texts_are_distinct_over_all_splits(seed: int) -> None:
    texts = [row["text"] for rows in demo.generate(seed=seed).values() for row in rows]
    assert texts == [text.lower() for text in texts]
    assert len(set(texts)) == len(texts)


def test_splits_have_the_promised_sizes(splits: Splits) -> None:
    assert 20_000 <= len(splits["train"]) <= 21_000
    assert 1_800 <= len(splits["valid"]) <= 2_400
    assert 1_800 <= len(splits["test"]) <= 2_400


def test_rows_have_the_promised_columns(splits: Splits) -> None:
    for rows in splits.values():
        assert all(set(row) == {"text", "topic", "family", "kind"} for row in rows)


def test_at_least_eight_topics_in_every_split(splits: Splits) -> None:
    for rows in splits.values():
        assert len({row["topic"] for row in rows}) >= 8


def test_sentences_have_five_to_twenty_tokens(splits: Splits) -> None:
    lengths = [len(row["text"].split()) for rows in splits.values() for row in rows]
    assert min(lengths) >= 5
    assert max(lengths) <= 20
    assert 10 <= sum(lengths) / len(lengths) <= 11.5


def test_vocabulary_is_small_and_no_word_is_rare(splits: Splits) -> None:
    counts = Counter(word for row in splits["train"] for word in row["text"].split())
    assert 700 <= len(counts) <= 1_200
    assert min(counts.values()) >= 2
    held_out = {word for name in ("valid", "test") for row in splits[name] for word in row["text"].split()}
    assert held_out <= set(counts)


def test_a_statement_family_lies_in_one_split_with_at_least_four_wordings(splits: Splits) -> None:
    homes = defaultdict(list)
    for name in SPLITS:
        for row in rows_of_kind(splits, "statement", (name,)):
            homes[row["family"]].append(name)
    assert all(len(set(home)) == 1 and 4 <= len(home) <= 5 for home in homes.values())


def test_statements_end_with_a_period_and_ask_nothing(splits: Splits) -> None:
    for row in rows_of_kind(splits, "statement"):
        assert row["text"].endswith(" .")
        assert "?" not in row["text"]


def test_a_question_answer_is_one_question_and_one_answer(splits: Splits) -> None:
    for row in rows_of_kind(splits, "question_answer"):
        asked, answer = row["text"].split(" ? ")
        assert asked
        assert answer.endswith(" .")
        assert answer.count(".") == 1


def test_a_fifth_to_a_third_of_each_split_are_question_answers(splits: Splits) -> None:
    for name, rows in splits.items():
        assert 0.2 <= len(rows_of_kind(splits, "question_answer", (name,))) / len(rows) <= 0.33


def test_every_test_fact_is_phrased_otherwise_in_train(splits: Splits) -> None:
    train = rows_of_kind(splits, "question_answer", ("train",))
    held_out = rows_of_kind(splits, "question_answer", ("valid", "test"))
    families = {row["family"] for row in train}
    assert len(families) >= 300
    assert {row["family"] for row in held_out} <= families
    assert {question(row) for row in held_out}.isdisjoint(question(row) for row in train)


def test_a_question_asks_for_one_fact(splits: Splits) -> None:
    facts = defaultdict(set)
    for row in rows_of_kind(splits, "question_answer"):
        facts[question(row)].add(row["family"])
    assert all(len(families) == 1 for families in facts.values())


def test_articles_agree_with_the_following_sound(splits: Splits) -> None:
    texts = [row["text"] for rows in splits.values() for row in rows]
    pairs = {pair for text in texts for pair in pairwise(text.split()) if pair[0] in ("a", "an")}
    for article, word in pairs:
        vowel = word.startswith(VOWEL_SOUND) or (word[0] in "aeiou" and not word.startswith(CONSONANT_SOUND))
        assert article == ("an" if vowel else "a"), f"{article} {word}"


def test_no_phrase_stands_for_two_meanings_in_a_slot() -> None:
    for topic in demo.TOPICS:
        verbs = " | ".join(topic["actions"])
        slots = [topic["agents"], topic["places"], topic["manners"], verbs, *topic["actions"].values()]
        for slot in [*slots, *demo.TIMES.values()]:
            phrases = slot.replace(" | ", "/").split("/")
            assert len(set(phrases)) == len(phrases), slot


def passives(manner: tuple[str, ...]) -> set[str]:
    proposition = demo.Proposition(
        human=False,
        tense="past",
        agent=("an owl",),
        verb=("eat ate eaten",),
        object=("some mice",),
        manner=manner,
        place=("in italy",),
        time=(),
    )
    return {demo.worded(proposition, demo.FRAMES[1], random.Random(seed)) for seed in range(30)}


def test_a_passive_takes_the_participle_and_agrees_in_number() -> None:
    assert "the mice were swiftly eaten by the owl in italy ." in passives(manner=("swiftly",))


def test_a_place_that_ends_like_an_adverb_stays_behind_the_verb() -> None:
    assert "some mice were eaten by an owl in italy ." in passives(manner=())
