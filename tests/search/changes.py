"""Makes the same changes of an index each time it runs, and tells after each how many were made.

    python changes.py INDEX MODEL DONE [SECONDS]

It waits so many seconds after each. DONE gets a character when it begins and one after each change. A process killed
anywhere leaves the index as it is after so many changes, or after one more.
"""

import random
import sys
import time
from pathlib import Path

Rows = dict[int, str]

PHRASES = ["the company", "a bank", "her brother"], ["sold", "lost", "never liked"], ["shares", "a small house"]
NUM_CHANGES = 9


def change(i: int, rows: Rows, writer=None) -> Rows:
    """The rows after the i-th change, which `writer`, where given, makes too."""
    chance = random.Random(i)
    texts = [" ".join(map(chance.choice, PHRASES)) for _ in range(3)]
    ids = chance.sample(range(60), 3)
    if i % 4 == 3:
        if writer:
            writer.compact()
        return rows
    if i % 4 == 1:
        if writer:
            writer.delete(ids)
        return {id: text for id, text in rows.items() if id not in ids}
    if writer:
        writer.upsert(texts, ids=ids)
    return rows | dict(zip(ids, texts, strict=True))


def tell(done: Path) -> None:
    """Appends, which is done whole or not at all when the process is killed."""
    with done.open("a") as file:
        file.write("x")


def main() -> None:
    import smim
    from smim.search import IndexWriter

    directory, done = Path(sys.argv[1]), Path(sys.argv[3])
    model = smim.load(sys.argv[2], device="cpu")
    tell(done)
    for i in range(NUM_CHANGES):
        with IndexWriter(directory, model=model) as writer:
            change(i, {}, writer)
        tell(done)
        time.sleep(float(*sys.argv[4:]))


if __name__ == "__main__":
    main()
