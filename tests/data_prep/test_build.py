"""Building corpora from a user's files, right and wrong ones."""

import gzip
import json
import lzma
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import build as build_script
from smim import config, storage
from smim.errors import UserError
from smim.search import build_index, index_texts
from smim.text.corpus import CARD, Corpus
from tests.preparation.builds import build, hashes
from tests.scripts import run_script

SPLITS = ("train", "valid", "test")
BIN = Path(sys.executable).parent
PTB = {
    "train": "the cat sat on the mat\nthe cat sat on the log\n",
    "valid": "the dog sat\n",
    "test": "a cat ran\n",
}


@pytest.fixture
def ptb(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for split, text in PTB.items():
        (folder / f"ptb.{split}.txt").write_text(text)
    return folder


def texts(corpus: Corpus) -> list[str]:
    return list(chain.from_iterable(corpus.split(split).texts() for split in SPLITS))


def test_a_prepared_corpus_opens_with_its_counts_and_text(ptb, tmp_path):
    corpus = build(tmp_path / "out", "corpus=ptb", f"corpus.path={ptb}")
    train = corpus.split("train")
    assert train.texts() == PTB["train"].splitlines()
    assert corpus.tokenizer.words[4:] == ("the", "cat", "on", "sat")  # seen twice
    assert corpus.card["splits"]["train"]["tokens"] == 12 and corpus.card["splits"]["train"]["length_mean"] == 6
    assert corpus.card["splits"]["train"]["unknown_tokens"] == 2  # mat, log
    assert [len(ids) for ids in train.ids([0, 1])] == train.lengths.tolist() == [6, 6]
    assert (tmp_path / "out" / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_input_gives_the_same_shards_plain_or_gzipped(ptb, tmp_path):
    build(tmp_path / "plain", "corpus=ptb", f"corpus.path={ptb}")
    for path in list(ptb.iterdir()):
        (ptb / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    build(tmp_path / "gzipped", "corpus=ptb", f"corpus.path={ptb}")
    plain, gzipped = hashes(tmp_path / "plain"), hashes(tmp_path / "gzipped")
    del plain["corpus.json"], gzipped["corpus.json"]  # it names the files
    assert plain == gzipped


def test_a_build_imports_neither_torch_nor_nltk_before_it_needs_them():
    code = "import sys, data_prep.build; print([name for name in ('torch', 'nltk') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_datasets_opens_a_shard(ptb, tmp_path):
    from datasets import Dataset

    build(tmp_path / "out", "corpus=ptb", f"corpus.path={ptb}")
    shard = Dataset.from_file(str(tmp_path / "out" / "train" / "00000.arrow"))
    assert shard["text"][0] == "the cat sat on the mat" and shard["length"][0] == 6


ROWS = [{"body": f"This is text {i}, of mine", "kind": f"k{i % 3}", "other": "x"} for i in range(40)]


def write_rows(path: Path) -> None:
    lines = {
        ".jsonl": [json.dumps(row) for row in ROWS],
        ".csv": ["body,kind,other", *[f'"{row["body"]}",{row["kind"]},x' for row in ROWS]],
        ".tsv": ["body\tkind\tother", *["\t".join(row.values()) for row in ROWS]],
    }
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=7)
    elif path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write("\n".join(lines[Path(path.stem).suffix]).encode())
    else:
        path.write_text("\n".join(lines[path.suffix]))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.tsv", "rows.parquet", "rows.jsonl.zst"])
def test_each_format_gives_texts_and_labels(tmp_path, name):
    write_rows(tmp_path / name)
    columns = ["corpus.text_column=body", "corpus.label_columns=[kind]"]
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / name}", *columns)
    assert sorted(texts(corpus)) == sorted(row["body"] for row in ROWS)
    labels = {row["body"]: row["kind"] for row in ROWS}
    train = corpus.split("train")
    assert train.labels("kind") == [labels[text] for text in train.texts()]


@pytest.mark.slow
def test_a_dataset_of_the_hub_keeps_its_splits(tmp_path, hub_cache):
    """A local folder stands for the hub: the library loads both in the same way."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, rows in (("train", ROWS[:30]), ("test", ROWS[30:]), ("unsupervised", ROWS)):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = [f"corpus.hub={folder}", "corpus.text_column=body", "corpus.valid=0.3", "prep.workers=2"]
    corpus = build(tmp_path / "out", "corpus=text", *options)
    assert sorted(corpus.split("test").texts()) == sorted(row["body"] for row in ROWS[30:])
    assert len(corpus.split("train")) + len(corpus.split("valid")) == 30
    assert list((tmp_path / "cache").rglob("*.arrow"))


def test_given_splits_stay_and_missing_ones_are_drawn_from_train(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {i}" for i in range(300)))
    (tmp_path / "b.txt").write_text("held out 1\nheld out 2\nline 7")
    paths = [f"corpus.splits.train={tmp_path / 'a.txt'}", f"corpus.splits.test={tmp_path / 'b.txt'}"]
    corpus = build(tmp_path / "out", "corpus=text", *paths)
    assert corpus.split("test").texts() == ["held out 1", "held out 2", "line 7"]
    assert 3 < len(corpus.split("valid")) < 40 and len(corpus.split("train")) + len(corpus.split("valid")) == 300
    assert corpus.card["splits"]["test"]["also_in_train"] == 1


def test_a_users_own_lines_are_split_by_a_seeded_draw(tmp_path):
    lines = [f"sentence number {i} of mine" for i in range(500)]
    (tmp_path / "mine.txt").write_text("\n\n".join(lines))
    found = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        corpus = build(tmp_path / name, "corpus=text", f"corpus.path={tmp_path / 'mine.txt'}", f"corpus.seed={seed}")
        found[name] = {split: corpus.split(split).texts() for split in SPLITS}
    assert found["first"] == found["again"] != found["other"]
    assert sorted(chain.from_iterable(found["first"].values())) == sorted(lines)
    assert all(10 < len(found["first"][split]) < 45 for split in ("valid", "test"))


def test_more_lines_leave_the_split_of_the_others_as_it_was(tmp_path):
    splits = []
    for count in (300, 600):
        (tmp_path / "mine.txt").write_text("\n".join(f"line {i}" for i in range(count)))
        corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'mine.txt'}")
        splits.append({text: split for split in SPLITS for text in corpus.split(split).texts()})
    assert len(splits[1]) == 600 and splits[0].items() <= splits[1].items()


def test_duplicates_go_when_asked_and_are_counted(tmp_path):
    (tmp_path / "mine.txt").write_text("\n".join(f"line {i % 100}" for i in range(250)))
    path = f"corpus.path={tmp_path / 'mine.txt'}"
    assert len(texts(build(tmp_path / "all", "corpus=text", path))) == 250
    corpus = build(tmp_path / "once", "corpus=text", path, "corpus.deduplicate=true")
    assert sorted(texts(corpus)) == sorted(f"line {i}" for i in range(100))
    assert corpus.card["left_out"] == {"duplicate": 150}


def test_sentences_that_differ_at_all_are_no_duplicates(tmp_path):
    alike = ["The bank", "the bank", "the  bank", "the bank.", "th\u00e9 bank", "the\u0301 bank"]
    (tmp_path / "mine.txt").write_text("\n".join(2 * alike + [f"line {i}" for i in range(100)]))
    path = f"corpus.path={tmp_path / 'mine.txt'}"
    corpus = build(tmp_path / "once", "corpus=text", path, "corpus.deduplicate=true")
    assert sorted(text for text in texts(corpus) if "line" not in text) == sorted(alike)
    assert corpus.card["left_out"] == {"duplicate": 6}
    lowered = build(tmp_path / "low", "corpus=text", path, "corpus.deduplicate=true", "corpus.lowercase=true")
    assert texts(lowered).count("the bank") == 1 and lowered.card["left_out"] == {"duplicate": 7}


def test_cleaning_is_told_in_the_card(tmp_path):
    (tmp_path / "mine.txt").write_text("One. Two three! Four\n" * 3 + "\n".join(f"A Line {i}" for i in range(200)))
    options = ["corpus.split_sentences=true", "corpus.lowercase=true", "corpus.min_words=2", "corpus.seed=1"]
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'mine.txt'}", *options)
    assert texts(corpus).count("two three!") == 3 and "a line 7" in texts(corpus)
    assert corpus.card["left_out"] == {"too_short": 6}
    assert corpus.card["source"]["cleaning"]["split_sentences"] is True


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sentencepiece_corpora_decode_to_their_texts(tmp_path, kind):
    lines = [f"Zeile {i}: " + "über große Wörter, «naïve» 日本 " * (i % 3) for i in range(200)]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    options = [f"corpus.tokenizer.kind={kind}", "corpus.tokenizer.size=330"]
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'mine.txt'}", *options)
    assert corpus.card["vocabulary_size"] == 330 and corpus.card["tokenizer"]["kind"] == kind
    for split in map(corpus.split, SPLITS):
        assert [corpus.tokenizer.decode(ids) for ids in split.ids(range(len(split)))] == split.texts()
        assert set(split.texts()) <= {line.strip() for line in lines}


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_a_corpus_takes_a_tokenizer_that_is_there(tmp_path, kind):
    lines = [f"The Cat number {i} sat on mat {i * i}" for i in range(400)]
    (tmp_path / "one.txt").write_text("\n".join(lines))
    (tmp_path / "two.txt").write_text("\n".join(line.replace("Cat", "DOG") for line in lines))
    options = [f"corpus.tokenizer.kind={kind}", "corpus.tokenizer.size=300", "corpus.tokenizer.splitter=tweet"]
    one = build(tmp_path / "one", "corpus=text", f"corpus.path={tmp_path}/one.txt", *options)
    given = f"corpus.tokenizer.dir={tmp_path}/one"  # the directory of what has a tokenizer, such as a model
    whole = ["corpus.valid=0", "corpus.test=0"]
    two = build(tmp_path / "two", "corpus=text", f"corpus.path={tmp_path}/two.txt", given, *whole)
    assert two.tokenizer.hash == one.tokenizer.hash
    assert list(two.card["splits"]) == ["train"]
    split = two.split("train")
    assert len(split) == len(lines)
    assert [ids.tolist() for ids in split.ids(range(len(split)))] == [one.tokenizer.encode(t) for t in split.texts()]
    with pytest.raises(UserError, match=r"nowhere/tokenizer\.json does not exist"):
        build(tmp_path / "three", "corpus=text", f"corpus.path={tmp_path}/two.txt", "corpus.tokenizer.dir=nowhere")


def test_a_vocabulary_has_the_size_that_was_asked_for_at_most(tmp_path):
    (tmp_path / "mine.txt").write_text("\n".join(f"word{i} and" for i in range(300)))
    options = ["corpus.tokenizer.min_count=1", "corpus.tokenizer.max_size=50"]
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'mine.txt'}", *options)
    assert corpus.card["vocabulary_size"] == 50 and corpus.tokenizer.words[4] == "and"


def write_missing(path: Path) -> dict[str, str | None]:
    """Writes forty rows of which some have no `stars` and no `kind`; returns their stars by text."""
    labels = [(i % 12 if i % 3 else None, None if i % 2 else "x") for i in range(40)]
    rows = [{"text": f"a bank {i}", "stars": stars, "kind": kind} for i, (stars, kind) in enumerate(labels)]
    if path.suffix == ".jsonl":
        # Half of them are null, half have no key.
        kept = [{key: value for key, value in row.items() if i > 20 or value is not None} for i, row in enumerate(rows)]
        path.write_text("\n".join(map(json.dumps, kept)))
    elif path.suffix == ".csv":
        cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
        path.write_text("\n".join(map(",".join, [["text", "stars", "kind"], *cells])))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return {str(row["text"]): None if row["stars"] is None else str(row["stars"]) for row in rows}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_a_label_without_a_value_is_null_in_the_corpus(tmp_path, name):
    stars = write_missing(tmp_path / name)
    options = ["corpus.label_columns=[stars,kind]", "corpus.shard_bytes=1000", "corpus.split_sentences=true"]
    options += ["corpus.valid=0.3", "corpus.test=0.3"]
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / name}", *options)
    train = corpus.split("train")
    assert train.labels("stars") == [stars[text] for text in train.texts()]
    assert None in train.labels("stars") and set(train.labels("kind")) == {None, "x"}


def test_files_that_lack_a_label_which_others_have_give_none(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "from json", "stars": 5}\n')
    (folder / "b.csv").write_text("text,other\nfrom csv,1\n")
    (folder / "c.txt").write_text("from lines\n")
    pq.write_table(pa.table({"text": ["from parquet"]}), folder / "d.parquet")
    (folder / "e.ndjson").write_text('{"text": "from ndjson"}\n')
    alone = ["corpus.label_columns=[stars]", "corpus.valid=0", "corpus.test=0", "prep.workers=1"]
    train = build(tmp_path / "out", "corpus=text", f"corpus.path={folder}", *alone).split("train")
    assert dict(zip(train.texts(), train.labels("stars"), strict=True)) == {
        "from json": "5", "from csv": None, "from lines": None, "from parquet": None, "from ndjson": None
    }  # fmt: skip


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_an_index_of_a_corpus_answers_filters_as_one_of_the_file(tmp_path, name, tiny_corpus, tiny_model, model):
    write_missing(tmp_path / name)
    write_missing(tmp_path / "plain.jsonl")
    corpus = build(
        tmp_path / "out",
        *("corpus=text", f"corpus.path={tmp_path / name}", "corpus.label_columns=[stars,kind]"),
        *("corpus.valid=0", "corpus.test=0", f"corpus.tokenizer.dir={tiny_corpus / 'tokenizer'}"),
    )
    rows = [json.loads(line) for line in (tmp_path / "plain.jsonl").read_text().splitlines()]
    labels = {column: [row.get(column) for row in rows] for column in ("stars", "kind")}
    texts = [row["text"] for row in rows]
    of_corpus = build_index(model, corpus, tmp_path / "by_corpus", model_dir=tiny_model)
    of_rows = index_texts(model, texts, tmp_path / "by_rows", model_dir=tiny_model, labels=labels)
    filters = [{"stars": None}, {"stars": {"$ne": None}}, {"stars": {"$gte": 4}}, {"stars": [1, 10]}]
    filters += [{"kind": None}, {"kind": "x"}, {"kind": {"$ne": "x"}}, {"kind": ""}] if name != "rows.csv" else []
    counts = [of_corpus.count(where) for where in filters]
    assert counts == [of_rows.count(where) for where in filters]
    assert counts[0] == 14 and counts[1] == 26


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,star\na,1\n", "no file has a column 'stars' for the label; the columns of .*: 'text', 'star'"),
        ("a.tsv.xz", lzma.compress(b"text\tstar\na\t1\n"), "no file has a column 'stars' for the label"),
        ("a.txt", "a line\n", "no file has a column 'stars' for the label; .* none, because it is plain text"),
        (
            "a.jsonl",
            '{"text": "a", "star": 1}\n',
            "no sentence has a column stars, which corpus.label_columns names",
        ),
    ],
)
def test_a_label_that_no_file_has_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    options = ["corpus.label_columns=[stars]", "corpus.valid=0", "corpus.test=0"]
    with pytest.raises(UserError, match=message):
        build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / name}", *options)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("engine", ["local", "ray"])
@pytest.mark.parametrize("wrong", ["rest", "column", "text", "output", "damaged", "tokenizer"])
def test_no_worker_is_started_for_what_cannot_be_built(tmp_path, monkeypatch, wrong, engine):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"text,stars\na line of {name},1\n" * 50)
    monkeypatch.setattr("smim.engine.ProcessPoolExecutor", None)  # a call of it would be a TypeError
    (tmp_path / "file").write_text("x")
    if wrong == "damaged":
        (tmp_path / "c.parquet").write_text("x")
    options = {
        "rest": ["corpus.valid=1.5"],
        "column": ["corpus.label_columns=[star]"],
        "text": ["corpus.text_column=body"],
        "output": [f"output={tmp_path / 'file' / 'out'}"],
        "damaged": [],
        "tokenizer": ["corpus.tokenizer.dir=nowhere"],
    }[wrong]
    options += ["prep.workers=2"] if engine == "local" else ["prep.engine=ray", "prep.address=127.0.0.1:1"]
    with pytest.raises((UserError, NotADirectoryError)) as error:
        build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path}/*.[cp]*", *options)
    assert "Ray" not in str(error.value)


@pytest.mark.parametrize("option", ["path", "hub"])
def test_a_saved_dataset_keeps_its_splits(tmp_path, option):
    from datasets import Dataset, DatasetDict

    train, test = (Dataset.from_list(rows) for rows in (ROWS[:30], ROWS[30:]))
    DatasetDict(train=train, test=test, extra=test).save_to_disk(str(tmp_path / "saved"))
    options = [f"corpus.{option}={tmp_path / 'saved'}", "corpus.text_column=body", "corpus.valid=0.3"]
    corpus = build(tmp_path / "out", "corpus=text", *options)
    assert sorted(corpus.split("test").texts()) == sorted(row["body"] for row in ROWS[30:])
    assert len(corpus.split("train")) + len(corpus.split("valid")) == 30
    assert corpus.card["notes"] == ["not read: the dataset's splits extra"]
    train.save_to_disk(str(tmp_path / "one"))
    assert len(texts(build(tmp_path / "two", "corpus=text", f"corpus.path={tmp_path / 'one'}", options[1]))) == 30


def test_what_a_folder_holds_is_read_or_named(tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.txt", "B.TXT", "part-00000"):
        (folder / name).write_text(f"a line of {name}\n" * 20)
    names = [f"{number:03d}.pdf" for number in range(120)]
    for name in names:
        (folder / name).write_text("x")
    alone = ["corpus.valid=0", "corpus.test=0"]
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={folder}", *alone)
    assert len(corpus.split("train")) == 60
    assert corpus.card["source"]["not_read"] == {"files": 120, "names": names[:100]}
    assert "not read: 000.pdf, 001.pdf, " in (told := " ".join(capsys.readouterr().err.split()))
    assert "007.pdf and 112 more" in told and "008.pdf" not in told
    again = build(tmp_path / "out", "corpus=text", f"corpus.path={folder}/a.txt", *alone)
    assert "not_read" not in again.card["source"]


def test_files_that_are_named_for_splits_are_drawn_from_together_only_with_a_note(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_bytes(FEW)
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path}/*.txt")
    [note] = corpus.card["notes"]
    assert "file names contain test, train" in note and "corpus.splits.train=FILE" in note


FEW = "\n".join(f"line {i}" for i in range(200)).encode()


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("mine.txt", b"", [], "mine.txt: the input is empty"),
        ("mine.txt", b"\n \n", [], "left out: 2 empty"),
        ("mine.txt", None, [], "no text file at"),
        ("mine.txt", FEW + b"\n\xff\xfe broken\n", [], "line 201: not UTF-8"),
        ("mine.txt", FEW + b"\nnul \0 byte\n", [], "line 201: a NUL byte"),
        ("mine.txt", b"\x7fELF\x02\x01\x01\0\0\0", [], "a NUL byte; is this a text file?"),
        ("mine.txt", b"only one line", [], "has no sentences"),
        ("mine.txt", FEW, ["corpus.valid=0.9", "corpus.test=0.2"], "leave a share for train"),
        ("mine.txt", FEW, ["corpus.valid=-0.1"], "must be at least 0"),
        ("mine.csv", FEW, ["corpus.label_columns=[stars,length]"], "label_columns has length, a name that"),
        ("mine.csv", FEW, ["corpus.label_columns=[stars,key,hash]"], "label_columns has hash, key, a name that"),
        ("mine.txt", FEW, ["corpus.split_sentences=true", "corpus.language=deu"], "corpus.language is 'deu'"),
        ("mine.txt", FEW, ["corpus.min_words=5"], "left out: 200 too_short"),
        ("mine.txt", FEW, ["corpus.on_error=ignore"], "corpus.on_error is 'ignore'"),
        ("mine.txt", FEW, ["corpus.tokenizer.kind=bpe", "corpus.tokenizer.size=9000"], "lower it"),
        ("mine.txt", FEW, ["corpus.tokenizer.kind=bpe", "corpus.tokenizer.size=100"], "need at least"),
        ("mine.txt", FEW, ["corpus.tokenizer.kind=words"], "corpus.tokenizer.kind is 'words'; did you mean 'word'"),
        ("mine.docx", FEW, [], "no reader for files of this name"),
        ("mine.jsonl", b'{"text": "fine"}\n{"text": broken}\n', [], "line 2: not a JSON object"),
        ("mine.jsonl", b'{"body": "fine"}\n', [], "no column 'text'; its columns: 'body'"),
        ("mine.csv", b"text,label\na,b\na,b,c\n", [], "line 3: 3 fields"),
        ("mine.csv", b"text,label\na,b\n", ["corpus.text_column=txt"], "no column 'txt'; its columns: 'text', 'label'"),
        ("mine.parquet", b"not parquet", [], "Parquet"),
        ("mine.txt.gz", gzip.compress(FEW)[:-20], [], "truncated"),
    ],
)
def test_bad_input_is_named_and_the_corpus_that_was_there_stays(tmp_path, name, content, options, message):
    (tmp_path / "good.txt").write_bytes(FEW)
    build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'good.txt'}")
    before = hashes(tmp_path / "out")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / name}", *options)
    assert message in str(raised.value)
    assert hashes(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} <= {"good.txt", "out", name}


def test_a_mistake_in_a_worker_ends_with_one_line_and_status_2(tmp_path):
    (tmp_path / "mine.txt").write_bytes(FEW * 30 + b"\n\xff\n" + FEW)
    options = ["corpus.shard_bytes=2000", "prep.workers=2", f"corpus.path={tmp_path / 'mine.txt'}"]
    refused = run_script("data_prep/build.py", [f"output={tmp_path / 'out'}", "corpus=text", *options])
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "line 5972: not UTF-8" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_bad_lines_are_skipped_and_counted_when_asked(tmp_path):
    (tmp_path / "mine.txt").write_bytes(FEW + b"\n\xff\n\0\nlast")
    corpus = build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'mine.txt'}", "corpus.on_error=skip")
    assert corpus.card["left_out"] == {"NUL byte": 1, "invalid UTF-8": 1}
    assert len(texts(corpus)) == 201


@pytest.mark.parametrize("name", ["../mine", "a/b", "/mine", ".mine", "caf\udce9"], ids=ascii)
def test_a_name_that_is_no_folders_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"corpus\.name is '.*'; give a name without a slash"):
        build_script.main(config.compose("build", ["corpus=demo", f"corpus.name='{name}'"]))
    assert not list(tmp_path.iterdir())


def test_a_seed_that_a_card_cannot_hold_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"corpus\.seed is 1000.*, but it must be at most 9223372036854775807"):
        build(tmp_path / "out", "corpus=demo", f"corpus.seed={10**25}")


def test_bytes_of_a_name_that_are_not_utf_8_are_refused_or_escaped(tmp_path):
    text = tmp_path / "texts" / "one.txt"
    text.parent.mkdir()
    text.write_text("a line of text\n" * 3)
    (tmp_path / "texts" / os.fsdecode(b"caf\xe9.doc")).touch()
    build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'texts'}", "corpus.valid=0", "corpus.test=0")
    assert storage.read_json(tmp_path / "out" / CARD)["source"]["not_read"]["names"] == ["caf\\udce9.doc"]
    text.rename(text.with_name(os.fsdecode(b"caf\xe9.txt")))
    with pytest.raises(UserError, match=r"caf\\udce9\.txt' is not UTF-8; rename this file or its folder"):
        build(tmp_path / "out", "corpus=text", f"corpus.path={tmp_path / 'texts'}")


def test_a_home_that_nobody_has_is_named(tmp_path):
    with pytest.raises(UserError, match="no text file at ~nobody-here/x"):
        build(tmp_path / "out", "corpus=text", "corpus.path='~nobody-here/x'")


def test_a_split_in_which_the_tokenizer_finds_nothing_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(FEW)
    (tmp_path / "b.txt").write_text("&nbsp;\n" * 2)
    paths = [f"corpus.splits.train={tmp_path / 'a.txt'}", f"corpus.splits.valid={tmp_path / 'b.txt'}"]
    with pytest.raises(UserError, match=r"split 'valid' of .* has no sentences: .* no token in any of its 2 sentences"):
        build(tmp_path / "out", "corpus=text", *paths, "corpus.tokenizer.splitter=tweet")


def test_the_same_file_for_two_splits_is_refused(tmp_path):
    for name in ("a.txt", "copy.txt"):
        (tmp_path / name).write_bytes(FEW)
    for other, message in (("a.txt", "for train and for test"), ("copy.txt", "the same content")):
        paths = [f"corpus.splits.train={tmp_path / 'a.txt'}", f"corpus.splits.test={tmp_path / other}"]
        with pytest.raises(UserError, match=message):
            build(tmp_path / "out", "corpus=text", *paths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give the text as exactly one of"),
        (["corpus.path=a.txt", "corpus.hub=b"], "give the text as exactly one of"),
        (["corpus.path=a.txt", "prep.engine=slurm"], "prep.engine is 'slurm'"),
        (["corpus.path=a.txt", "prep.workers=0"], "prep.workers is 0"),
        (["corpus.path=a.txt", "prep.address=localhost:1"], "prep.address works only with prep.engine=ray"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        build(tmp_path / "out", "corpus=text", *options)


def test_a_truncated_shard_is_refused(ptb, tmp_path):
    build(tmp_path / "out", "corpus=ptb", f"corpus.path={ptb}")
    shard = tmp_path / "out" / "train" / "00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"00000\.arrow is truncated"):
        Corpus.open(tmp_path / "out").split("train")


def test_an_unknown_split_names_the_nearest(ptb, tmp_path):
    corpus = build(tmp_path / "out", "corpus=ptb", f"corpus.path={ptb}")
    with pytest.raises(UserError, match="'valid'"):
        corpus.split("validation")


def test_the_table_puts_the_thesis_beside_ours(ptb, tmp_path):
    build(tmp_path / "out", "corpus=ptb", f"corpus.path={ptb}")
    shown = subprocess.run([BIN / "smim", "corpus", "table", str(tmp_path / "out")], capture_output=True, text=True)
    cells = ["ptb", "2 | 42068", "1 | 3370", "1 | 3761", "8 | 9877", "6.0 ± 0.0 | 21 ± 10"]
    assert shown.stdout.rstrip("\n").split("\t") == cells
