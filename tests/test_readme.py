"""The commands of README.md run as they are written there."""

import csv
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from launch.sentences import SENTENCES
from smim.evaluation.verdict import Verdict
from smim.storage import read_json
from tests.commands import make_command

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
LINES = [shlex.split(line, comments=True) for line in "".join(BLOCKS).splitlines()]
COMMANDS = [words[1:] for words in LINES if words and words[0] == "smim"]
FAST = [words for words in COMMANDS if words[0] in ("doctor", "index", "search")]
# What shortens the other commands.
SHORTER = {
    "adapt": ["--minutes", "0.1"],
    "serve": ["--port", "0"],
    "prepare": ["prep.workers=1"],
    "train": ["train.max_steps=5", "train.trackers=[]"],
    "evaluate": ["eval.max_sentences=40", "eval.num_runs=1", "eval.metrics=[reconstruction]"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the files that the README's commands read."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    reviews = [" ".join(draw.sample(SENTENCES, 4)) for _ in range(500)]
    with open("reviews.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "stars"), *((review, i % 5 + 1) for i, review in enumerate(reviews))])
    Path("mine.txt").write_text("\n".join(reviews) + "\n", encoding="utf-8")
    return tmp_path


def test_what_the_readme_installs_and_makes_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"'\.\[(\w+)\]'", "".join(BLOCKS)))
    targets = {words[1] for words in LINES if words and words[0] == "make"}
    assert named and named <= set(extras)
    assert targets and targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {words[0] for words in LINES if words} == {"pip", "smim", "make"}


def test_a_file_is_indexed_and_searched_by_the_readmes_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smim = make_command(monkeypatch, capsys)
    outcomes = {words[0]: smim(*words) for words in FAST}
    assert list(outcomes) == ["doctor", "index", "search"]
    assert "smim[pipeline]" in outcomes["doctor"].out and outcomes["doctor"].err == ""
    assert outcomes["index"].status == 0 and outcomes["index"].out.startswith("500 sentences in indexes/reviews\n")
    found = outcomes["search"].cells
    assert [row[0] for row in found] == ["1", "2", "3"] and all(row[-1] in "12345" for row in found)
    assert all("pizza" in row[-2] or "waiter" in row[-2] for row in found)
    assert {row[-2] for row in found} <= set(Path("mine.txt").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_longer_commands_of_the_readme_adapt_train_evaluate_and_serve(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", "from smim.cli import main; main()"]
    longer = [words for words in COMMANDS if words not in FAST]
    assert [words[0] for words in longer] == ["adapt", "serve", "prepare", "train", "evaluate"]
    subprocess.run([*program, *FAST[1]], env=environment, check=True, capture_output=True)  # the index to serve
    for words in longer:
        command = [*program, *words, *SHORTER[words[0]]]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        try:
            if words[0] == "serve":
                assert process.stdout is not None
                assert process.stdout.readline().startswith("serving on http://127.0.0.1:")
                process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=400)
        finally:
            process.kill()
        assert process.returncode == 0, (words, errors)
    assert (folder / "models/reviews/model.safetensors").is_file()
    assert (folder / "runs/mine/report/report.html").is_file()
    verdict = Verdict(**read_json(folder / "runs/mine/report/report.json")["verdict"])
    assert verdict.text and verdict.advice
