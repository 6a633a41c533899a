"""Writers that are killed at any moment leave the index as it was, or as it was to become."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from smim.search import Index, IndexWriter, open_index
from tests.scripts import Script
from tests.search.changes import NUM_CHANGES, change


def contents(index: Index) -> dict[int, str]:
    """What can be found, by id; the codes must be those of the texts."""
    rows = {}
    for segment in index.snapshot.segments:
        for position in segment.live_positions():
            rows[int(segment.ids[position])] = segment.row(int(position))["text"]
    for hits in index.search(sorted(set(rows.values())), k=1):
        assert hits[0].distance == pytest.approx(0, abs=1e-5)
    return rows


class Series:
    """An index whose copies are changed by processes that are killed."""

    def __init__(self, index: Index, model: Path) -> None:
        self.index, self.model = index, model
        self.copy = index.directory.parent / "copies" / "index"
        self.done = index.directory.parent / "done"
        rows = contents(index)
        self.after = [rows]
        for i in range(NUM_CHANGES):
            rows = change(i, rows)
            self.after.append(rows)

    def run(self, kill_at: int, *, seconds: float | None = None) -> list[str]:
        """The touches of a run that is killed at its N-th one, or so many seconds after it began; 0: at none.

        It is killed sooner where it had ended by then.
        """
        shutil.rmtree(self.copy.parent, ignore_errors=True)
        shutil.copytree(self.index.directory, self.copy)
        self.done.write_text("")
        arguments = [str(kill_at), self.copy.parent, "tests/search/changes.py", self.copy, self.model, self.done]
        writer = Script("tests/kill_at.py", [*map(str, arguments)])
        if seconds is not None:
            while not self.done.read_text() and writer.running:
                time.sleep(0.001)
            time.sleep(seconds)
            writer.signal(signal.SIGKILL)
        status = writer.wait().returncode
        if seconds is not None and status == 0:
            return self.run(0, seconds=seconds / 2)
        assert status == (-signal.SIGKILL if kill_at or seconds is not None else 0)
        return Path(f"{self.copy.parent}.touches").read_text().splitlines()

    def check(self, where: str) -> int:
        """The copy is whole, and is changed further; how many changes it had."""
        made = max(0, len(self.done.read_text()) - 1)
        index = open_index(self.copy, model=self.index.model)
        assert contents(index) in self.after[made : made + 2], where
        with IndexWriter(self.copy, model=self.index.model) as writer:
            writer.upsert(["a bank lost shares"], ids=[7])
            writer.compact()
        [info] = index.manifest.segments
        assert contents(index)[7] == "a bank lost shares", where
        assert {path.name for path in self.copy.iterdir()} == {info.name, "manifest.json", "writer.lock"}, where
        return made


@pytest.fixture
def series(index: Index, tiny_model: Path) -> Series:
    return Series(index, tiny_model)


def test_changes_are_those_expected_and_a_kill_inside_of_one_leaves_the_index_whole(series):
    touches = series.run(0)
    assert contents(open_index(series.copy, model=series.index.model)) == series.after[-1]
    renamed = f"os.rename {series.copy}/.manifest.json."
    manifests = [i for i, touch in enumerate(touches, 1) if touch.startswith(renamed)]
    assert len(manifests) == NUM_CHANGES
    # Right before the third change becomes visible.
    series.run(manifests[2])
    assert series.check("at a manifest") == 2


def test_kill_at_a_random_time_leaves_the_index_whole(series):
    series.run(0, seconds=0.02)
    series.check("at a random time")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_kills(series):
    """At every touch of the index's files, and the rest at random times."""
    touches = series.run(0)
    for number, touch in enumerate(touches, start=1):
        series.run(number)
        print(f"touch {number}: {touch.replace(str(series.copy), '')}: {series.check(touch)} changes made", flush=True)
    chance = random.Random(0)
    for _ in range(max(10, 200 - len(touches))):
        seconds = chance.uniform(0, 0.08)  # the changes take about 0.08 s
        series.run(0, seconds=seconds)
        print(f"{seconds:.2f} s after the start: {series.check('random')} changes made", flush=True)
