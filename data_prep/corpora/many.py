"""Millions of distinct sentences of the demo corpus's grammar, by number, for measurements of scale.

    sentences = Many(seed=0)
    len(sentences), sentences[0]

A sentence is a combination of frame, tense, agent, verb, object, manner, place and time. Its number determines the
combination, so no two sentences are equal, and any range of them can be written without the others.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from data_prep.corpora.grammar import FRAMES, TIMES, TOPICS, definite, written
from smim import storage


@dataclass(frozen=True)
class _Block:
    """The sentences of a topic in one frame and tense: all combinations of `slots`."""

    frame: str
    human: bool
    future: bool
    slots: tuple[list[Any], ...]

    def __len__(self) -> int:
        return math.prod(map(len, self.slots))

    def __getitem__(self, number: int) -> str:
        chosen = []
        for slot in self.slots:
            number, place = divmod(number, len(slot))
            chosen.append(slot[place])
        agent, (verb, thing, said), manner, place, time = chosen
        is_adverb = manner and " " not in manner
        return written(
            self.frame,
            agent=agent,
            verb=verb,
            thing=thing,
            object=said,
            adverb=manner if is_adverb else "",
            adjuncts=[each for each in ("" if is_adverb else manner, place, time) if each],
            human=self.human,
            future=self.future,
        )


class Many:
    """All sentences of the grammar's statements, in an order that depends on `seed`."""

    def __init__(self, *, seed: int = 0) -> None:
        self.blocks = [
            _block(topic, frame, tense) for topic in TOPICS for frame in FRAMES for tense in ("past", "future")
        ]
        self.starts = [0, *accumulate(map(len, self.blocks))]
        chance = random.Random(seed)
        self.offset, self.step = chance.randrange(len(self)), _coprime(len(self), chance)

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(f"sentence {number:,} of {len(self):,}")
        # A step that is coprime to their number visits all of them.
        place = (self.offset + number * self.step) % len(self)
        block = bisect_right(self.starts, place) - 1
        return self.blocks[block][place - self.starts[block]]

    def write(self, folder: Path, rows: range) -> Path:
        """Write the sentences of `rows`, one per line, to a file named by the range; an existing one is kept."""
        path = folder / f"{rows.start:09d}.txt"
        if not path.exists():
            with storage.new_file(path) as partial:
                partial.write_text("".join(f"{self[number]}\n" for number in rows), encoding="utf-8")
        return path


def _block(topic: dict[str, Any], frame: str, tense: str) -> _Block:
    agents = [form(agent) for agent in _words(topic["agents"]) for form in (str, definite)]
    # A frame with "the object" has one form of it, and so has an object that begins with "the".
    forms: list[Callable[[str], str]] = [str] if "{the_object}" in frame else [str, definite]
    acts = dict.fromkeys(
        (verb, thing, form(thing))
        for verbs, objects in topic["actions"].items()
        for verb in verbs.split("/")
        for thing in _words(objects)
        for form in forms
    )
    adjuncts = (["", *_words(table)] for table in (topic["manners"], topic["places"], TIMES[tense]))
    return _Block(frame, topic["human"], tense == "future", (agents, list(acts), *adjuncts))


def _words(table: str) -> list[str]:
    return [word for words in table.split(" | ") for word in words.split("/")]


def _coprime(total: int, chance: random.Random) -> int:
    """A random number without a common divisor with `total`, of about its golden section: neighbours are far apart."""
    step = int(total * (math.sqrt(5) - 1) / 2) + chance.randrange(total // 100)
    while math.gcd(step, total) != 1:
        step += 1
    return step
