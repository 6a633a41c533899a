"""Preparing corpora from a user's files, right and wrong ones."""

import gzip
import os
import resource
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from smim import storage
from smim.errors import UserError
from smim.text.corpus import Corpus

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SMIM_DATA", ROOT.parent / "shared" / "data"))
LINES = {
    "train": "the cat sat on the mat\nthe cat sat on the log\n",
    "valid": "the dog sat\n",
    "test": "a cat ran\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for split, text in LINES.items():
        (folder / f"ptb.{split}.txt").write_text(text)
    return folder


def build(source: Path, output: Path, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "data_prep/build.py", "corpus=ptb", f"corpus.path={source}", f"output={output}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def test_a_prepared_corpus_opens_with_its_counts_and_text(source, tmp_path):
    assert build(source, tmp_path / "out").returncode == 0
    corpus = Corpus.open(tmp_path / "out")
    train = corpus.split("train")
    assert train.texts() == LINES["train"].splitlines()
    assert corpus.tokenizer.words[4:] == ("the", "cat", "on", "sat")  # seen twice
    assert corpus.card["splits"]["train"]["tokens"] == 12 and corpus.card["splits"]["train"]["length_mean"] == 6
    assert corpus.card["splits"]["train"]["unknown_tokens"] == 2  # mat, log
    assert [len(ids) for ids in train.ids([0, 1])] == train.lengths.tolist() == [6, 6]


def test_the_same_input_gives_the_same_bytes_plain_or_gzipped(source, tmp_path):
    assert build(source, tmp_path / "plain").returncode == 0
    for path in list(source.iterdir()):
        (source / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert build(source, tmp_path / "gzipped").returncode == 0
    for file in ("train/00000.arrow", "tokenizer/tokenizer.json"):
        assert storage.sha256(tmp_path / "plain" / file) == storage.sha256(tmp_path / "gzipped" / file)


def test_datasets_opens_a_shard(source, tmp_path):
    from datasets import Dataset

    assert build(source, tmp_path / "out").returncode == 0
    shard = Dataset.from_file(str(tmp_path / "out" / "train" / "00000.arrow"))
    assert shard["text"][0] == "the cat sat on the mat" and shard["length"][0] == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"fine\n\xff\xfe broken\n", "line 2: not UTF-8"),
        (b"fine\nnul \0 byte\n", "line 2: a NUL byte"),
        (b"", "is empty"),
        (None, "has no ptb.train.txt"),
    ],
)
def test_a_bad_file_is_named_and_the_corpus_that_was_there_stays(source, tmp_path, content, message):
    assert build(source, tmp_path / "out").returncode == 0
    before = storage.sha256(tmp_path / "out" / "corpus.json")
    if content is None:
        (source / "ptb.train.txt").unlink()
    else:
        (source / "ptb.train.txt").write_bytes(content)
    failed = build(source, tmp_path / "out")
    assert failed.returncode == 2 and message in failed.stderr and "Traceback" not in failed.stderr
    assert storage.sha256(tmp_path / "out" / "corpus.json") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_a_full_disk_leaves_the_corpus_that_was_there(source, tmp_path):
    assert build(source, tmp_path / "out").returncode == 0
    before = storage.sha256(tmp_path / "out" / "corpus.json")
    (source / "ptb.train.txt").write_text("a longer sentence than before\n" * 2000)
    full = build(source, tmp_path / "out", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)))
    assert full.returncode == 1 and "exceed the size that is allowed" in full.stderr
    assert "Traceback" not in full.stderr
    assert storage.sha256(tmp_path / "out" / "corpus.json") == before


def test_a_truncated_shard_is_refused(source, tmp_path):
    assert build(source, tmp_path / "out").returncode == 0
    shard = tmp_path / "out" / "train" / "00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"00000\.arrow is truncated"):
        Corpus.open(tmp_path / "out").split("train")


def test_an_unknown_split_names_the_nearest(source, tmp_path):
    assert build(source, tmp_path / "out").returncode == 0
    with pytest.raises(UserError, match="'valid'"):
        Corpus.open(tmp_path / "out").split("validation")


@pytest.mark.skipif(not (DATA / "ptb").is_dir(), reason=f"no Penn Treebank in {DATA} (set SMIM_DATA)")
def test_penn_treebank_has_the_counts_of_the_thesis(tmp_path):
    """Table 7.1: 42068 / 3370 / 3761 sentences, a vocabulary of 9877, 21 ± 10 words."""
    assert build(DATA / "ptb", tmp_path / "ptb").returncode == 0
    corpus = Corpus.open(tmp_path / "ptb")
    splits = corpus.card["splits"]
    assert [splits[name]["sentences"] for name in ("train", "valid", "test")] == [42068, 3370, 3761]
    assert corpus.card["vocabulary_size"] == 9877
    assert [round(splits["train"][name], 1) for name in ("length_mean", "length_std")] == [21.9, 10.6]
    assert [round(splits["test"][name], 1) for name in ("length_mean", "length_std")] == [21.7, 10.7]
    assert len(corpus.split("test")) == 3761


def build_text(path: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "data_prep/build.py", "corpus=text", f"corpus.path={path}", f"output={output}", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_users_own_lines_are_split_by_a_seeded_draw(tmp_path):
    lines = [f"sentence number {i} of mine" for i in range(500)]
    (tmp_path / "mine.txt").write_text("\n\n".join(lines))
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        assert build_text(tmp_path / "mine.txt", tmp_path / name, f"corpus.seed={seed}").returncode == 0
    splits = {
        name: {split: Corpus.open(tmp_path / name).split(split).texts() for split in ("train", "valid", "test")}
        for name in ("first", "again", "other")
    }
    assert splits["first"] == splits["again"] != splits["other"]
    assert sorted(chain.from_iterable(splits["first"].values())) == sorted(lines)
    assert all(10 < len(splits["first"][split]) < 45 for split in ("valid", "test"))


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ("", [], "gives no sentence for 'train'"),
        ("only one line", [], "gives no sentence for"),
        (None, [], "is not there"),
        ("a\nb\n", ["corpus.valid=0.9", "corpus.test=0.2"], "leave a share for train"),
    ],
)
def test_text_that_cannot_be_split_is_refused(tmp_path, lines, options, message):
    if lines is not None:
        (tmp_path / "mine.txt").write_text(lines)
    refused = build_text(tmp_path / "mine.txt", tmp_path / "out", *options)
    assert refused.returncode == 2 and message in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()
