"""Sentences of files of every kind: what is read, what types labels have, and what is refused with its place."""

import bz2
import gzip
import lzma
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from smim.errors import UserError
from smim.generation import SentenceModel
from smim.search.sentences import Columns, read_sentences
from smim.text.fitting import TextsChanged

TABLE = 'id,review,stars,code\n7,a bank,5,007\n3,"her ""brother""\nlost",1,010\n'
TEXTS, LABELS = ["a bank", 'her "brother"\nlost'], {"stars": [5, 1], "code": ["007", "010"]}


def test_a_csv_has_a_column_of_text_ids_and_typed_labels(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    found = read_sentences([tmp_path / "a.csv"], columns=Columns("review"))
    assert (found.texts, found.ids, found.labels) == (TEXTS, [7, 3], LABELS)
    assert found.places == [f"{tmp_path / 'a.csv'}, row 1", f"{tmp_path / 'a.csv'}, row 2"]
    chosen = read_sentences([tmp_path / "a.csv"], columns=Columns("review", id="stars", labels=["code"]))
    assert (chosen.ids, chosen.labels) == ([5, 1], {"code": ["007", "010"]})
    assert read_sentences([tmp_path / "a.csv"], columns=Columns("review", id="", labels=["stars"])).ids is None


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_files_are_those_in_them(tmp_path: Path, suffix: str, pack) -> None:
    (tmp_path / f"a.csv{suffix}").write_bytes(pack(TABLE.encode()))
    assert read_sentences([tmp_path / f"a.csv{suffix}"], columns=Columns("review")).texts == TEXTS
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(b'{"text": "a bank", "stars": 5}\n'))
    found = read_sentences([tmp_path / f"a.jsonl{suffix}"])
    assert (found.texts, found.labels) == (["a bank"], {"stars": [5]})
    (tmp_path / f"a.txt{suffix}").write_bytes(pack(b"a bank\nher brother\n"))
    assert read_sentences([tmp_path / f"a.txt{suffix}"]).texts == ["a bank", "her brother"]


def test_tables_of_arrow_keep_the_types_of_their_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"review": TEXTS, "stars": [5, 1], "code": ["007", "010"], "id": [7, 3]})
    frame.to_parquet(tmp_path / "a.parquet")
    table = pa.Table.from_pandas(frame)
    for name, new in (("file.arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    (tmp_path / "a.tsv").write_text("id\treview\tstars\tcode\n7\ta bank\t5\t007\n")
    for name in ("a.parquet", "file.arrow", "stream.arrow"):
        found = read_sentences([tmp_path / name], columns=Columns("review"))
        assert (found.texts, found.ids, found.labels) == (TEXTS, [7, 3], LABELS)
    found = read_sentences([tmp_path / "a.tsv"], columns=Columns("review"))
    assert (found.texts, found.ids, found.labels) == (["a bank"], [7], {"stars": [5], "code": ["007"]})


def test_json_takes_another_key_as_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"review": "a bank", "stars": 5, "place": "x"}\n{"review": "her brother"}\n')
    found = read_sentences([tmp_path / "a.jsonl"], columns=Columns("review", labels=["stars"]))
    assert (found.texts, found.labels) == (["a bank", "her brother"], {"stars": [5, None]})


def test_rows_without_a_text_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a bank", None, " "], "n": [1, 2, 3]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text,n\na bank,1\n,2\n  ,3\n")
    (tmp_path / "a.jsonl").write_text('{"text": "a bank", "n": 1}\n{"text": null, "n": 2}\n{"text": "", "n": 3}\n')
    for name, word in (("a.parquet", "row"), ("a.csv", "row"), ("a.jsonl", "line")):
        path = tmp_path / name
        with pytest.warns(TextsChanged, match=f"2 of 3 rows have no text .*: {path}, {word} 2, {path}, {word} 3"):
            found = read_sentences([path], empty="skip")
        assert (found.texts, found.labels, found.places) == (["a bank"], {"n": [1]}, [f"{path}, {word} 1"])
        with pytest.raises(UserError, match=f"{path}, {word} 2: there is no text"):
            read_sentences([path])


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("a.csv", "review,stars\na bank,1\n", Columns(), "no column 'text'; its columns: 'review', 'stars'; name the"),
        ("a.csv", "text,stars\na bank,1\n", Columns(labels=["star"]), "no column 'star'"),
        ("a.csv", "text,stars\na bank,1,2\n", Columns(), "line 2: 3 fields, but the first row has 2"),
        ("a.csv", 'text,stars\n"a bank,1\n', Columns(), "line 2: not CSV"),
        (
            "a.csv",
            "text,id\na bank,x1\n",
            Columns(),
            "row 1: an id must be a whole number, not 'x1'; .* --id-column ''",
        ),
        ("a.csv", "text,id\na bank,x1\n", Columns(id=""), "a label cannot be called 'id'"),
        ("a.csv", "text,stars\na bank,1\n", Columns(known=["topic"]), "the index has no column 'stars'"),
        ("a.csv", "text,stars\n", Columns(), "no sentence in it"),
        ("a.csv", "", Columns(), "no column 'text'"),
        ("a.parquet", "text\n", Columns(), "damaged, truncated, or not a .parquet file"),
        ("a.arrow", "text\n", Columns(), "damaged, truncated, or not a .arrow file"),
        ("a.txt.gz", "a bank\n", Columns(), "damaged, truncated, or not a .gz file"),
        ("a.jsonl", '{"text": 3}\n', Columns(), "line 1: 'text' must be text, not 3"),
        ("a.jsonl", '["a bank"]\n', Columns(), "line 1: the line must be an object with a 'text'"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: str, columns: Columns, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_sentences([tmp_path / name], columns=columns)


def test_a_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    pd.DataFrame({"text": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="the column 'text' must hold text, not int64"):
        read_sentences([tmp_path / "a.parquet"])


def test_what_is_said_of_a_sentence_names_its_file_line_and_id(model: SentenceModel, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n7,a bank\n17," + "bank " * 25 + "\n")
    sentences = read_sentences([tmp_path / "a.csv"])
    where = re.escape(f"{tmp_path / 'a.csv'}, row 2, id 17")
    with pytest.warns(TextsChanged, match=f": {where}$"), sentences.placed():
        model.encode(sentences.texts)
    with pytest.raises(UserError, match=f"^{where}: the text .* has 25 tokens"), sentences.placed():
        model.encode(sentences.texts, too_long="error")
