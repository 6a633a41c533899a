"""Sets of sentences with judgements: what a file's lines say it is, which rows are evaluated, and refusals."""

import gzip
from pathlib import Path

import pytest

from smim.errors import UserError
from smim.evaluation.semantic_sets import describe, read_sets


def write(folder: Path, **files: str) -> Path:
    """Files by name, "__" for "-"; lines of fields with spaces around "|" for tabs."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.replace('__', '-')}.tsv").write_text(text.replace(" | ", "\t"))
    return folder


def read_one(folder: Path, split: str = "dev", **settings):
    [found] = read_sets(folder, split, **settings)
    return found


@pytest.mark.parametrize(
    ("lines", "kind", "texts", "values"),
    [
        ("4.5 | a b | a c\n0 | d | e\n", "similarity", (["a b", "d"], ["a c", "e"]), [4.5, 0]),
        ("3.2 | a | b | NEUTRAL\n1 | c | d | ENTAILMENT\n", "similarity", (["a", "c"], ["b", "d"]), [3.2, 1]),
        ("1 | a | b\n0 | c | d\n", "paraphrases", (["a", "c"], ["b", "d"]), [1, 0]),
        ("a | b\n2 | c\n", "pairs", (["a", "2"], ["b", "c"]), [1, 1]),
        ("7 | 0 | how ? | so\n7 | 1 | how ? | thus\n", "answers", (["how ?"] * 2, ["so", "thus"]), [0, 1]),
    ],
)
def test_the_lines_say_what_a_set_is(tmp_path, lines, kind, texts, values):
    found = read_one(write(tmp_path / "sets", one__dev=lines))
    assert (found.name, found.kind, found.evaluated.texts) == ("one-dev", kind, texts)
    assert found.evaluated.values.tolist() == values


def test_classes_have_train_and_are_chosen_on_dev(tmp_path):
    folder = write(tmp_path / "sets", moods__train="0 | a\n1 | b\n", moods__dev="1 | c\n", moods__test="0 | d\n")
    found = read_one(folder, "test")
    assert found.kind == "classes" and found.evaluated.texts == (["d"],)
    assert found.train and found.dev and found.train.texts == (["a", "b"],) and found.dev.texts == (["c"],)
    assert read_one(folder).evaluated.texts == (["c"],)


def test_dev_is_train_where_there_is_none(tmp_path):
    found = read_one(write(tmp_path / "sets", asked__train="0 | what\n1 | who\n", asked__test="0 | which\n"))
    assert found.evaluated is found.train and found.dev is None
    assert describe([found])[0][:3] == ["asked-dev", "classes", "2 rows, cross-validated"]


def test_a_set_is_read_from_several_places_compressed_and_under_the_usual_names(tmp_path):
    folder = write(tmp_path / "sets", **{"one.validation": "2 | a | b\n3 | a | c\n"})
    with gzip.open(tmp_path / "two_dev.tsv.gz", "wt") as file:
        file.write("1\ta\tb\n0.5\tc\td\n")
    (folder / "notes.txt").write_text("not a table")
    assert [each.name for each in read_sets([str(folder), str(tmp_path / "two_dev.tsv.gz")])] == ["one-dev", "two-dev"]


def test_answers_of_a_question_stay_together_whatever_their_order(tmp_path):
    lines = "2 | 0 | how ? | so\n1 | 1 | who ? | me\n2 | 1 | how ? | thus\n3 | 0 | when ? | now\n1 | 0 | who ? | you\n"
    rows = read_one(write(tmp_path / "sets", qa__test=lines), "test").evaluated
    questions = list(zip(rows.groups.tolist(), rows.texts[0], rows.values, strict=True))
    # The third question has no right answer.
    assert sorted(questions) == [(0, "who ?", 0), (0, "who ?", 1), (1, "how ?", 0), (1, "how ?", 1)]


def test_one_pair_is_taken_of_those_that_share_sentences(tmp_path):
    lines = "a | b\nb | c\nd | e\nf | c\n"
    assert read_one(write(tmp_path / "sets", same__dev=lines)).evaluated.texts == (["a", "d"], ["b", "e"])


def test_pairs_without_a_split_are_halved_once_for_all(tmp_path):
    folder = write(tmp_path / "sets", same="".join(f"say {i} | tell {i}\n" for i in range(40)))
    dev, test = (set(read_one(folder, split).sentences) for split in ("dev", "test"))
    assert not dev & test and len(dev | test) == 80 and 20 < len(dev) < 60
    assert len(read_one(folder, max_pairs=5).evaluated) == 5


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"one__dev": ""}, r"one-dev.tsv is empty"),
        ({"one__dev": "4 | a | b\n5 | c\n"}, r"line 2: 2 fields, but the first line has 3"),
        ({"one__dev": "4 | a | b\n\nx | c | d\n"}, r"line 3: the first field is 'x', but must be a number"),
        ({"one__dev": "4 | a | b\nnan | c | d\n"}, r"line 2: the first field is 'nan', but must be a number"),
        ({"one__dev": "a | b | c\n"}, r"line 1: 3 fields .* by tabs: a score, 2 sentences; "),
        ({"one__test": "4 | a | b\n"}, r"the set 'one' has no dev split, only one-test.tsv; .* called one-dev.tsv"),
        ({"one__dev": "4 | a\n"}, r"the set 'one' has no train"),
        ({"one": "4 | a | b\n"}, r"the set 'one' has no dev"),
        ({"one__dev": "4 | a | b\n", "one.dev": "4 | a | b\n"}, r"are the same set and split"),
        ({"one__dev": "4 | a | b\n", "one__train": "4 | a\n"}, r"one set hold lines of similarity and of classes"),
        ({"one__dev": "1 | 0 | a | b\n"}, r"no question with a right answer"),
    ],
)
def test_what_is_wrong_with_a_set_is_one_message(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        read_sets(write(tmp_path / "sets", **files))


def test_files_that_cannot_be_read_are_one_message(tmp_path):
    with pytest.raises(UserError, match=r"no text file at .*missing"):
        read_sets(tmp_path / "missing")
    (tmp_path / "lines.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"no .tsv or .tsv.gz in "):
        read_sets(tmp_path)
    (tmp_path / "one-dev.tsv.gz").write_bytes(b"not gzip")
    with pytest.raises(UserError, match=r"one-dev.tsv.gz is damaged, truncated, or not a .gz file"):
        read_sets(tmp_path)
    (tmp_path / "one-dev.tsv.gz").write_bytes(gzip.compress(b"4\t\xff\tb\n"))
    with pytest.raises(UserError, match=r"one-dev.tsv.gz has lines that are no text"):
        read_sets(tmp_path)
