"""The embedded demo corpus: plain English sentences from a seeded grammar, with nothing to download.

A row has four columns:

* ``text``: lower-case tokens with single spaces between, punctuation too ("the cook fried some eggs .").
* ``topic``: what the text is about, such as "cooking".
* ``family``: the id of what it says; rows of one family say the same in other words.
* ``kind``: "statement" or "question_answer".

A statement family ("cooking-00123") is one proposition: who did what, how, where and when. It is worded in
four or five frames (active, passive, cleft ...) with synonyms drawn afresh, and lies wholly in one split.

A question_answer text is "<question> ? <answer> ."; its family ("fact-0042") is one fact of a fixed table.
Facts recur over the splits by design, for a question can be answered only if its fact was seen. The questions
of valid and test are worded as no question of train is.

In these tables, and in those of `grammar.toml`, ``|`` stands between meanings and ``/`` between synonyms.
"""

import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

Row = dict[str, str]

FAMILIES_OF_A_TOPIC = {"train": 345, "valid": 36, "test": 36}

# Often nothing or only one of the three, which keeps a sentence near ten tokens.
ADJUNCTS = ("", "", "", "manner", "place", "place", "time", "time", "place time", "manner time")
MANNERS = "carefully/with care | quickly/in a hurry | slowly/without haste | quietly/in silence"
ANY_TIME = "at dawn/at sunrise | at noon/at midday | before lunch"
TIMES = {
    "past": f"{ANY_TIME} | yesterday | last friday | last spring | this morning/earlier today"
    " | last week/a week ago | last month/a month ago | last year/a year ago",
    "future": f"{ANY_TIME} | tomorrow | next friday | next spring | soon/before long"
    " | next week/in a week | next month/in a month | next year/in a year",
}
IRREGULAR_PLURALS = {"geese", "mice", "sheep"}

FRAMES = (
    "{agent} {did} {object} {adjuncts} .",
    "{object} {was_done} by {agent} {adjuncts} .",
    "it {was} {agent} {who} {did} {object} {adjuncts} .",
    "it {was} {the_object} that {agent} {did} {adjuncts} .",
    "{the_one} {did} {object} {adjuncts} {was} {agent} .",
)
# These move the place or the time, so they need one.
MOVING_FRAMES = (
    "{last} , {agent} {did} {object} {others} .",
    "{last} , {object} {was_done} by {agent} {others} .",
    "{object} {was_done} {adjuncts} by {agent} .",
)


@dataclass(frozen=True)
class Proposition:
    """What a statement family says. Each part is the tuple of its synonyms, empty where nothing is said."""

    human: bool
    tense: str
    agent: tuple[str, ...]
    verb: tuple[str, ...]
    object: tuple[str, ...]
    manner: tuple[str, ...]
    place: tuple[str, ...]
    time: tuple[str, ...]


_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
TOPICS: list[dict[str, Any]] = [{"manners": MANNERS, "human": True} | topic for topic in _TABLES["topics"]]


def generate(*, seed: int = 0) -> dict[str, list[Row]]:
    """The corpus as rows (text, topic, family, kind) under "train", "valid" and "test".

    About 20,000, 2,000 and 2,000 rows, a function of `seed` alone. All texts are distinct over all splits.
    """
    rng = random.Random(seed)
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for split, made in [*statement_rows(rng), *fact_rows(rng)]:
        splits[split].append(made)
    for rows in splits.values():
        rng.shuffle(rows)
    return splits


def statement_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    split_of_family = [split for split, size in FAMILIES_OF_A_TOPIC.items() for _ in range(size)]
    for topic in TOPICS:
        propositions: dict[Proposition, None] = {}  # distinct ones, in the order in which they are drawn
        while len(propositions) < len(split_of_family):
            propositions[draw_proposition(topic, rng)] = None
        for number, (split, proposition) in enumerate(zip(split_of_family, propositions, strict=True)):
            for text in wordings(proposition, rng):
                yield split, row(text, topic["name"], f"{topic['name']}-{number:05d}", "statement")


def fact_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    facts = [
        (relation, x, y)
        for relation in _TABLES["relations"]
        for y, xs in (group.split(": ") for group in relation["facts"].split(" | "))
        for x in xs.split(", ")
    ]
    for number, (relation, x, y) in enumerate(facts):
        questions, answers = shuffled(relation["questions"], rng), shuffled(relation["answers"], rng)
        # A whole question is held out, so that no question of valid or test can be looked up in train.
        wordings_of_split = {
            "train": product(questions[1:], answers),
            "valid": product(questions[:1], answers[:2]),
            "test": product(questions[:1], answers[2:]),
        }
        for split, pairs in wordings_of_split.items():
            for question, answer in pairs:
                text = f"{question} ? {answer} .".format(x=x, y=y)
                yield split, row(text, relation["topic"], f"fact-{number:04d}", "question_answer")


def draw_proposition(topic: dict[str, Any], rng: random.Random) -> Proposition:
    def draw(table: str) -> tuple[str, ...]:
        return tuple(rng.choice(table.split(" | ")).split("/"))

    tense = rng.choice(("past", "past", "past", "future"))
    verbs, objects = rng.choice(list(topic["actions"].items()))
    said = rng.choice(ADJUNCTS).split()
    return Proposition(
        human=topic["human"],
        tense=tense,
        agent=draw(topic["agents"]),
        verb=tuple(verbs.split("/")),
        object=draw(objects),
        manner=draw(topic["manners"]) if "manner" in said else (),
        place=draw(topic["places"]) if "place" in said else (),
        time=draw(TIMES[tense]) if "time" in said else (),
    )


def wordings(proposition: Proposition, rng: random.Random) -> list[str]:
    frames = FRAMES + MOVING_FRAMES if proposition.place or proposition.time else FRAMES
    return [worded(proposition, frame, rng) for frame in rng.sample(frames, rng.choice((4, 5)))]


def worded(proposition: Proposition, frame: str, rng: random.Random) -> str:
    agent, verb, thing = map(rng.choice, (proposition.agent, proposition.verb, proposition.object))
    base, past, participle = (verb.split() + verb.split()[-1:])[:3]
    said = filter(None, (proposition.manner, proposition.place, proposition.time))
    adjuncts = [rng.choice(synonyms) for synonyms in said]
    # A bare adverb ("carefully") stands before the verb, a phrase ("with care") after the object.
    adverb = adjuncts.pop(0) if proposition.manner and " " not in adjuncts[0] else ""
    future = proposition.tense == "future"
    be = "will be" if future else "were" if is_plural(thing) else "was"
    text = frame.format(
        agent=rng.choice((agent, definite(agent), definite(agent))),
        who="who" if proposition.human else "that",
        the_one="the one who" if proposition.human else "what",
        did=f"will {adverb} {base}" if future else f"{adverb} {past}",
        was_done=f"{be} {adverb} {participle}",
        was="is" if future else "was",
        object=rng.choice((thing, definite(thing))),
        the_object=definite(thing),
        adjuncts=" ".join(adjuncts),
        last=" ".join(adjuncts[-1:]),
        others=" ".join(adjuncts[:-1]),
    )
    return " ".join(text.split())


def definite(phrase: str) -> str:
    return f"the {phrase.split(' ', 1)[1]}"


def is_plural(phrase: str) -> bool:
    article, noun = phrase.split()[0], phrase.split()[-1]
    return article not in ("a", "an") and (noun.endswith("s") or noun in IRREGULAR_PLURALS)


def shuffled(table: str, rng: random.Random) -> list[str]:
    parts = table.split(" | ")
    return rng.sample(parts, len(parts))


def row(text: str, topic: str, family: str, kind: str) -> Row:
    return {"text": text, "topic": topic, "family": family, "kind": kind}
