"""Readers on real files: every format, cut anywhere, compressed, and broken in each way that users meet."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import pickle
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smim.errors import SmimError, UserError
from smim.preparation.readers import (
    ArrowStream,
    Delimited,
    JsonLines,
    Lines,
    Parquet,
    Piece,
    Reader,
    files_not_read,
    find_files,
    first_line,
    hub_files,
    reader_for,
)
from smim.preparation.readers import chunks as chunks_module

ROWS = [
    {"text": text, "topic": topic}
    for text, topic in [
        ("the cat sat", "pets"),
        ("naïve Übergröße", "é"),
        ("日本語のテキスト", "ja"),
        ("x", ""),
        ("😀 and so on, and so on", "fun"),
        ('a "quoted" word', "quotes"),
    ]
    * 3
]
Writer = Callable[[Path], None]


def write_parquet(path: Path, rows: list[dict[str, Any]] = ROWS, group: int = 4) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)


def write_stream(path: Path, rows: list[dict[str, Any]] = ROWS) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)


def csv_bytes() -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, ["topic", "other", "text"])
    writer.writeheader()
    writer.writerows({**row, "other": "two\nlines, here"} for row in ROWS)
    return out.getvalue().encode()


LINES = "".join(f"{row['text']}\n" for row in ROWS).encode()
JSON = "".join(json.dumps(row, ensure_ascii=i % 2 == 0) + "\n" for i, row in enumerate(ROWS)).encode()
TSV = "".join(f"{a}\t{b}\n" for a, b in [("topic", "text"), *((r["topic"], r["text"]) for r in ROWS)]).encode()
TEXT_FILES: dict[str, bytes] = {"a.txt": LINES, "a.jsonl": JSON, "a.csv": csv_bytes(), "a.tsv": TSV}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data).to_pybytes(),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": partial(lzma.compress, format=lzma.FORMAT_ALONE),
}


def reader(path: Path) -> Reader:
    labels = () if path.name.startswith("a.txt") else ("topic",)
    return reader_for(path, text_column="text", label_columns=labels, header=True)


def expected_rows(name: str) -> list[dict[str, str | None]]:
    """The rows of a file of that name: plain text has no labels, and tables as text no empty ones."""
    if name == "a.txt":
        return [{"text": row["text"]} for row in ROWS]
    return [{**row, "topic": row["topic"] or None} if name in ("a.csv", "a.tsv") else row for row in ROWS]


def read(path: Path, by: Reader, *, piece_bytes: int = 1 << 30, skip_bad: bool = False):
    """All rows of a file, piece by piece, and what was left out."""
    rows: list[dict[str, str]] = []
    left_out = Counter[str]()
    for piece in by.pieces(path, piece_bytes=piece_bytes):
        for block in by.blocks(pickle.loads(pickle.dumps(piece)), skip_bad=skip_bad, left_out=left_out):
            assert block.column_names == ["text", *by.label_columns] and len(block) > 0
            assert all(column.type == pa.string() for column in block.columns)
            block.validate(full=True)
            rows += block.to_pylist()
    return rows, left_out


def blocks_of(by: Reader, piece: Piece) -> list[pa.Table]:
    return list(by.blocks(piece, skip_bad=False, left_out=Counter()))


def texts(path: Path, by: Reader, **options) -> list[str]:
    return [row["text"] for row in read(path, by, **options)[0]]


def refused(path: Path, by: Reader) -> str:
    with pytest.raises(UserError) as error:
        read(path, by)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


# --- every format, whole and in pieces ---


@pytest.mark.parametrize("piece_bytes", [1, 10, 100, 1000, 1 << 30])
@pytest.mark.parametrize("name", [*TEXT_FILES, "a.parquet", "a.arrow"])
def test_the_pieces_of_a_file_joined_are_its_rows(tmp_path, name, piece_bytes):
    path = tmp_path / name
    if name in TEXT_FILES:
        path.write_bytes(TEXT_FILES[name])
    else:
        (write_parquet if name == "a.parquet" else write_stream)(path)
    rows, problems = read(path, reader(path), piece_bytes=piece_bytes)
    assert rows == expected_rows(name)
    assert problems == {}
    pieces = reader(path).pieces(path, piece_bytes=piece_bytes)
    if piece_bytes != 1000:
        assert (len(pieces) > 1) == (piece_bytes <= 100 and name not in ("a.csv", "a.arrow"))


def test_arrow_in_the_file_format_gives_the_rows_of_the_stream(tmp_path):
    table, path = pa.Table.from_pylist(ROWS), tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as written:
        written.write_table(table, max_chunksize=4)
    assert read(path, reader(path)) == (ROWS, {})
    path.write_bytes(path.read_bytes()[:-9])
    assert "damaged, truncated" in refused(path, reader(path))


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", TEXT_FILES)
def test_compressed_files_give_the_same_rows_also_of_several_members(tmp_path, name, packing):
    plain, packed = tmp_path / name, tmp_path / f"{name}{packing}"
    plain.write_bytes(TEXT_FILES[name])
    half = len(TEXT_FILES[name]) // 2
    packed.write_bytes(b"".join(PACKERS[packing](part) for part in (TEXT_FILES[name][:half], TEXT_FILES[name][half:])))
    assert read(packed, reader(packed), piece_bytes=10) == read(plain, reader(plain))


@pytest.mark.parametrize("packing", PACKERS)
def test_a_truncated_or_mislabelled_compressed_file_is_an_error(tmp_path, packing):
    data = "".join(f"{i * 7919 % 100_003} lines\n" for i in range(20_000)).encode()
    whole, path = PACKERS[packing](data), tmp_path / f"a.txt{packing}"
    for content in (whole[: len(whole) // 2], whole[:-2], whole + whole[:50], b"this is not packed at all\n" * 9):
        path.write_bytes(content)
        assert "damaged, truncated" in refused(path, Lines())


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\n\r\ufeff"), max_size=90
    ),
    st.integers(1, 40),
    st.integers(1, 30),
)
def test_lines_over_all_pieces_are_the_lines_stripped_and_not_empty(text, piece_bytes, block_bytes):
    data = text.encode()
    whole = chunks_module.BLOCK_BYTES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.txt")
        path.write_bytes(data)
        try:
            chunks_module.BLOCK_BYTES = block_bytes
            found = texts(path, Lines(), piece_bytes=piece_bytes)
        finally:
            chunks_module.BLOCK_BYTES = whole
    expected = [line.lstrip("\ufeff").strip() for line in io.StringIO(text, newline=None)]
    assert found == [line for line in expected if line]


def test_blocks_hold_about_a_megabyte_of_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"some words in a line\n" * 800_000)
    sizes = [block.nbytes for block in Lines().blocks(Piece(tmp_path / "a.txt"), skip_bad=False, left_out=Counter())]
    assert 14 <= len(sizes) <= 18 and max(sizes) < 2_000_000


# --- text that is not as it should be ---


@pytest.mark.parametrize(
    "content",
    [
        *(b"a b\r\nc\r\n", b"a b\nc", b"a b\rc\r", b"a b\rc", b"a b\r\rc\r\n", b" a b\x0b\n\xc2\xa0c\n"),
        *(b"\xef\xbb\xbfa b\n\n \t \nc\n\n", b"\xef\xbb\xbfa b\n\xef\xbb\xbfc\n\xef\xbb\xbf"),
    ],
)
def test_line_ends_bom_and_surrounding_space_are_no_part_of_a_text(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert texts(tmp_path / "a.txt", Lines()) == texts(tmp_path / "a.txt", Lines(), piece_bytes=3) == ["a b", "c"]


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("name", TEXT_FILES)
def test_files_with_the_line_ends_of_old_macs_have_the_rows_of_others(tmp_path, name, packing, piece_bytes):
    plain, mac = tmp_path / name, tmp_path / f"mac-{name}{packing}"
    plain.write_bytes(TEXT_FILES[name].replace(b"\r\n", b"\n"))
    mac.write_bytes(PACKERS.get(packing, bytes)(plain.read_bytes().replace(b"\n", b"\r")))
    assert read(mac, reader(plain), piece_bytes=piece_bytes) == read(plain, reader(plain))


def test_lines_are_numbered_by_every_kind_of_line_end(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\rtwo\r\nthree\n\xff\r")
    assert "line 4: not UTF-8" in refused(tmp_path / "a.txt", Lines())


@pytest.mark.parametrize("name", TEXT_FILES)
def test_the_marks_of_files_that_were_joined_are_no_text(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + b"\n\xef\xbb\xbf".join(TEXT_FILES[name].split(b"\n")))
    assert read(tmp_path / name, reader(tmp_path / name))[0] == expected_rows(name)


def test_empty_texts_are_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\n\n  \nb\n")
    assert read(tmp_path / "a.txt", Lines(), piece_bytes=2)[1] == {"empty": 2}
    (tmp_path / "a.jsonl").write_text('{"text": " "}\n\n{"text": "a"}\n   \n')
    assert read(tmp_path / "a.jsonl", JsonLines("text"))[1] == {"empty": 1}


@pytest.mark.parametrize("name", [*TEXT_FILES, "a.txt.gz"])
def test_an_empty_file_has_no_rows(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    assert read(tmp_path / name, reader(tmp_path / name)) == ([], {})


@pytest.mark.parametrize("piece_bytes", [4, 25, 1000])
@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (b"caf\xe9 au lait", "invalid UTF-8", "line 4: not UTF-8 (invalid continuation byte at byte 4 of the line)"),
        (b"\xe6\x97", "invalid UTF-8", "line 4: not UTF-8 (unexpected end of data at byte 1 of the line)"),
        (b"nul \0 byte", "NUL byte", "line 4: a NUL byte"),
    ],
)
def test_a_bad_line_is_named_or_left_out_and_counted(tmp_path, bad, kind, message, piece_bytes):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntwo words\n" + bad + b"\nthree\n")
    with pytest.raises(UserError) as error:
        read(path, Lines(), piece_bytes=piece_bytes)
    assert f"{path}, {message}" in str(error.value) and "corpus.on_error=skip" in str(error.value)
    rows, problems = read(path, Lines(), piece_bytes=piece_bytes, skip_bad=True)
    assert [row["text"] for row in rows] == ["one", "two words", "three"]
    assert problems == {kind: 1, "empty": 1}


def test_lines_of_compressed_files_are_numbered_too(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"fine\n" * 2_000_000 + b"\xff\n"))
    assert "line 2000001: not UTF-8" in refused(path, Lines())


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100)
    assert "line 1: not UTF-8" in refused(tmp_path / "a.txt", Lines())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_utf16_is_refused_with_the_command_that_converts_it(tmp_path, encoding):
    text = "hello\nworld\n" if encoding in ("utf-16", "utf-32") else "\ufeffhello\nworld\n"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert "iconv -f utf-16" in refused(tmp_path / "a.txt", Lines())


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_of_100_megabytes_is_refused_or_skipped_without_being_held(tmp_path, packed):
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")
    with gzip.open(path, "wb", 1) if packed else open(path, "wb") as file:
        file.write(b"before\n")
        for _ in range(100):
            file.write(b"0123456789" * 100_000)
        file.write(b"\nafter\n")
    tracemalloc.start()
    try:
        assert "line 2: longer than 10 MB; is this text with line ends?" in refused(path, Lines())
        for piece_bytes in (1 << 30, 9_000_000):
            assert read(path, Lines(), piece_bytes=piece_bytes, skip_bad=True) == (
                [{"text": "before"}, {"text": "after"}],
                {"line too long": 1},
            )
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", [b"", b"\n", b"\nafter\n"])
@pytest.mark.parametrize("before", [b"", b"before\n"])
def test_the_longest_line_is_ten_million_bytes_wherever_the_file_is_cut(tmp_path, before, end):
    path = tmp_path / "a.txt"
    for length in (10_000_000, 10_000_001):
        path.write_bytes(before + b"x" * length + end)
        results = [read(path, Lines(), piece_bytes=size, skip_bad=True) for size in (1 << 30, 3_000_000)]
        assert results[0] == results[1]
        assert results[0][1] == ({} if length == 10_000_000 else {"line too long": 1})
        assert len(results[0][0]) == bool(before) + (length == 10_000_000) + (b"after" in end)


def test_the_longest_line_may_begin_on_the_last_byte_of_a_piece(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"before\n" + b"x" * 10_000_000 + b"\nafter\n")
    lengths = [
        [
            len(text)
            for block in Lines().blocks(piece, skip_bad=False, left_out=Counter())
            for text in block["text"].to_pylist()
        ]
        for piece in (Piece(path, 0, 8), Piece(path, 8, 9), Piece(path, 9))
    ]
    assert lengths == [[6, 10_000_000], [], [5]]


# --- formats with columns ---


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ('{"text": "a",', "malformed", "line 3: not a JSON object (Expecting property name"),
        ("plain text", "malformed", "line 3: not a JSON object (Expecting value at character 1)"),
        ('["a"]', "malformed", "line 3: a JSON list, but each line must be an object"),
        ("[" * 100_000, "malformed", "line 3: not a JSON object that can be read"),
        ('{"text": 7, "topic": ""}', "malformed", "line 3: column 'text' is a number"),
        ('{"text": "a", "topic": ["b"]}', "malformed", "line 3: column 'topic' is a list"),
        ('{"text": null, "topic": ""}', "missing text", "line 3: the text is missing"),
        ('{"body": "a", "topic": ""}', "missing column", "line 3: no column 'text'; its columns: 'body', 'topic'"),
        ('{"text": "a\\u0000b", "topic": ""}', "NUL byte", "line 3: a NUL byte"),
        ('{"text": "a\\ud800b", "topic": ""}', "invalid UTF-8", "line 3: half of a surrogate pair at character 2"),
        ('{"text": "a", "topic": "\\udc00"}', "invalid UTF-8", "line 3: half of a surrogate pair"),
    ],
)
def test_a_bad_json_line_is_named_or_left_out_and_counted(tmp_path, line, kind, message):
    path, by = tmp_path / "a.jsonl", JsonLines("text", ("topic",))
    good = '{"text": "good", "topic": "x"}\n'
    path.write_text(f"{good}\n{line}\n{good}")
    assert f"{path}, {message}" in refused(path, by)
    rows, problems = read(path, by, skip_bad=True, piece_bytes=20)
    assert rows == [{"text": "good", "topic": "x"}] * 2 and problems == {kind: 1}


def test_labels_become_strings(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "a": 1, "b": 0.5, "c": true, "d": null, "text": " b \\ud83d\\ude00"}\n')
    labels = ("a", "b", "c", "d")
    expected = [{"text": "b 😀", "a": "1", "b": "0.5", "c": "true", "d": None}]
    assert read(path, JsonLines("text", labels))[0] == expected
    write_parquet(tmp_path / "a.parquet", [{"text": "b 😀", "a": 1, "b": 0.5, "c": True, "d": None}])
    assert read(tmp_path / "a.parquet", Parquet("text", labels))[0] == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.arrow"])
def test_a_label_without_a_value_is_null_and_one_that_no_row_has_is_no_column(tmp_path, name):
    path, rows = tmp_path / name, [{"text": "a", "n": None, "s": None}, {"text": "b", "n": 5, "s": "five"}]
    if name == "a.jsonl":
        path.write_text('{"text": "a", "n": null}\n' + json.dumps(rows[1]))
    elif name in TEXT_FILES:
        path.write_text("text,n,s\na,,\nb,5,five\n".replace(",", "," if name == "a.csv" else "\t"))
    else:
        (write_parquet if name == "a.parquet" else write_stream)(path, rows)
    by = reader_for(path, text_column="text", label_columns=("s", "other", "n"), header=True)
    blocks = [block for piece in by.pieces(path, piece_bytes=1 << 30) for block in blocks_of(by, piece)]
    assert [row for block in blocks for row in block.to_pylist()] == [
        {"text": "a", "s": None, "n": None}, {"text": "b", "s": "five", "n": "5"}
    ]  # fmt: skip


def test_a_number_that_is_none_is_null_and_an_infinite_one_is_refused(tmp_path):
    values = [float("nan"), None, 1.0, 0.1, 1e-5, 1e300, float("inf"), 2.0]
    rows = [{"text": str(number), "n": value} for number, value in enumerate(values)]
    written = [None, None, "1", "0.1", "1e-05", "1e+300", "2"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_parquet(tmp_path / "a.parquet", rows)
    write_stream(tmp_path / "a.arrow", rows)
    for name, place in (("a.jsonl", "line 7"), ("a.parquet", "row 7"), ("a.arrow", "row 7")):
        by = reader_for(tmp_path / name, text_column="text", label_columns=("n",), header=True)
        assert f"{place}: a label is an infinite number" in refused(tmp_path / name, by)
        found, problems = read(tmp_path / name, by, skip_bad=True)
        assert problems == {"infinite label": 1}
        assert [row["n"] for row in found] == [
            text if name != "a.jsonl" or text not in ("1", "2") else f"{text}.0" for text in written
        ]


@pytest.mark.parametrize(
    ("labels", "written"),
    [
        *[(pa.array([0.5, None], type), "0.5") for type in (pa.float16(), pa.float32(), pa.float64())],
        (pa.array([0.1, None], pa.float32()), "0.1"),
        (pa.nulls(2), None),
        (pa.array(["a", None]).dictionary_encode(), "a"),
        (pa.array([0.5, None]).dictionary_encode(), "0.5"),
        (pa.array([True, None]), "true"),
    ],
)
def test_labels_of_any_type_keep_their_nulls(tmp_path, labels, written):
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file,
        pa.ipc.new_stream(file, pa.schema([("text", pa.string()), ("n", labels.type)])) as stream,
    ):
        stream.write_table(pa.table({"text": ["a", "b"], "n": labels}))
    found = read(tmp_path / "a.arrow", ArrowStream("text", ("n",)))[0]
    assert [row["n"] for row in found] == [written, None]


def test_csv_knows_quotes_and_line_ends_within_them(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbflabel,text\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,plain "x"\r\n')
    rows = read(tmp_path / "a.csv", Delimited("text", ("label",), delimiter=","))[0]
    assert rows == [{"text": 'two\r\nlines, "quoted"', "label": "1"}, {"text": 'plain "x"', "label": "2"}]


def test_tsv_takes_quotes_as_they_are(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b'1\tan "open quote\r\n\r\n2\t"b"\r\n')
    rows, problems = read(tmp_path / "a.tsv", Delimited("1", ("0",), delimiter="\t", header=False), piece_bytes=4)
    assert rows == [{"text": 'an "open quote', "0": "1"}, {"text": '"b"', "0": "2"}] and problems == {}


@pytest.mark.parametrize(
    ("name", "row", "kind", "message"),
    [
        ("a.csv", b'y,"a"b', "malformed", "line 4: not CSV (',' expected after '\"')"),
        ("a.csv", b"y,a,b", "malformed", "line 4: 3 fields, but the first row has 2"),
        ("a.csv", b"y", "malformed", "line 4: 1 fields, but the first row has 2"),
        ("a.csv", b'y,"one\ntwo \xff"', "invalid UTF-8", "line 4: not UTF-8"),
        ("a.csv", b'y,"one\n\0"', "NUL byte", "line 4: a NUL byte"),
        ("a.tsv", b"y\ta\tb", "malformed", "line 3: 3 fields, but the first row has 2"),
        ("a.tsv", b"y\t\xff", "invalid UTF-8", "line 3: not UTF-8"),
        ("a.tsv", b"y\t\0", "NUL byte", "line 3: a NUL byte"),
    ],
)
def test_a_bad_row_is_named_or_left_out_and_counted(tmp_path, name, row, kind, message):
    path, by = tmp_path / name, reader(tmp_path / name)
    first = b'x,"o\nne"' if name == "a.csv" else b"x\to ne"
    path.write_bytes((b"topic,text\n" if name == "a.csv" else b"topic\ttext\n") + first + b"\n" + row + b"\n" + first)
    assert f"{path}, {message}" in refused(path, by)
    rows, problems = read(path, by, skip_bad=True, piece_bytes=5)
    assert [row["topic"] for row in rows] == ["x", "x"] and problems == {kind: 1}


def test_an_open_quote_is_named_with_the_line_it_begins_on(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'topic,text\nx,fine\ny,"open\n' + b"z,rest of the file\n" * 800_000)
    assert "line 3: not CSV (field larger than field limit" in refused(path, reader(path))
    path.write_bytes(b'topic,text\nx,fine\ny,"open\nz,rest\n')
    assert "line 3: not CSV (unexpected end of data)" in refused(path, reader(path))


@pytest.mark.parametrize(
    ("closing", "malformed"),
    [
        (b'"closing" text,1\n', 2),
        (b'"two\nlines",1\n', 1),  # the quote that ends the bad record begins a good one
        (b"\xff\n", 1),
        (b"", 1),
    ],
)
def test_an_open_quote_loses_its_own_line_only(tmp_path, closing, malformed):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,n\n"abc,1\n' + b"good one,1\n" * 1000 + closing + b"good two,1\n" * 10)
    rows, problems = read(path, Delimited("text", ("n",), delimiter=","), skip_bad=True)
    others = [{"text": "two\nlines", "n": "1"}] if b"two" in closing else []
    assert rows == [{"text": "good one", "n": "1"}] * 1000 + others + [{"text": "good two", "n": "1"}] * 10
    bad_bytes = {"invalid UTF-8": 1} if closing == b"\xff\n" else {}
    assert problems == {"malformed": malformed} | bad_bytes
    path.write_bytes(b"text,n\n" + b'"abc,1\n' * 20_000)
    assert read(path, Delimited("text", ("n",), delimiter=","), skip_bad=True) == ([], {"malformed": 20_000})


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet", "a.arrow"])
def test_the_text_has_to_be_there_and_the_columns_are_listed_where_it_is_not(tmp_path, name):
    path = tmp_path / name
    if name in TEXT_FILES:
        path.write_bytes(TEXT_FILES[name])
    else:
        (write_parquet if name == "a.parquet" else write_stream)(path)
    message = refused(path, reader_for(path, text_column="body", label_columns=(), header=True))
    assert "no column 'body'; its columns: " in message
    assert "'text'" in message and "'topic'" in message


def test_a_column_name_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "a.tsv").write_text("text\ttext\na\tb\n")
    assert "more than one column 'text'" in refused(tmp_path / "a.tsv", Delimited("text", delimiter="\t"))


def test_columns_that_cannot_stand_together_are_refused_together():
    with pytest.raises(UserError, match="'a' is given twice; 'body' is the column of the text, so"):
        JsonLines("body", ("a", "a", "body"))
    with pytest.raises(UserError, match="a label cannot be called 'text'"):
        Parquet("body", ("text",))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (None, "missing text", "row 6: the text is missing"),
        (b"nul \0", "NUL byte", "row 6: a NUL byte"),
        (b"\xff", "invalid UTF-8", "row 6: not UTF-8"),
        (b"x" * 10_000_001, "line too long", "row 6: longer than 10 MB"),
    ],
)
@pytest.mark.parametrize("claims_to_be_text", [False, True])
def test_a_bad_row_of_a_table_is_named_or_left_out(tmp_path, name, value, kind, message, claims_to_be_text):
    values = pa.array([b"a", b"b", b"c", b"d", b"e", value, b"g"], pa.binary())
    if claims_to_be_text:
        values = pa.StringArray.from_buffers(len(values), values.buffers()[1], values.buffers()[2], values.buffers()[0])
    table, path = pa.table({"text": values, "n": range(7)}), tmp_path / name
    if name == "a.parquet":
        pq.write_table(table, path, row_group_size=4)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=3)
    by = reader_for(path, text_column="text", label_columns=("n",), header=True)
    assert message in refused(path, by)
    with pytest.raises(UserError, match=message):
        read(path, by, piece_bytes=1)
    rows, problems = read(path, by, skip_bad=True, piece_bytes=1)
    assert [row["n"] for row in rows] == ["0", "1", "2", "3", "4", "6"] and problems == {kind: 1}


def test_rows_are_numbered_over_large_batches(tmp_path):
    large = [{"text": letter * 3_000_000} for letter in "abcde"] + [{"text": "nul \0"}]
    for write, name in ((write_parquet, "a.parquet"), (write_stream, "a.arrow")):
        write(tmp_path / name, large)
        assert "row 6: a NUL byte" in refused(tmp_path / name, reader_for(
            tmp_path / name, text_column="text", label_columns=(), header=True
        ))  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([b"a", b"b"], pa.large_binary()),
    ],
)
def test_tables_may_write_text_in_any_of_arrows_ways(tmp_path, values):
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", Parquet("text")) == ["a", "b"]


def test_a_column_of_lists_is_no_text(tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"text": ["a"]}])
    assert "column 'text' has type list<" in refused(tmp_path / "a.parquet", Parquet("text"))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_broken_table_is_an_error(tmp_path, name):
    path = tmp_path / name
    (write_parquet if name == "a.parquet" else write_stream)(path, [{"text": f"{i} words"} for i in range(9)])
    whole = path.read_bytes()
    by = reader_for(path, text_column="text", label_columns=(), header=True)
    for content in (whole[: len(whole) // 2], b"", b"no table at all\n" * 50):
        path.write_bytes(content)
        assert "damaged, truncated" in refused(path, by)


# --- finding files ---


def test_files_are_found_by_path_pattern_and_folder_once_and_sorted(tmp_path):
    for name in ("b.txt", "a.jsonl.gz", "sub/c.csv", "sub/deep/d.parquet", ".hidden.txt", ".git/x.txt", "notes.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("loop", "loop-too"):  # two of them: without care, the ways through double at every level
        (tmp_path / "sub" / name).symlink_to(tmp_path)
    everything = [tmp_path / name for name in ("a.jsonl.gz", "b.txt", "sub/c.csv", "sub/deep/d.parquet")]
    assert find_files([str(tmp_path)]) == everything
    for name in ("loop", "loop-too"):
        (tmp_path / "sub" / name).unlink()
    assert find_files([str(tmp_path / "b.txt"), str(tmp_path)])[0] == tmp_path / "b.txt"
    assert len(find_files([str(tmp_path), f"{tmp_path}/**/*.csv", f"{tmp_path}/sub/../b.txt"])) == 4
    assert find_files([f"{tmp_path}/**/*.[pc]*"]) == [
        tmp_path / "notes.pdf", tmp_path / "sub" / "c.csv", tmp_path / "sub" / "deep" / "d.parquet"
    ]  # fmt: skip
    assert tmp_path / "notes.pdf" in find_files([str(tmp_path)], also=(".pdf",))
    (tmp_path / "odd[1].txt").write_text("x")
    assert find_files([f"{tmp_path}/odd[1].txt"]) == [tmp_path / "odd[1].txt"]


def test_where_nothing_is_found_the_error_says_what_is_there(tmp_path):
    with pytest.raises(UserError, match=f"no text file at {tmp_path}: {tmp_path} holds nothing"):
        find_files([str(tmp_path)])
    (tmp_path / "notes.pdf").write_text("x")
    (tmp_path / "sub").mkdir()
    for given_path in ("", "*.txt", "missing.txt", "no/such/folder"):
        with pytest.raises(UserError, match=r"holds notes\.pdf, sub/"):
            find_files([str(tmp_path / given_path)])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[("A.TXT", Lines), ("a.Jsonl", JsonLines), ("a.ndjson", JsonLines), ("a.CSV.GZ", Delimited)],
        *[("a.txt.xz", Lines), ("a.TSV.Lzma", Delimited), ("a.PARQUET", Parquet), ("a.ARROW", ArrowStream)],
        *[("part-00000", Lines), ("part-00000.gz", Lines), ("lines", Lines)],
    ],
)
def test_a_reader_is_chosen_by_the_suffix_in_any_case_and_without_one_it_reads_lines(name, kind):
    assert type(reader_for(Path(name), text_column="text", label_columns=(), header=True)) is kind


def test_packed_files_are_unpacked_whatever_the_case_of_their_suffix(tmp_path):
    (tmp_path / "A.TXT.GZ").write_bytes(gzip.compress(LINES))
    assert texts(tmp_path / "A.TXT.GZ", Lines(), piece_bytes=5) == [row["text"] for row in ROWS]


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path):
    names = ["B.TXT", "c.NDJSON", "d.txt.xz", "part-00000", "sub/part-00001.gz"]
    others = ["LICENSE", "_SUCCESS", "notes.pdf", "sub/e.parquet.gz"]
    for name in [*names, *others, ".hidden", ".git/x"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_files([str(tmp_path)])
    assert found == [tmp_path / name for name in names]
    assert files_not_read([str(tmp_path)], found) == others
    assert files_not_read([f"{tmp_path}/*.TXT", str(tmp_path / "B.TXT")], found) == []


def test_a_file_that_no_reader_knows_lists_the_suffixes():
    for name in ("a.pdf", "a.parquet.gz", "a.docx.xz"):
        with pytest.raises(UserError, match=r"\.txt, \.tokens, \.jsonl, \.ndjson, \.json, \.csv, .*\.gz.*\.parquet"):
            reader_for(Path(name), text_column="text", label_columns=(), header=True)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.csv", "a.parquet", "a.arrow"])
def test_a_missing_file_and_a_folder_are_errors(tmp_path, name):
    by = reader_for(Path(name), text_column="text", label_columns=(), header=True)
    assert "does not exist" in refused(tmp_path / name, by)
    (tmp_path / name).mkdir()
    message = refused(tmp_path / name, by)
    assert "is a folder" in message
    with pytest.raises(UserError):
        list(by.blocks(Piece(tmp_path / name), skip_bad=True, left_out=Counter()))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    assert "permission denied" in refused(tmp_path / "a.txt", Lines())


def test_the_first_line_is_decoded_and_without_its_end(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfna\xc3\xafve\tx\r\nrest\xff\n")
    assert first_line(tmp_path / "a.txt") == "naïve\tx"
    (tmp_path / "a.txt").write_bytes(b"")
    assert first_line(tmp_path / "a.txt") == ""


# --- the hub, by way of a local folder ---


def test_a_dataset_becomes_arrow_files_of_each_split(tmp_path, hub_cache, capfd):
    folder = tmp_path / "reviews"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps({"text": f"a {split}\ntext ", "stars": 4}) + "\n")
    files = hub_files(str(folder), None)
    assert list(files) == ["train", "valid", "test"]
    by = ArrowStream("text", ("stars",))
    assert read(files["valid"][0], by)[0] == [{"text": "a validation\ntext", "stars": "4"}]
    assert capfd.readouterr() == ("", "")


def save(folder: Path, **splits: list[str]) -> None:
    from datasets import Dataset, DatasetDict

    parts = {name: Dataset.from_dict({"text": rows}) for name, rows in splits.items()}
    (parts["all"] if "all" in parts else DatasetDict(parts)).save_to_disk(str(folder))


def test_saved_datasets_keep_their_splits_and_what_was_saved_before_is_not_read(tmp_path, capfd):
    save(tmp_path / "some", train=["a", "b"], validation=["c"], extra=["d"])
    files = hub_files(str(tmp_path / "some"), None)
    assert {split: texts(path, ArrowStream("text")) for split, [path] in files.items()} == {
        "train": ["a", "b"], "valid": ["c"], "extra": ["d"]
    }  # fmt: skip
    save(tmp_path / "one", all=["a", "b"])
    stale = tmp_path / "one" / "data-00000-of-00009.arrow"
    stale.write_bytes(files["extra"][0].read_bytes())
    assert hub_files(str(tmp_path / "one"), None) == {"all": [tmp_path / "one" / "data-00000-of-00001.arrow"]}
    assert find_files([str(tmp_path / "one")]) == hub_files(str(tmp_path / "one"), None)["all"]
    assert files_not_read([str(tmp_path / "one")], find_files([str(tmp_path / "one")])) == [stale.name]


def test_a_saved_dataset_among_other_files_is_refused_with_advice(tmp_path):
    save(tmp_path / "some", train=["a"], test=["b"])
    with pytest.raises(UserError, match=f"give it by itself, as corpus.path={tmp_path / 'some'}"):
        find_files([str(tmp_path)])
    with pytest.raises(UserError, match=r"a dataset with the splits train, test: give it alone, .*train=.*/some/train"):
        find_files([str(tmp_path / "some"), str(tmp_path / "some")])


def test_a_saved_dataset_cannot_name_files_outside_of_its_folder(tmp_path):
    save(tmp_path / "one", all=["a"])
    save(tmp_path / "other", all=["secret"])
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../other/data-00000-of-00001.arrow"}]
    (tmp_path / "one" / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="which is outside of its folder"):
        hub_files(str(tmp_path / "one"), None)


@pytest.mark.parametrize("state", ["", "{}", "[]", '{"_data_files": [{}]}', '{"_data_files": 3}'])
def test_a_damaged_saved_dataset_is_an_error_of_one_line(tmp_path, state):
    save(tmp_path / "one", all=["a"])
    (tmp_path / "one" / "state.json").write_text(state)
    with pytest.raises(UserError) as error:
        hub_files(str(tmp_path / "one"), None)
    assert "\n" not in str(error.value)


def test_an_unknown_dataset_and_configuration_are_errors_of_one_line(tmp_path, hub_cache):
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "train.txt").write_text("a\n")
    for name, config in ((str(tmp_path / "nothing"), None), (str(folder), "large")):
        with pytest.raises(UserError, match=r"give files as corpus.path=FOLDER") as error:
            hub_files(name, config)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_a_hub_that_cannot_be_reached_is_an_error_of_one_line(monkeypatch):
    import datasets

    def unreachable(name, config):
        raise ConnectionError(f"Couldn't reach {name!r} on the Hub (LocalEntryNotFoundError)\nmore")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"corpus.hub=some/one cannot be reached .* give them as corpus.path") as error:
        hub_files("some/one", None)
    assert "\n" not in str(error.value)


def test_a_full_disk_is_not_taken_for_an_unknown_dataset(monkeypatch):
    import datasets

    def full(name, config):
        raise datasets.exceptions.DatasetGenerationError("failed") from OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "load_dataset", full)
    with pytest.raises(SmimError, match="the disk is full"):
        hub_files("some/one", None)
