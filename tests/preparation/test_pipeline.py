"""Preparation in parallel, after kills, and beside another build: always the same bytes."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from smim import storage
from smim.errors import UserError
from smim.lock import own_place
from smim.text.corpus import Corpus
from tests.preparation.builds import ROOT, build, command, hashes
from tests.ray_elsewhere import RayElsewhere
from tests.scripts import run_script

WORDS = [f"w{i}" for i in range(400)]
# Parts of 4000 bytes: a dozen pieces, so that several workers have something to do.
SMALL = [
    *("corpus=text", "corpus.tokenizer.splitter=whitespace", "corpus.shard_bytes=4000"),
    *("corpus.label_columns=[topic]", "corpus.deduplicate=true"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of JSON lines, some of them repeated, and a compressed one."""
    import gzip
    import json

    draw = random.Random(0)
    folder = tmp_path_factory.mktemp("source")
    lines = [
        json.dumps({"text": " ".join(draw.choices(WORDS, k=draw.randint(1, 20))), "topic": f"t{i % 3}"})
        for i in range(600)
    ]
    lines += lines[:20]
    (folder / "a.jsonl").write_text("\n".join(lines[:300]))
    (folder / "b.jsonl").write_text("\n".join(lines[300:500]) + "\n")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[500:]).encode(), mtime=0))
    return folder


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes that one worker makes of it."""
    output = tmp_path_factory.mktemp("expected") / "out"
    build(output, *SMALL, f"corpus.path={source}", "prep.workers=1")
    assert len(list((output / "train").iterdir())) > 5
    return hashes(output)


@pytest.mark.parametrize("workers", [3])
def test_any_number_of_workers_gives_the_same_bytes(source, expected, tmp_path, workers):
    build(tmp_path / "out", *SMALL, f"corpus.path={source}", f"prep.workers={workers}")
    assert hashes(tmp_path / "out") == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_the_same_bytes(source, expected, tmp_path, workers):
    pytest.importorskip("ray")
    build(tmp_path / "out", *SMALL, f"corpus.path={source}", "prep.engine=ray", f"prep.workers={workers}")
    assert hashes(tmp_path / "out") == expected


def test_workers_in_a_folder_of_their_own_find_relative_paths(source, expected, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setitem(sys.modules, "ray", RayElsewhere(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path / "here")
    build(Path("out"), *SMALL, f"corpus.path={os.path.relpath(source)}", "prep.engine=ray")
    assert hashes(Path("out")) == expected
    assert not any((tmp_path / "elsewhere").iterdir())


def kill_at(touch: int, output: Path, source: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """Builds with one worker, killed right before its N-th touch of a file below the output's folder; never with 0."""
    arguments = [f"output={output}", *SMALL, *overrides, f"corpus.path={source}", "prep.workers=1"]
    return run_script("tests/kill_at.py", [str(touch), str(output.parent), "data_prep/build.py", *arguments])


@pytest.fixture(scope="module")
def touches(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every touch of a build that is left alone, in order."""
    output = tmp_path_factory.mktemp("touches") / "folder" / "out"
    assert kill_at(0, output, source).returncode == 0
    return Path(f"{output.parent}.touches").read_text().splitlines()


def check_going_on(output: Path, source: Path, expected: dict[str, str]) -> None:
    build(output, *SMALL, f"corpus.path={source}", "prep.workers=1")
    assert hashes(output) == expected
    assert [path.name for path in output.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("moment", ["reading", "tokenizer", "encoding", "last"])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(source, expected, touches, tmp_path, moment):
    """Killed while a part, the tokenizer, a shard is written, and before the corpus is put in its place."""
    output = tmp_path / "folder" / "out"
    begun = {
        "reading": "/rows/00007",
        "tokenizer": "/.tokenizer.partial/",
        "encoding": "/result/train/00003.arrow",
        "last": "/.out.work/result",
    }[moment]
    number = 1 + next(i for i in reversed(range(len(touches))) if begun in touches[i].replace("/.0", "/0"))
    killed = kill_at(number, output, source)
    assert killed.returncode == -signal.SIGKILL and not output.exists()
    check_going_on(output, source, expected)


@pytest.mark.parametrize("removed", [0, 3])
def test_a_build_killed_after_the_corpus_is_in_its_place_is_made_anew(source, expected, touches, tmp_path, removed):
    """What a kill right after the renaming leaves, or one when some of the work directory is removed."""
    output = tmp_path / "folder" / "out"
    work = output.parent / ".out.work"
    before = max(i for i, touch in enumerate(touches) if touch.startswith("os.rename ") and touch.endswith("/result"))
    assert kill_at(1 + before, output, source).returncode == -signal.SIGKILL
    (work / "result").rename(output)
    assert hashes(output) == expected
    for path in sorted((work / "rows").glob("*.arrow"))[:removed]:
        path.unlink()
    check_going_on(output, source, expected)


def test_a_disk_that_is_full_at_the_end_loses_nothing(source, expected, tmp_path, monkeypatch):
    output = tmp_path / "folder" / "out"

    sync = storage.sync_directory

    def fail(path: Path) -> None:
        if path.name == "result":
            raise OSError(errno.ENOSPC, "no space left on device")
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "sync_directory", fail)
        with pytest.raises(OSError, match="no space left"):
            build(output, *SMALL, f"corpus.path={source}", "prep.workers=1")
    shards = {path: path.stat().st_ino for path in (output.parent / ".out.work" / "result").rglob("*.arrow")}
    check_going_on(output, source, expected)
    assert shards and {path.stat().st_ino for path in output.rglob("*.arrow")} == set(shards.values())


def test_finished_shards_are_not_written_again(source, expected, touches, tmp_path):
    output = tmp_path / "folder" / "out"
    kill_at(len(touches) // 2, output, source)
    finished = [path.name for path in (output.parent / ".out.work" / "rows").glob("*.json")]
    assert len(finished) > 5
    again = kill_at(0, output, source)  # to its end
    assert again.returncode == 0 and "continuing" in again.stderr
    written = Path(f"{output.parent}.touches").read_text()
    assert "/rows/" in "".join(touches) and not any(f"/rows/.{name}" in written for name in finished)
    assert hashes(output) == expected


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_at_every_touch(source, tmp_path):
    """With fewer and larger parts, so that the series ends within minutes."""
    larger = "corpus.shard_bytes=20000"
    output = tmp_path / "folder" / "out"
    assert kill_at(0, output, source, larger).returncode == 0
    expected = hashes(output)
    touches = Path(f"{output.parent}.touches").read_text().splitlines()
    for number, touch in enumerate(touches, start=1):
        shutil.rmtree(output.parent)
        killed = kill_at(number, output, source, larger)
        assert killed.returncode == -signal.SIGKILL, touch
        in_place = output.exists() and hashes(output) == expected
        assert in_place or not output.exists(), touch
        build(output, *SMALL, larger, f"corpus.path={source}", "prep.workers=1")
        assert hashes(output) == expected, touch
        assert [path.name for path in output.parent.iterdir()] == ["out"], touch
        print(f"touch {number}: {touch.replace(str(tmp_path), '')}; corpus in place: {in_place}; same bytes at the end")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_of_workers_and_parent_at_random_times(source, expected, tmp_path):
    output = tmp_path / "folder" / "out"
    draw = random.Random(0)
    overrides = [*SMALL, f"corpus.path={source}", "prep.workers=3"]
    kills = 0
    for _ in range(10):
        shutil.rmtree(output.parent, ignore_errors=True)
        while True:
            process = subprocess.Popen(command(output, *overrides), cwd=ROOT, stderr=subprocess.DEVNULL)
            try:
                process.wait(timeout=draw.uniform(2.0, 12.0))
                break
            except subprocess.TimeoutExpired:
                parent = psutil.Process(process.pid)
                draw.choice([parent, *parent.children()]).kill()
                kills += 1
                process.wait(timeout=60)
        if process.returncode != 0:
            build(output, *overrides)
        assert hashes(output) == expected
    print(f"10 builds, {kills} kills of parent or worker at random times: always the same bytes")
    assert kills > 3


@pytest.mark.slow
def test_workers_do_not_outlive_their_parent(tmp_path):
    (tmp_path / "big.txt").write_text("some words of a line\n" * 200_000)
    overrides = ["corpus=text", "corpus.shard_bytes=10000", f"corpus.path={tmp_path / 'big.txt'}", "prep.workers=2"]
    process = subprocess.Popen(command(tmp_path / "out", *overrides), cwd=ROOT, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while len(children) < 3 and time.monotonic() < deadline:  # the workers and multiprocessing's tracker
        time.sleep(0.1)
        children = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 120
    while any(_is_running(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(children) == 3 and not any(_is_running(child) for child in children)


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_mistake_that_has_nothing_to_do_with_the_input_leaves_what_a_killed_build_finished(
    source, expected, touches, tmp_path
):
    output = tmp_path / "folder" / "out"
    kill_at(len(touches) // 2, output, source)
    finished = sorted(path.name for path in (output.parent / ".out.work" / "rows").iterdir())
    # There is no Ray, or no cluster at the address.
    with pytest.raises(UserError, match="Ray"):
        build(output, *SMALL, f"corpus.path={source}", "prep.engine=ray", "prep.address=127.0.0.1:1")
    assert sorted(path.name for path in (output.parent / ".out.work" / "rows").iterdir()) == finished
    check_going_on(output, source, expected)


@pytest.mark.parametrize("changed", ["corpus.max_words=5", "corpus.seed=5", "corpus.deduplicate=false", "input"])
def test_changed_options_or_input_start_anew(source, expected, touches, tmp_path, changed):
    output, input = tmp_path / "folder" / "out", shutil.copytree(source, tmp_path / "input")
    assert kill_at(len(touches) // 2, output, input).returncode == -signal.SIGKILL
    options = [*SMALL, f"corpus.path={input}"]
    if changed != "input":
        options = [option for option in options if option.split("=")[0] != changed.split("=")[0]] + [changed]
    else:
        first, rest = (input / "a.jsonl").read_text().split("\n", 1)
        (input / "a.jsonl").write_text(f"{first.replace('t0', 't9')}\n{rest}")
    build(output, *options)
    build(tmp_path / "fresh", *options)
    assert hashes(output) == hashes(tmp_path / "fresh") != expected


def test_a_second_build_of_the_same_output_is_refused(source, tmp_path):
    with own_place(tmp_path / "out"), pytest.raises(UserError, match="being changed by another process"):
        build(tmp_path / "out", *SMALL, f"corpus.path={source}")


def test_a_folder_of_something_else_is_not_replaced(source, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not a prepared corpus"):
        build(tmp_path / "precious", *SMALL, f"corpus.path={source}")
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "years of work"


def test_a_full_disk_leaves_the_old_corpus_and_the_build_goes_on_later(tmp_path):
    import resource

    lines = tmp_path / "lines.txt"
    lines.write_text("a line of some words\n" * 30_000)
    small = ["corpus=text", f"corpus.path={lines}", "corpus.valid=0.3", "corpus.test=0.3"]
    lines.write_text("\n".join(f"line {i} of some words" for i in range(3000)))
    build(tmp_path / "out", *small)
    before = hashes(tmp_path / "out")
    lines.write_text("\n".join(f"line {i} of other words" for i in range(3000)))
    full = subprocess.run(
        command(tmp_path / "out", *small, "prep.workers=1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000)),
    )
    assert full.returncode == 1 and "exceed the size limit" in full.stderr
    assert "the same command continues" in " ".join(full.stderr.split())
    assert "Traceback" not in full.stderr
    assert hashes(tmp_path / "out") == before
    build(tmp_path / "out", *small)
    assert "other" in Corpus.open(tmp_path / "out").tokenizer.words
