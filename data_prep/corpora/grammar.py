"""The grammar of the demo corpus. It generates plain English sentences from a random seed, without a download.

A row has four columns:

* `text`: tokens in lower case, separated by single spaces. Punctuation marks are tokens ("the cook fried some eggs .").
* `topic`: the subject, such as "cooking".
* `family`: the id of the meaning. Rows of one family are paraphrases.
* `kind`: "statement" or "question_answer".

The family of a statement ("cooking-00123") is one proposition: who did what, how, where and when. It occurs in four or
five frames (such as active, passive and cleft sentences), with random synonyms. All its rows are in the same split.

A question_answer text is "<question> ? <answer> .". Its family ("fact-0042") is one fact of a fixed table. All splits
have the same facts, because a model can only answer a question about a fact that it has seen. No question of train is
worded like a question of valid and test.

In these tables, and in those of `grammar.toml`, `|` separates meanings, and `/` separates synonyms.
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

# Most sentences have at most one adjunct, so that the typical length is about ten tokens.
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
# These frames move the place or the time, so the proposition must have one of them.
MOVING_FRAMES = (
    "{last} , {agent} {did} {object} {others} .",
    "{last} , {object} {was_done} by {agent} {others} .",
    "{object} {was_done} {adjuncts} by {agent} .",
)


@dataclass(frozen=True)
class Proposition:
    """The meaning of a statement family. Each part is a tuple of synonyms, empty if the part is missing."""

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
    """Generate the rows (text, topic, family, kind) of "train", "valid" and "test".

    These have about 20,000, 2,000 and 2,000 rows, which depend only on `seed`. No text occurs twice in the corpus.
    """
    rng = random.Random(seed)
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for split, made in [*statement_rows(rng), *fact_rows(rng)]:
        splits[split].append(made)
    for rows in splits.values():
        rng.shuffle(rows)
    return splits


def statement_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    """Yield the statements of all topics, each with its split."""
    split_of_family = [split for split, size in FAMILIES_OF_A_TOPIC.items() for _ in range(size)]
    for topic in TOPICS:
        propositions: dict[Proposition, None] = {}  # a set that keeps its order
        while len(propositions) < len(split_of_family):
            propositions[draw_proposition(topic, rng)] = None
        for number, (split, proposition) in enumerate(zip(split_of_family, propositions, strict=True)):
            for text in wordings(proposition, rng):
                yield split, row(text, topic["name"], f"{topic['name']}-{number:05d}", "statement")


def fact_rows(rng: random.Random) -> Iterator[tuple[str, Row]]:
    """Yield the questions and answers about all facts, each with its split."""
    facts = [
        (relation, x, y)
        for relation in _TABLES["relations"]
        for y, xs in (group.split(": ") for group in relation["facts"].split(" | "))
        for x in xs.split(", ")
    ]
    for number, (relation, x, y) in enumerate(facts):
        questions, answers = shuffled(relation["questions"], rng), shuffled(relation["answers"], rng)
        # One wording of the question is only in valid and test, so that their questions do not occur in train.
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
    """Write a proposition in four or five random frames."""
    frames = FRAMES + MOVING_FRAMES if proposition.place or proposition.time else FRAMES
    return [worded(proposition, frame, rng) for frame in rng.sample(frames, rng.choice((4, 5)))]


def worded(proposition: Proposition, frame: str, rng: random.Random) -> str:
    """Write a proposition in one frame, with random synonyms."""
    agent, verb, thing = map(rng.choice, (proposition.agent, proposition.verb, proposition.object))
    said = filter(None, (proposition.manner, proposition.place, proposition.time))
    adjuncts = [rng.choice(synonyms) for synonyms in said]
    # A single adverb ("carefully") precedes the verb, and a phrase ("with care") follows the object.
    adverb = adjuncts.pop(0) if proposition.manner and " " not in adjuncts[0] else ""
    return written(
        frame,
        agent=rng.choice((agent, definite(agent), definite(agent))),
        verb=verb,
        thing=thing,
        object=rng.choice((thing, definite(thing))),
        adverb=adverb,
        adjuncts=adjuncts,
        human=proposition.human,
        future=proposition.tense == "future",
    )


def written(
    frame: str,
    *,
    agent: str,
    verb: str,
    thing: str,
    object: str,
    adverb: str,
    adjuncts: list[str],
    human: bool,
    future: bool,
) -> str:
    """Write a sentence of given words in a frame. `object` is the `thing` with the article to write."""
    base, past, participle = (verb.split() + verb.split()[-1:])[:3]
    be = "will be" if future else "were" if is_plural(thing) else "was"
    text = frame.format(
        agent=agent,
        who="who" if human else "that",
        the_one="the one who" if human else "what",
        did=f"will {adverb} {base}" if future else f"{adverb} {past}",
        was_done=f"{be} {adverb} {participle}",
        was="is" if future else "was",
        object=object,
        the_object=definite(thing),
        adjuncts=" ".join(adjuncts),
        last=" ".join(adjuncts[-1:]),
        others=" ".join(adjuncts[:-1]),
    )
    return " ".join(text.split())


def definite(phrase: str) -> str:
    """Replace the article of a phrase by "the"."""
    return f"the {phrase.split(' ', 1)[1]}"


def is_plural(phrase: str) -> bool:
    article, noun = phrase.split()[0], phrase.split()[-1]
    return article not in ("a", "an") and (noun.endswith("s") or noun in IRREGULAR_PLURALS)


def shuffled(table: str, rng: random.Random) -> list[str]:
    parts = table.split(" | ")
    return rng.sample(parts, len(parts))


def row(text: str, topic: str, family: str, kind: str) -> Row:
    return {"text": text, "topic": topic, "family": family, "kind": kind}
